"""What the page asks the ledger: named queries, each by an index and for no more rows than a page shows."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, RowMapping, Select, and_, func, or_, select, text

from overnight.alerts.rules import succeeded
from overnight.budget import day_counter
from overnight.ledger.controls import budget
from overnight.ledger.rollups import IN_TROUBLE, in_slot, spend, trouble
from overnight.ledger.tables import UNKNOWN, call, effect, entry, histogram, item, run, slot

PAGE = 100  # rows of a list
MOST = 10_000  # unknown effects that are counted
BEYOND = 4096  # characters that are read of a text beyond what is shown: a secret is known by the whole of it
CALLS = 50  # of one item that are shown
REAL = run.c.kind != "dry"
_NEWEST = (run.c.started_at.desc(), run.c.id.desc())
_LATER = run.alias()


def run_of(connection: Connection, run_id: str) -> RowMapping | None:
    """The run of this id."""
    return connection.execute(select(run).where(run.c.id == run_id)).mappings().one_or_none()


def runs_before(
    connection: Connection, job: str, status: str, before: str, limit: int = PAGE + 1
) -> Sequence[RowMapping]:
    """Runs, the newest first; with `before`, the id of a run, those that are older."""
    query = select(run).order_by(*_NEWEST).limit(limit)
    if job:
        query = query.where(run.c.job == job)
    if status:
        query = query.where(run.c.status == status)
    if before and (last := run_of(connection, before)) is not None:
        at = last["started_at"]
        query = query.where(or_(run.c.started_at < at, and_(run.c.started_at == at, run.c.id < before)))
    return connection.execute(query).mappings().all()


def latest_runs(connection: Connection, job: str, limit: int) -> Sequence[RowMapping]:
    """The newest runs of a job, rehearsals aside, the oldest of them first."""
    query = select(run).where(run.c.job == job, REAL).order_by(*_NEWEST).limit(limit)
    return connection.execute(query).mappings().all()[::-1]


def jobs_known(connection: Connection) -> list[str]:
    """Every job that the ledger has a slot of, also those that schedule.yaml has no longer."""
    return list(connection.execute(select(slot.c.job).distinct().order_by(slot.c.job)).scalars())


def pauses(connection: Connection) -> dict[str, str]:
    """Why each job that is paused is."""
    query = select(entry.c.job, entry.c.pause_reason).where(entry.c.paused_at.is_not(None)).order_by(entry.c.job)
    return {job: reason or "no reason given" for job, reason in connection.execute(query)}


def items_by_day(connection: Connection, since: datetime) -> dict[str, int]:
    """How many items the runs of each day have worked on."""
    query = select(run.c.day, func.sum(run.c["items"])).where(run.c.started_at >= since, REAL).group_by(run.c.day)
    return {day: int(n) for day, n in connection.execute(query)}


def rates_by_day(connection: Connection, jobs: Sequence[str], since: datetime) -> dict[str, float]:
    """The share of the items tried that are ok, of the slots of each day, as they stand now."""
    tried = func.sum(slot.c.ok + slot.c.failed + slot.c.retry + slot.c.unknown)
    query = (
        select(slot.c.day, func.sum(slot.c.ok), tried)
        .where(slot.c.job.in_(jobs), slot.c.scheduled_for >= since, slot.c.rehearsal.is_(False))
        .group_by(slot.c.day)
    )
    return {day: int(ok) / int(n) for day, ok, n in connection.execute(query) if n}


def durations_by_day(connection: Connection, since: datetime) -> dict[str, dict[int, int]]:
    """The durations of items, in buckets, of the runs of each day."""
    query = (
        select(run.c.day, histogram.c.bucket, func.sum(histogram.c.n))
        .join(run, run.c.id == histogram.c.run_id)
        .where(run.c.started_at >= since, REAL)
        .group_by(run.c.day, histogram.c.bucket)
    )
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for day, bucket, n in connection.execute(query):
        found[day][bucket] = int(n)
    return found


def per_hour(connection: Connection, since: datetime) -> float | None:
    """Items per hour of running, of the runs that ended since then; None when nothing ran."""
    ended = (run.c.started_at >= since, run.c.ended_at.is_not(None), REAL)
    rows = connection.execute(select(run.c["items"].label("n"), run.c.started_at, run.c.ended_at).where(*ended)).all()
    seconds = sum((row.ended_at - row.started_at).total_seconds() for row in rows)
    return 3600 * sum(row.n for row in rows) / seconds if seconds else None


def success(connection: Connection, jobs: Sequence[str], since: datetime) -> tuple[int, int]:
    """Items that are ok, and those that were tried, of all slots worked on since then."""
    found = succeeded(connection, since)
    mine = [found[job] for job in jobs if job in found]
    return sum(ok for ok, _ in mine), sum(tried for _, tried in mine)


def spent_on(connection: Connection, day: date) -> tuple[int, int]:
    """What a day has spent or reserved, and by how much its cap was raised by hand (nano-USD)."""
    used = (budget.c.settled_nano + budget.c.reserved_nano).label("used")
    row = connection.execute(
        select(used, budget.c.extra_nano).where(budget.c.scope == day_counter(day.isoformat()))
    ).one_or_none()
    return (0, 0) if row is None else (int(row.used), int(row.extra_nano))


def caps(connection: Connection, days: Sequence[date]) -> dict[str, int]:
    """The cap that was in force on each day on which anything was reserved."""
    scopes = {day_counter(day.isoformat()): day.isoformat() for day in days}
    cap = budget.c.cap_nano + budget.c.extra_nano
    query = select(budget.c.scope, cap).where(budget.c.scope.in_(scopes))
    return {scopes[scope]: int(nano) for scope, nano in connection.execute(query)}


def costs(connection: Connection, days: Sequence[date]) -> dict[str, dict[str, int]]:
    """What each of these days has cost, by job."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(_spending(days, spend.c.budget_day, spend.c.job)):
        found[row.budget_day][row.job] = int(row.cost_nano)
    return found


