"""What a period of nights has come to, from the ledger.

A run belongs to the period in which it ended, or in which it was found dead, so that each is told once, however long it
took. Each figure is had by itself: one that cannot be had is None, and the mail that tells the others still goes out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, and_, case, func, select

from overnight.histogram import quantile
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.rollups import spend, trouble
from overnight.ledger.tables import effect, histogram, item, once, run, slot
from overnight.outcome import STATES

T = TypeVar("T")

MOST_ERRORS = 8
CHART = 14  # days
WEEK = 7  # windows of 24 hours, whose median is what is usual
WINDOW = timedelta(hours=24)
TARGET = 0.95  # success rate below which reports and the digest name a job; alerts have `alerts.success_rate`

known_at = func.coalesce(run.c.noted_at, run.c.ended_at)  # when a run had ended, or was found dead

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Period:
    """`since` <= t < `until` (UTC)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class JobFigures:
    """One job: the slots that were worked on in the period, as they stand now.

    `success_rate` is ok / (ok + failed + retry + unknown), None when nothing was tried; `per_hour` counts items per
    hour of running; `p95_ms` is of items that ended ok or failed (± 1 %).
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
    """How many items of the period's slots stand at this code; `new`: no earlier edition told it of the job."""

    job: str
    code: str
    count: int
    new: bool = False


@dataclass(frozen=True, slots=True)
class Spending:
    """What the runs of a period have spent, in nano-USD.

    `wasted_nano` went into items that stand as failed; `naive_nano` is what the valid answers would have cost from the
    dearest model of their roles, without a cache; `cache_share` is the part of all input that was read from a cache.
    """

    cost_nano: int
    wasted_nano: int
    naive_nano: int
    cache_share: float | None


@dataclass(frozen=True, slots=True)
class Usual:
    """The last 24 hours, and the median of the seven windows of 24 hours before; None without any to compare with."""

    cost_nano: int
    success_rate: float | None
    median_cost_nano: int | None
    median_success_rate: float | None


@dataclass(frozen=True, slots=True)
class DayCost:
    """What a budget day has cost, by model, and the cap that was in force at its last call."""

    day: date
    models: Mapping[str, int]
    cap_nano: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """A period in numbers; None means that there is no such number, or, where `failed` names it, that it was not had.

    Money is nano-USD. `budget_nano` is the cap of the day on which the period ends, `day_cost_nano` what that day has
    spent of it (with what is charged for calls of unknown outcome); `running` are runs that the next period will tell.
    """

    since: datetime
    until: datetime
    runs: dict[str, int] | None
    running: int | None
    items: dict[str, int] | None
    success_rate: float | None
    tasks_per_hour: float | None
    backlog: int | None
    spending: Spending | None
    day_cost_nano: int | None
    budget_nano: int | None
    days: list[DayCost] | None
    usual: Usual | None
    p50_ms: int | None
    p95_ms: int | None
    jobs: list[JobFigures] | None
    errors: list[ErrorFigure] | None
    unknown_effects: int | None
    spooled: int | None
    failed: tuple[str, ...] = ()


