"""What a period of nights has come to, from the ledger.

Each figure is had by itself: one that cannot be had is None, and the mail that tells the others still goes out.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, and_, case, func, select

from overnight.histogram import quantile
from overnight.ledger import Ledger
from overnight.ledger.tables import budget, call, effect, histogram, item, once, run, slot
from overnight.outcome import STATES

T = TypeVar("T")

MOST_ERRORS = 8

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Period:
    """`since` <= t < `until` (UTC); `without` is the id of a run that is not looked at: the one that asks."""

    since: datetime
    until: datetime
    without: str = ""


@dataclass(frozen=True, slots=True)
class JobFigures:
    """One job: the slots that were worked on in the period, as they stand now.

    `success_rate` is ok / (ok + failed + retry + unknown), None when nothing was tried; `per_hour` counts items of
    finished runs per hour of their running; `p95_ms` is of items that ended ok or failed (± 1 %).
    """

    job: str
    runs: int
    items: Mapping[str, int]
    success_rate: float | None
    per_hour: float | None
    backlog: int
    p95_ms: int | None


@dataclass(frozen=True, slots=True)
class ErrorFigure:
    """How often a code ended an item in the period that is still not ok."""

    job: str
    code: str
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A period in numbers; None means that the number could not be had.

    Money is nano-USD. `budget_nano` is the cap of the day on which the period ends, `day_cost_nano` what that day has
    spent of it (with what is charged for calls of unknown outcome); `cost_nano` is of the whole period.
    """

    since: datetime
    until: datetime
    runs: dict[str, int] | None
    items: dict[str, int] | None
    success_rate: float | None
    tasks_per_hour: float | None
    backlog: int | None
    cost_nano: int | None
    wasted_nano: int | None
    day_cost_nano: int | None
    budget_nano: int | None
    p50_ms: int | None
    p95_ms: int | None
    jobs: list[JobFigures] | None
    errors: list[ErrorFigure] | None
    unknown_effects: int | None
    spooled: int | None