def costs_by_model(connection: Connection, days: Sequence[date]) -> Sequence[RowMapping]:
    """What these days have cost, by model and role, the dearest first."""
    return connection.execute(_spending(days, spend.c.model, spend.c.role)).mappings().all()


def costs_of_slot(connection: Connection, job: str, name: str) -> Sequence[RowMapping]:
    """What a slot has cost, by model and role, the dearest first."""
    mine = (spend.c.job == job, spend.c.slot == name)
    return connection.execute(_sums(spend.c.model, spend.c.role).where(*mine)).mappings().all()


def _sums(*by: Any) -> Select[Any]:
    names = ("calls", "input_tokens", "output_tokens", "cache_read_tokens", "cost_nano", "wasted_nano")
    sums: list[Any] = [func.sum(spend.c[name]).label(name) for name in names]
    return select(*by, *sums).group_by(*by).order_by(func.sum(spend.c.cost_nano).desc(), *by)


def _spending(days: Sequence[date], *by: Any) -> Select[Any]:
    real = and_(slot.c.job == spend.c.job, slot.c.slot == spend.c.slot, slot.c.rehearsal.is_(False))
    return _sums(*by).join(slot, real).where(spend.c.budget_day.in_([day.isoformat() for day in days]))


@dataclass(frozen=True, slots=True)
class Troubled:
    """A slot that stands with items in trouble, and its newest run."""

    run_id: str
    job: str
    slot: str
    status: str
    reason: str | None
    failed: int
    retry: int
    unknown: int


def troubled(connection: Connection, since: datetime, limit: int = 10) -> list[Troubled]:
    """Slots whose newest run since then has ended badly or left items in trouble, the newest first.

    A run for some of the items, such as a sweep of deferred ones, says nothing of what another one has left.
    """
    bad = or_(slot.c.failed > 0, slot.c.unknown > 0, run.c.status.in_(("failed", "stopped", "interrupted")))
    same = and_(slot.c.job == run.c.job, slot.c.slot == run.c.slot, slot.c.rehearsal.is_(False))
    later = or_(
        _LATER.c.started_at > run.c.started_at, and_(_LATER.c.started_at == run.c.started_at, _LATER.c.id > run.c.id)
    )
    gone_on = select(_LATER.c.id).where(_LATER.c.job == run.c.job, _LATER.c.slot == run.c.slot, later, _whole(_LATER))
    query = (
        select(run.c.id, run.c.job, run.c.slot, run.c.status, run.c.reason, slot.c.failed, slot.c.retry, slot.c.unknown)
        .add_columns(_whole(run).label("whole"))
        .join(slot, same)
        .where(run.c.started_at >= since, bad, ~gone_on.exists())
        .order_by(*_NEWEST)
        .limit(limit * 4)
    )
    found: dict[tuple[str, str], Any] = {}
    for row in connection.execute(query):
        if row.whole or (row.job, row.slot) not in found:
            found[row.job, row.slot] = row
    return [Troubled(*row[:-1]) for row in found.values()][:limit]


def _whole(of: FromClause) -> ColumnElement[bool]:
    """Whether a run took up all that was left."""
    return and_(of.c.kind != "sweep", of.c.partial.is_(False))


