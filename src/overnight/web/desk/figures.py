"""The five numbers and the rows of jobs; each figure is had by itself, and one that cannot be had is None."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, RowMapping

from overnight import logs
from overnight.closing import has_died
from overnight.histogram import quantile
from overnight.ledger.runs import find_slot
from overnight.outcome import STATES
from overnight.plurals import counted
from overnight.runner import Workplace
from overnight.web.desk import queries
from overnight.web.desk.drawing import Spark, Tick, spark, ticks
from overnight.web.desk.pages import count, money, share, took

T = TypeVar("T")

PATIENCE = 2.0  # seconds for one figure
DAYS = 14
TICKS = 30
DAY = timedelta(days=1)


async def had(work: Workplace, figure: Callable[..., T], *arguments: Any) -> T | None:
    """A figure from the ledger, None when it cannot be had: the others are wanted all the more."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await work.ledger.read(figure, *arguments)
    except Exception as error:  # noqa: BLE001  whatever is wrong with one figure
        logs.get().warning("a figure of the desk cannot be had", figure=figure.__name__, error=str(error))
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """One of the five: in words, with its last fortnight and what that says. `level` is the part of a cap."""

    name: str
    text: str
    note: str
    spark: Spark
    told: str
    good: bool = True
    level: float | None = None


async def numbers(work: Workplace) -> list[Number]:
    """Throughput, success, p95, cost, budget."""
    now, plan = work.clock.now(), work.schedule
    today = now.astimezone(plan.timezone).date()
    days, since, jobs = queries.days_to(today, DAYS), now - DAYS * DAY, list(plan.jobs)
    worked = await had(work, queries.items_by_day, since)
    rates = await had(work, queries.rates_by_day, jobs, since)
    buckets = await had(work, queries.durations_by_day, since)
    costs = await had(work, queries.costs, days)
    hourly = await had(work, queries.per_hour, now - DAY)
    ok, tried = await had(work, queries.success, jobs, now - DAY) or (None, None)
    recent = await had(work, queries.durations_by_day, now - DAY)
    used, raised = await had(work, queries.spent_on, today) or (None, 0)
    slow = None if recent is None else quantile(sum(map(Counter, recent.values()), Counter()), 0.95)
    names = [day.isoformat() for day in days]
    spent = None if costs is None else {day: sum(row.values()) for day, row in costs.items()}
    target, rate = plan.alerts.success_rate.below, None if not tried or ok is None else ok / tried
    slowest = plan.alerts.p95_duration.above
    return [
        _number("Tasks an hour", count(hourly), "while running, last 24 h", names, worked, count, "items a day"),
        _number(
            "Success", share(rate), f"last 24 h, the target is {target:.0%}", names, rates, share, "by day",
            good=rate is None or rate >= target,
        ),
        _number(
            "p95 duration", took(slow), "19 of 20 items took no longer", names,
            None if buckets is None else {day: quantile(one, 0.95) for day, one in buckets.items()}, took, "by day",
            good=slow is None or timedelta(milliseconds=slow) <= slowest,
        ),
        _number("Cost today", money(used), "spent or reserved", names, spent, money, "by day"),
        _budget(used, plan.budget.per_day + raised),
    ]  # fmt: skip


def _number(
    name: str,
    text: str,
    note: str,
    days: Sequence[str],
    by_day: Mapping[str, float | None] | None,
    words: Callable[[Any], str],
    what: str,
    *,
    good: bool = True,
) -> Number:
    if by_day is None:
        return Number(name, text, note, spark([]), f"{name} {what}: n/a", good)
    values = [by_day.get(day) for day in days]
    known = [value for value in values if value is not None]
    range_ = f"from {words(min(known))} to {words(max(known))}" if known else "nothing yet"
    return Number(name, text, note, spark(values), f"{name} {what}, last {len(days)} days: {range_}", good)


def _budget(used: int | None, cap: int) -> Number:
    level = None if used is None else min(1.0, used / cap) if cap else 1.0
    left = "n/a" if used is None else f"{money(used)} of {money(cap)}"
    told = f"Budget of today: {share(level)} used"
    return Number("Budget today", share(level), left, spark([]), told, level is None or level < 1, level)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job: its last thirty runs, what the newest has come to, and when it is due next."""

    name: str
    when: str
    paused: str | None
    enabled: bool
    ticks: Sequence[Tick]
    told: str
    last: RowMapping | None
    status: str
    ok: int | None
    of: int | None
    next_at: datetime | None


async def job_rows(work: Workplace) -> list[JobRow]:
    """The jobs of schedule.yaml, in its order."""
    paused = await had(work, queries.pauses) or {}
    return [await _job(work, name, paused.get(name)) for name in work.schedule.jobs]


async def _job(work: Workplace, name: str, paused: str | None) -> JobRow:
    settings, now = work.schedule.jobs[name], work.clock.now()
    trigger = settings.trigger()
    runs = await had(work, runs_of, work, name, now)
    ok, of = _share(runs[-1].slot) if runs else (None, None)
    drawn, told = drawing_of(runs, now, settings.zone)
    coming = trigger.next(now) if settings.enabled and paused is None else None
    return JobRow(
        name=name,
        when=trigger.describe(),
        paused=paused,
        enabled=settings.enabled,
        ticks=drawn,
        told=told,
        last=runs[-1].row if runs else None,
        status=runs[-1].status if runs else "",
        ok=ok,
        of=of,
        next_at=coming,
    )


class RunOf(NamedTuple):
    """A run, its status as people should see it, and of the newest one the slot."""

    row: RowMapping
    status: str
    slot: RowMapping | None


def runs_of(connection: Connection, work: Workplace, name: str, now: datetime) -> list[RunOf]:
    """The last thirty runs of a job, the oldest of them first."""
    rows = queries.latest_runs(connection, name, TICKS)
    slots = [None] * (len(rows) - 1) + [find_slot(connection, name, row["slot"]) for row in rows[-1:]]
    return [RunOf(row, status_of(connection, work, row, now), of) for row, of in zip(rows, slots, strict=True)]


def drawing_of(runs: Sequence[RunOf] | None, now: datetime, zone: tzinfo) -> tuple[list[Tick], str]:
    """The runs as a picture, and what it says."""
    if not runs:
        return [], "n/a" if runs is None else "No runs yet"
    told = ", ".join(f"{n} {status}" for status, n in Counter(one.status for one in runs).most_common())
    return ticks([_tick(one, now, zone) for one in runs], TICKS), f"Last {counted(len(runs), 'run')}: {told}"


def status_of(connection: Connection, work: Workplace, row: RowMapping, now: datetime) -> str:
    """The run's status as people should see it: `died` for one whose process is gone."""
    return "died" if has_died(connection, work.root, row, now) else str(row["status"])


def _share(of: RowMapping | None) -> tuple[int | None, int | None]:
    return (None, None) if of is None else (of["ok"], sum(of[state] for state in STATES))


def _tick(of: RunOf, now: datetime, zone: tzinfo) -> tuple[str, float, str, str]:
    row = of.row
    seconds = ((row["ended_at"] or now) - row["started_at"]).total_seconds()
    started = row["started_at"].astimezone(zone)
    title = f"{started:%a %d %b %H:%M}: {of.status}, {row['ok']} ok, {took(seconds * 1000)}"
    return of.status, seconds, title, row["id"]