async def figures(
    ledger: Ledger, since: datetime, until: datetime, zone: ZoneInfo, *, without: str = "", spooled: int | None = None
) -> Figures:
    """The figures of `since` <= t < `until`; `spooled` is the number of publications that wait for the store."""
    period, today = Period(since, until, without), until.astimezone(zone).date().isoformat()

    async def had(figure: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return await ledger.read(figure, *arguments)
        except Exception as error:  # noqa: BLE001  whatever is wrong with one figure, the others are wanted all the more
            log.warning("a figure cannot be had", figure=figure.__name__, reason=f"{type(error).__name__}: {error}")
            return None

    runs = await had(_runs, period)
    jobs = await had(_jobs, period)
    buckets = await had(_buckets, period)
    merged: Counter[int] = sum(map(Counter, (buckets or {}).values()), Counter())
    cost, wasted = await had(_cost, period) or (None, None)
    cap, spent = await had(_budget, f"day:{today}") or (None, None)
    items: dict[str, int] | None = (
        None if jobs is None else {state: sum(one.items[state] for one in jobs) for state in STATES}
    )
    return Figures(
        since=since,
        until=until,
        runs=runs,
        items=items,
        success_rate=None if items is None else _rate(items),
        tasks_per_hour=await had(_per_hour, period),
        backlog=None if jobs is None else sum(one.backlog for one in jobs),
        cost_nano=cost,
        wasted_nano=wasted,
        day_cost_nano=spent,
        budget_nano=cap,
        p50_ms=quantile(merged, 0.5),
        p95_ms=quantile(merged, 0.95),
        jobs=jobs,
        errors=await had(_errors, period),
        unknown_effects=await had(_unknown),
        spooled=spooled,
    )


def last_edition(connection: Connection, job: str, before: datetime, name: str) -> str | None:
    """The `once` value `name` (JSON) of the job's newest slot due before `before` that reached anybody."""
    same = and_(item.c.job == slot.c.job, item.c.slot == slot.c.slot, item.c.state == "ok")
    query = (
        select(once.c.value)
        .join(slot, and_(slot.c.job == once.c.job, slot.c.slot == once.c.slot))
        .where(once.c.job == job, once.c.name == name, slot.c.scheduled_for < before, slot.c.rehearsal.is_(False))
        .where(select(item.c.key).where(same).exists())
        .order_by(slot.c.scheduled_for.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def _rate(items: Mapping[Any, int]) -> float | None:
    tried = items["ok"] + items["failed"] + items["retry"] + items["unknown"]
    return items["ok"] / tried if tried else None


def _in(period: Period) -> Any:
    """Real runs that started in the period."""
    return and_(
        run.c.started_at >= period.since,
        run.c.started_at < period.until,
        run.c.id != period.without,
        slot.c.rehearsal.is_(False),
    )


def _with_slot(query: Any, table: Any = run) -> Any:
    """Join the slot of the rows of `table`."""
    return query.join(slot, and_(slot.c.job == table.c.job, slot.c.slot == table.c.slot))


def _runs(connection: Connection, period: Period) -> dict[str, int]:
    query = _with_slot(select(run.c.status, func.count()).select_from(run)).where(_in(period))
    return {str(row[0]): int(row[1]) for row in connection.execute(query.group_by(run.c.status))}


def _jobs(connection: Connection, period: Period) -> list[JobFigures]:
    touched = _with_slot(select(run.c.job, run.c.slot, func.count().label("runs")).select_from(run)).where(_in(period))
    per_slot = touched.group_by(run.c.job, run.c.slot).subquery()
    counts: list[Any] = [func.sum(slot.c[state]).label(state) for state in STATES]
    query = (
        select(slot.c.job, func.sum(per_slot.c.runs).label("runs"), *counts)
        .join(per_slot, and_(slot.c.job == per_slot.c.job, slot.c.slot == per_slot.c.slot))
        .group_by(slot.c.job)
        .order_by(slot.c.job)
    )
    buckets = _buckets(connection, period)
    return [_job(connection, row, period, buckets) for row in connection.execute(query).mappings()]


def _job(connection: Connection, row: Any, period: Period, buckets: Mapping[str, Mapping[int, int]]) -> JobFigures:
    items: dict[str, int] = {state: int(row[state]) for state in STATES}
    return JobFigures(
        job=row["job"],
        runs=int(row["runs"]),
        items=items,
        success_rate=_rate(items),
        per_hour=_per_hour(connection, period, row["job"]),
        backlog=items["pending"] + items["retry"],
        p95_ms=quantile(buckets.get(row["job"], {}), 0.95),
    )


def _per_hour(connection: Connection, period: Period, job: str | None = None) -> float | None:
    query = _with_slot(select(run.c["items"], run.c.started_at, run.c.ended_at).select_from(run)).where(
        _in(period), run.c.ended_at.is_not(None)
    )
    rows = connection.execute(query if job is None else query.where(run.c.job == job)).all()
    seconds = sum((row.ended_at - row.started_at).total_seconds() for row in rows)
    return 3600 * sum(row.items for row in rows) / seconds if seconds else None


def _buckets(connection: Connection, period: Period) -> dict[str, dict[int, int]]:
    """Durations by job."""
    query = _with_slot(
        select(run.c.job, histogram.c.bucket, func.sum(histogram.c.n))
        .select_from(histogram)
        .join(run, run.c.id == histogram.c.run_id)
    ).where(_in(period))
    found: dict[str, dict[int, int]] = {}
    for job, bucket, n in connection.execute(query.group_by(run.c.job, histogram.c.bucket)):
        found.setdefault(job, {})[bucket] = int(n)
    return found


def _cost(connection: Connection, period: Period) -> tuple[int, int]:
    """What the calls of the period have cost, and how much of it went into items that have failed."""
    wasted = case((item.c.state == "failed", call.c.cost_nano), else_=0)
    query = (
        select(func.coalesce(func.sum(call.c.cost_nano), 0), func.coalesce(func.sum(wasted), 0))
        .select_from(call)
        .outerjoin(slot, and_(slot.c.job == call.c.job, slot.c.slot == call.c.slot))
        .outerjoin(item, and_(item.c.job == call.c.job, item.c.slot == call.c.slot, item.c.key == call.c.key))
        .where(
            call.c.started_at >= period.since,
            call.c.started_at < period.until,
            func.coalesce(slot.c.rehearsal, False).is_(False),
        )
    )
    cost, waste = connection.execute(query).one()
    return int(cost), int(waste)


def _budget(connection: Connection, counter: str) -> tuple[int, int] | None:
    """Cap in force and settled cost of a budget counter."""
    cap = (budget.c.cap_nano + budget.c.extra_nano).label("cap_nano")
    query = select(cap, budget.c.settled_nano).where(budget.c.scope == counter)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.cap_nano, row.settled_nano)


def _errors(connection: Connection, period: Period) -> list[ErrorFigure]:
    code = func.coalesce(item.c.error_code, item.c.state)
    n = func.count().label("n")
    query = (
        _with_slot(select(item.c.job, code, n).select_from(item), item)
        .where(
            item.c.ended_at >= period.since,
            item.c.ended_at < period.until,
            item.c.state.in_(("failed", "retry", "unknown")),
            slot.c.rehearsal.is_(False),
        )
        .group_by(item.c.job, code)
        .order_by(n.desc(), item.c.job, code)
        .limit(MOST_ERRORS)
    )
    return [ErrorFigure(job, str(what), count) for job, what, count in connection.execute(query)]


def _unknown(connection: Connection) -> int:
    """Effects of which nobody knows whether they happened, of whatever age: they wait for a person."""
    query = _with_slot(select(func.count()).select_from(effect), effect).where(
        effect.c.state == "unknown", slot.c.rehearsal.is_(False)
    )
    return int(connection.execute(query).scalar_one())