async def figures(
    ledger: Ledger, since: datetime, until: datetime, zone: ZoneInfo, *, without: str = "", spooled: int | None = None
) -> Figures:
    """The figures of `since` <= t < `until`; `spooled` is the number of publications that wait for the store.

    `without` is the id of the run that asks, which is not among those that are still going on.
    """
    period, today = Period(since, until), until.astimezone(zone).date()
    failed: list[str] = []

    async def had(figure: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return await ledger.read(figure, *arguments)
        except Exception as error:  # noqa: BLE001  whatever is wrong with one figure, the others are wanted all the more
            log.warning("a figure cannot be had", figure=figure.__name__, reason=f"{type(error).__name__}: {error}")
            failed.append(figure.__name__.strip("_").replace("_", " "))
            return None

    jobs = await had(_jobs, period)
    buckets = await had(_durations, period)
    merged: Counter[int] = sum(map(Counter, (buckets or {}).values()), Counter())
    cap, spent = await had(_budget, f"day:{today}") or (None, None)
    items: dict[str, int] | None = (
        None if jobs is None else {state: sum(one.items[state] for one in jobs) for state in STATES}
    )
    found = Figures(
        since=since,
        until=until,
        runs=await had(_runs, period),
        running=await had(_running, without),
        items=items,
        success_rate=None if items is None else _rate(items),
        tasks_per_hour=await had(_per_hour, period),
        backlog=None if jobs is None else sum(one.backlog for one in jobs),
        spending=await had(_spending, period),
        day_cost_nano=spent,
        budget_nano=cap,
        days=await had(_days, today),
        usual=await had(_usual, until),
        p50_ms=quantile(merged, 0.5),
        p95_ms=quantile(merged, 0.95),
        jobs=jobs,
        errors=await had(_errors, period),
        unknown_effects=await had(_unknown),
        spooled=spooled,
    )
    return replace(found, failed=tuple(failed))


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
    """Real runs that ended in the period, or were found dead in it."""
    return and_(known_at >= period.since, known_at < period.until, slot.c.rehearsal.is_(False))


def _with_slot(query: Any, table: Any = run) -> Any:
    """Join the slot of the rows of `table`."""
    return query.join(slot, and_(slot.c.job == table.c.job, slot.c.slot == table.c.slot))


def _runs(connection: Connection, period: Period) -> dict[str, int]:
    query = _with_slot(select(run.c.status, func.count()).select_from(run)).where(_in(period))
    return {str(row[0]): int(row[1]) for row in connection.execute(query.group_by(run.c.status))}


def _running(connection: Connection, without: str) -> int:
    going = _with_slot(select(func.count()).select_from(run))
    query = going.where(run.c.status == "running", run.c.id != without, slot.c.rehearsal.is_(False))
    return int(connection.execute(query).scalar_one())


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
    buckets = _durations(connection, period)
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
    query = _with_slot(select(run.c["items"], run.c.started_at, run.c.ended_at).select_from(run)).where(_in(period))
    rows = connection.execute(query if job is None else query.where(run.c.job == job)).all()
    seconds = sum((row.ended_at - row.started_at).total_seconds() for row in rows)
    return 3600 * sum(row.items for row in rows) / seconds if seconds else None


def _durations(connection: Connection, period: Period) -> dict[str, dict[int, int]]:
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


def _spending(connection: Connection, period: Period) -> Spending:
    names = ("cost_nano", "wasted_nano", "naive_nano", "input_tokens", "cache_read_tokens", "cache_write_tokens")
    sums: list[Any] = [func.coalesce(func.sum(spend.c[name]), 0).label(name) for name in names]
    query = _with_slot(select(*sums).select_from(spend).join(run, run.c.id == spend.c.run_id)).where(_in(period))
    row = connection.execute(query).mappings().one()
    read = sum(int(row[name]) for name in names if name.endswith("_tokens"))
    share = int(row["cache_read_tokens"]) / read if read else None
    return Spending(int(row["cost_nano"]), int(row["wasted_nano"]), int(row["naive_nano"]), share)


def _days(connection: Connection, today: date) -> list[DayCost]:
    """The costs of the last days by model, days without any included."""
    first = today - timedelta(days=CHART - 1)
    wanted = [(first + timedelta(days=n)).isoformat() for n in range(CHART)]
    cost = func.sum(spend.c.cost_nano)
    query = _with_slot(select(spend.c.budget_day, spend.c.model, cost).select_from(spend), spend)
    mine = query.where(spend.c.budget_day.in_(wanted), slot.c.rehearsal.is_(False))
    models: dict[str, dict[str, int]] = defaultdict(dict)
    for day, model, nano in connection.execute(mine.group_by(spend.c.budget_day, spend.c.model)):
        models[day][model] = int(nano)
    scopes = [f"day:{day}" for day in wanted]
    caps = connection.execute(
        select(budget.c.scope, budget.c.cap_nano + budget.c.extra_nano).where(budget.c.scope.in_(scopes))
    )
    cap = {scope.removeprefix("day:"): int(nano) for scope, nano in caps}
    return [DayCost(date.fromisoformat(day), models[day], cap.get(day)) for day in wanted]


def _usual(connection: Connection, until: datetime) -> Usual:
    """Windows in which no run ended are no part of what is usual."""
    windows = [Period(until - (n + 1) * WINDOW, until - n * WINDOW) for n in range(WEEK + 1)]
    costs = [_cost(connection, window) for window in windows]
    rates = [_success(connection, window) for window in windows]
    known = [cost for cost in costs[1:] if cost is not None]
    tried = [rate for rate in rates[1:] if rate is not None]
    return Usual(costs[0] or 0, rates[0], round(median(known)) if known else None, median(tried) if tried else None)


def _cost(connection: Connection, window: Period) -> int | None:
    """What the runs of a window have cost; None when there was none."""
    query = _with_slot(select(func.sum(run.c.cost_nano)).select_from(run)).where(_in(window))
    cost = connection.execute(query).scalar_one()
    return None if cost is None else int(cost)


def _success(connection: Connection, window: Period) -> float | None:
    worked = _with_slot(select(run.c.job, run.c.slot).select_from(run)).where(_in(window)).distinct().subquery()
    query = select(*(func.coalesce(func.sum(slot.c[state]), 0).label(state) for state in STATES)).join(
        worked, and_(slot.c.job == worked.c.job, slot.c.slot == worked.c.slot)
    )
    return _rate({state: int(n) for state, n in connection.execute(query).mappings().one().items()})


def _budget(connection: Connection, counter: str) -> tuple[int, int] | None:
    """Cap in force and settled cost of a budget counter."""
    cap = (budget.c.cap_nano + budget.c.extra_nano).label("cap_nano")
    query = select(cap, budget.c.settled_nano).where(budget.c.scope == counter)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.cap_nano, row.settled_nano)