def unknown_effects(connection: Connection, limit: int = 10) -> Sequence[RowMapping]:
    """Slots with effects of which nobody knows whether they happened: `job`, `slot`, `n`, a run and one of the keys."""
    # by itself, or SQLite would read all effects in the order of the groups
    lost = select(effect.c.job, effect.c.slot, effect.c.key, effect.c.run_id).where(UNKNOWN).limit(MOST).subquery()
    same = and_(slot.c.job == lost.c.job, slot.c.slot == lost.c.slot, slot.c.rehearsal.is_(False))
    query = (
        select(lost.c.job, lost.c.slot, func.count().label("n"))
        .add_columns(func.max(lost.c.run_id).label("run_id"), func.min(lost.c.key).label("key"))
        .join(slot, same)
        .group_by(lost.c.job, lost.c.slot)
        .order_by(lost.c.slot.desc())
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def failures(connection: Connection, job: str, name: str) -> Sequence[RowMapping]:
    """The items in trouble of a slot, by class and code, the most frequent first."""
    mine = (trouble.c.job == job, trouble.c.slot == name, trouble.c.n > 0)
    query = select(trouble).where(*mine).order_by(trouble.c.n.desc(), trouble.c.error_code).limit(PAGE)
    return connection.execute(query).mappings().all()


_SHOWN = [
    item.c[name]
    for name in ("key", "seq", "state", "reason", "error_class", "error_code", "attempts", "duration_ms", "cost_nano")
] + [func.substr(item.c[name], 1, BEYOND).label(name) for name in ("error", "result")]


def troubled_items(
    connection: Connection, job: str, name: str, after: str, code: str | None = None
) -> Sequence[RowMapping]:
    """Items in trouble of a slot, by key, those behind `after`; with `code` of this one alone.

    One row more than a page tells that there are others.
    """
    # SQLite would read all items by the primary key instead, a million that are fine among them
    by = "INDEXED BY item_in_trouble" if connection.dialect.name == "sqlite" else ""
    only = "" if code is None else "AND coalesce(error_code, '') = :code"
    keys = text(
        f"SELECT key FROM item {by} WHERE job = :job AND slot = :slot AND {IN_TROUBLE} {only} "  # noqa: S608  constants
        "AND key > :after ORDER BY key LIMIT :most"
    )
    values = {"job": job, "slot": name, "after": after, "most": PAGE + 1} | ({} if code is None else {"code": code})
    found = list(connection.execute(keys, values).scalars())
    query = select(*_SHOWN).where(*in_slot(job, name), item.c.key.in_(found)).order_by(item.c.key)
    return connection.execute(query).mappings().all()


def planned_items(connection: Connection, job: str, name: str, after: int) -> Sequence[RowMapping]:
    """Items of a slot in the order of the plan, those behind the place `after`."""
    query = select(*_SHOWN).where(*in_slot(job, name), item.c.seq > after).order_by(item.c.seq)
    return connection.execute(query.limit(PAGE + 1)).mappings().all()


def calls_with_text(connection: Connection, job: str, name: str, key: str, most: int) -> Sequence[RowMapping]:
    """The model calls of one item, oldest first; of each answer `most` characters, and some beyond."""
    columns = [column for column in call.c if column.name != "response"]
    text = func.substr(call.c.response, 1, most + BEYOND).label("response")
    mine = (call.c.job == job, call.c.slot == name, call.c.key == key)
    query = select(*columns, text).where(*mine).order_by(call.c.started_at, call.c.id).limit(CALLS)
    return connection.execute(query).mappings().all()


def effects_of_item(connection: Connection, job: str, name: str, key: str) -> Sequence[RowMapping]:
    """The side effects of one item, oldest first."""
    mine = (effect.c.job == job, effect.c.slot == name, effect.c.key == key)
    return connection.execute(select(effect).where(*mine).order_by(effect.c.intent_at).limit(PAGE)).mappings().all()


def mail_of(connection: Connection, job: str, name: str, key: str, ref: str) -> RowMapping | None:
    """The mail of an item with this Message-ID."""
    mine = (effect.c.job == job, effect.c.slot == name, effect.c.key == key, effect.c.kind == "mail")
    return connection.execute(select(effect).where(*mine, effect.c.ref == ref).limit(1)).mappings().one_or_none()


def progress_of(counts: RowMapping) -> int:
    """How many items of a slot have ended, deferred ones among them."""
    return sum(int(counts[state]) for state in ("ok", "failed", "skipped", "unknown", "retry"))


def days_to(today: date, count: int) -> list[date]:
    """The last days, the oldest first."""
    return [today - timedelta(days=back) for back in range(count - 1, -1, -1)]
