"""What is looked at for `/api/health`: is somebody needed, and why.

What waits or heals by itself (a spent budget, an open breaker, a relay that is down) is a degradation: whoever restarts
what is unhealthy would restart us for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from sqlalchemy import Connection, func, select, update

from overnight.alerts import Alarm
from overnight.alerts.book import firing, undelivered
from overnight.alerts.rules import compact_of, late, p95_ms, succeeded
from overnight.budget import day_counter, dollars
from overnight.clock import iso
from overnight.health.disk import Disks, finding, places
from overnight.health.reach import Reach, mail_of, model_of, store_of
from overnight.health.report import VITAL, Check, Finding, Report, Shared, examined
from overnight.health.variables import NO_KEY, has_key, missing_variables, weak_secret, weak_token
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.flow import Held, held
from overnight.ledger.runs import held_leases
from overnight.ledger.tables import meta, run
from overnight.runner import Workplace
from overnight.schedule import Schedule

HEARTBEAT = timedelta(minutes=3)  # three rounds of the dispatcher
RECENT = timedelta(hours=1)  # a run that fell silent earlier has an alert of its own by now


class Heart(Protocol):
    """Who looks for due jobs; `draining` begins nothing new."""

    @property
    def looked_at(self) -> datetime | None: ...
    @property
    def draining(self) -> bool: ...


@dataclass(slots=True)
class Examiner:
    """Makes the checks of one process; `problem` is what is wrong with schedule.yaml as it is now."""

    current: Callable[[], Workplace]
    heart: Heart
    problem: Callable[[], str | None]
    reach: Reach
    disks: Disks = field(default_factory=Disks)
    _whole: Shared = field(init=False)
    _fit: Shared = field(init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        """What many may ask at once is found out once."""
        self._since = self.current().clock.monotonic()
        self._whole = Shared(self._examine, self.current().clock)
        self._fit = Shared(self._examine_fitness, self.current().clock)

    async def report(self, max_age: float = 0.0) -> Report:
        """All checks; what was found within the last `max_age` seconds will do. Takes two seconds at most."""
        return await self._whole.report(max_age)

    async def alive(self, _max_age: float = 0.0) -> Report:
        """Whether the loop turns and the scheduler looks; what else is wrong is no reason to restart us."""
        return Report(self.current().clock.now(), await examined({"scheduler": self._heartbeat}, VITAL))

    async def ready(self, max_age: float = 0.0) -> Report:
        """Whether what is due now would be run; `max_age` as for a report."""
        return await self._fit.report(max_age)

    async def _examine(self) -> Report:
        left_alone: list[Held] = []
        found = await examined(self._checks(left_alone), VITAL)
        named = [{"name": one.name, "state": one.state, "until": iso(one.until)} for one in left_alone]
        return Report(self.current().clock.now(), found, named)

    async def _examine_fitness(self) -> Report:
        checks = {"ledger": self._writable, "schedule": self._valid, "draining": self._taking}
        return Report(self.current().clock.now(), await examined(checks, checks))

    def _checks(self, left_alone: list[Held]) -> dict[str, Check]:
        work = self.current()
        plan, ledger, now = work.schedule, work.ledger, work.clock.now()
        return {
            "scheduler": self._heartbeat,
            "schedule": self._schedule,
            "ledger": self._writable,
            "disk": partial(_disk, work, self.disks),
            "alerts": partial(_alerts, ledger),
            "channels": partial(_channels, ledger),
            "dependencies": partial(_others, ledger, now, left_alone),
            "runs": partial(_runs, ledger, now),
            "jobs": partial(_jobs, ledger, plan, now),
            "success_rate": partial(_success_rate, ledger, plan, now),
            "p95_duration": partial(_p95, ledger, plan, now),
            "budget": partial(_budget, ledger, plan, now),
            "mail": partial(self.reach.of, mail_of(plan)),
            "reports": partial(self.reach.of, store_of(plan)),
            "model": partial(_model, self.reach, plan),
            "environment": partial(_environment, plan),
        }

    async def _heartbeat(self) -> Finding:
        last, clock = self.heart.looked_at, self.current().clock
        age = clock.monotonic() - self._since if last is None else (clock.now() - last).total_seconds()
        good = age < HEARTBEAT.total_seconds()
        said = f"has not got through a first round for {age:.0f} s" if last is None else f"looked {age:.0f} s ago"
        return Finding("healthy" if good else "unhealthy", said, age, "s")

    async def _schedule(self) -> Finding:
        problem = self.problem()
        return Finding("degraded", problem) if problem else Finding("healthy", "in force")

    async def _valid(self) -> Finding:
        return Finding("unhealthy", "schedule.yaml is broken") if self.problem() else Finding("healthy", "in force")

    async def _taking(self) -> Finding:
        return Finding("unhealthy", "going to end") if self.heart.draining else Finding("healthy", "no")

    async def _writable(self) -> Finding:
        await self.current().ledger.write(
            lambda connection: connection.execute(update(meta).where(meta.c.name == "-").values(value=""))
        )
        return Finding("healthy", "can be written")


async def _disk(work: Workplace, disks: Disks) -> Finding:
    file = work.ledger.faults.file if work.ledger.engine.dialect.name == "sqlite" else None
    return finding(await disks.rooms(places(work.root, work.schedule, file)))


async def _alerts(ledger: Ledger) -> Finding:
    rows = await ledger.read(firing)
    named = ", ".join(row["key"] for row in rows) or "none"
    return Finding("degraded" if rows else "healthy", named, len(rows), "alerts")


async def _channels(ledger: Ledger) -> Finding:
    rows = await ledger.read(undelivered)
    waiting = sum(row["waiting"] for row in rows)
    told = ", ".join(f"{row['channel']}: {row['error']}" for row in rows) or "nothing waits"
    return Finding("degraded" if rows else "healthy", told, waiting, "messages")


async def _others(ledger: Ledger, now: datetime, left_alone: list[Held]) -> Finding:
    left_alone.extend(await ledger.read(held, now))
    down = [one for one in left_alone if one.down]
    told = ", ".join(map(str, left_alone)) or "none is left alone"
    return Finding("degraded" if down else "healthy", told, len(down), "open")


async def _runs(ledger: Ledger, now: datetime) -> Finding:
    rows = await ledger.read(held_leases)
    silent = [f"{row['job']} {row['slot']}" for row in rows if now - RECENT < row["until"] <= now]
    if silent:
        return Finding("degraded", f"died or blocked: {', '.join(silent)}")
    return Finding("healthy", f"{len(rows)} going on", len(rows), "runs")


async def _jobs(ledger: Ledger, plan: Schedule, now: datetime) -> Finding:
    """When each job has run last, against when it should have."""
    overdue = [alarm for alarm in await ledger.read(_late, plan, now) if alarm.firing]
    if overdue:
        return Finding("degraded", "; ".join(alarm.message for alarm in overdue))
    last = await ledger.read(_last_runs)
    named = [f"{job} {compact_of(now - last[job])} ago" for job in plan.jobs if job in last]
    return Finding("healthy", ", ".join(named) or "none has run yet")


def _late(connection: Connection, plan: Schedule, now: datetime) -> list[Alarm]:
    return list(late(connection, plan, now))


def _last_runs(connection: Connection) -> dict[str, datetime]:
    query = select(run.c.job, func.max(run.c.started_at)).where(run.c.kind != "dry").group_by(run.c.job)
    return {job: at for job, at in connection.execute(query) if at is not None}


async def _success_rate(ledger: Ledger, plan: Schedule, now: datetime) -> Finding:
    """The worst job's rate within the window; few items say nothing."""
    rule = plan.alerts.success_rate
    found = await ledger.read(succeeded, now - rule.window)
    enough = {job: found[job] for job in plan.jobs if job in found and found[job][1] >= max(rule.min_items, 1)}
    rates = {job: ok / worked for job, (ok, worked) in enough.items()}
    worst = min(rates.values(), default=None)
    told = ", ".join(f"{job} {rate:.1%}" for job, rate in rates.items()) or "too few items"
    low = worst is not None and worst < rule.below
    return Finding("degraded" if low else "healthy", told, worst, "ratio")