def _errors(connection: Connection, period: Period) -> list[ErrorFigure]:
    """The most frequent codes of the slots that were worked on, as these stand now."""
    t = trouble.c
    worked = _with_slot(select(run.c.job, run.c.slot).select_from(run)).where(_in(period)).distinct().subquery()
    code, n = case((t.error_code != "", t.error_code), else_=t.error_class), func.sum(t.n)
    of_slot = and_(t.job == worked.c.job, t.slot == worked.c.slot)
    query = (
        select(t.job, code.label("code"), n.label("n"))
        .join(worked, of_slot)
        .where(t.n > 0)
        .group_by(t.job, code)
        .order_by(n.desc(), t.job, code)
        .limit(MOST_ERRORS)
    )
    rows = connection.execute(query).all()
    return [ErrorFigure(r.job, r.code or "none", int(r.n), _is_new(connection, r.job, r.code, period)) for r in rows]


def _is_new(connection: Connection, job: str, code: str, period: Period) -> bool:
    """Whether no earlier edition can have told it: of no run that was known before had the job this code.

    Not whether it was seen before `since`: a run over the edge of two editions is told by the second alone.
    """
    t = trouble.c
    of_code = (t.error_code == code) | ((t.error_code == "") & (t.error_class == code))
    told = _with_slot(select(run.c.id).join(trouble, and_(t.job == run.c.job, t.slot == run.c.slot)))
    before = told.where(t.job == job, of_code, t.first_at <= known_at, known_at < period.since)
    return connection.execute(before.where(slot.c.rehearsal.is_(False)).limit(1)).first() is None


def _unknown(connection: Connection) -> int:
    """Effects of which nobody knows whether they happened, of whatever age: they wait for a person."""
    query = _with_slot(select(func.count()).select_from(effect), effect).where(
        effect.c.state == "unknown", slot.c.rehearsal.is_(False)
    )
    return int(connection.execute(query).scalar_one())