async def _p95(ledger: Ledger, plan: Schedule, now: datetime) -> Finding:
    rule = plan.alerts.p95_duration
    found = await ledger.read(p95_ms, now - rule.window, rule.min_items)
    slow = {job: timedelta(milliseconds=found[job]) for job in plan.jobs if job in found}
    worst = max(slow.values(), default=None)
    told = ", ".join(f"{job} {compact_of(took)}" for job, took in slow.items()) or "too few items"
    bad = worst is not None and worst > rule.above
    return Finding("degraded" if bad else "healthy", told, worst.total_seconds() if worst else None, "s")


async def _budget(ledger: Ledger, plan: Schedule, now: datetime) -> Finding:
    day = now.astimezone(plan.timezone).date().isoformat()
    raised, used = await ledger.read(_used, day_counter(day))
    cap = plan.budget.per_day + raised
    told = f"{dollars(used)} of {dollars(cap)}"
    return Finding("degraded" if used >= cap else "healthy", told, used / cap if cap else 1.0, "ratio")


def _used(connection: Connection, counter: str) -> tuple[int, int]:
    used = (budget.c.settled_nano + budget.c.reserved_nano).label("used")
    row = connection.execute(select(budget.c.extra_nano, used).where(budget.c.scope == counter)).one_or_none()
    return (0, 0) if row is None else (row.extra_nano, row.used)


async def _model(reach: Reach, plan: Schedule) -> Finding:
    """Without a key nothing is amiss before a run says so: it is not asked."""
    return await reach.of(model_of(plan)) if has_key(plan) or not plan.roles else Finding("healthy", NO_KEY)


async def _environment(plan: Schedule) -> Finding:
    weak = filter(None, [weak_token(plan.environ), weak_secret(plan.environ)])
    amiss = [*(f"{name} is not set" for name in missing_variables(plan)), *weak]
    return Finding("degraded" if amiss else "healthy", ", ".join(amiss) or "complete", len(amiss), "amiss")
