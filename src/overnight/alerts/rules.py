"""What the ledger says is wrong, by the rules under `alerts:` in schedule.yaml.

Each rule is a function of a connection that says of everything it looks at whether it is wrong, and nothing of what it
cannot judge: there the alert stays as it is. Those of a job have the job as their scope.
"""

import statistics
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from overnight import logs
from overnight.ahead import run_ahead
from overnight.alerts.alarm import Alarm
from overnight.alerts.book import IS_OPEN
from overnight.alerts.doubts import not_undone, unknown
from overnight.budget import dollars
from overnight.clock import iso
from overnight.histogram import quantile
from overnight.ledger.controls import alert, breaker
from overnight.ledger.flow import forgotten, held
from overnight.ledger.rollups import spend
from overnight.ledger.tables import call, entry, histogram, item, lease, occurrence, run, slot
from overnight.plurals import counted
from overnight.run import NOT_UNDONE
from overnight.schedule import Schedule
from overnight.storage import waiting
from overnight.triggers import compact

STANDING = frozenset(  # not settled by the next run of the job
    {"success_rate", "daily_cost", "p95_duration", "late", "stuck", "breaker", "unknown", "spool", "mail_policy"}
    | {"ahead", NOT_UNDONE}
)
PROJECT = "project"  # the scope of what belongs to no job
FEWEST_DAYS = 3  # days with costs, below which a median says nothing
WORTH_IT = Decimal("0.1")  # of the day's budget: a cheaper day wakes nobody, whatever the median
FORGOTTEN = timedelta(hours=1)  # without a request to a side that may be asked again; sweeps come each minute
LONGEST = timedelta(days=1)  # of runs that are asked when they ended
RECOVERED = 0.9  # of `above`: from there on a p95 is good again

Rule = Callable[[Connection, Schedule, datetime], Iterator[Alarm]]


def standing(connection: Connection, schedule: Schedule, now: datetime) -> list[Alarm]:
    """What every process can judge. A rule that fails is a line in the log; the others still look."""
    return _all_of(connection, schedule, now, ALWAYS)


def scheduled(connection: Connection, schedule: Schedule, now: datetime) -> list[Alarm]:
    """What a scheduler can judge: the same, and whether occurrences have begun, or have done so ahead of their time."""
    return _all_of(connection, schedule, now, (late, ahead, *ALWAYS))


def _all_of(connection: Connection, schedule: Schedule, now: datetime, rules: tuple[Rule, ...]) -> list[Alarm]:
    found: list[Alarm] = []
    for rule in rules:
        try:
            found.extend(rule(connection, schedule, now))
        except Exception as error:  # noqa: BLE001  one broken rule must not blind the others
            logs.get().error("an alert rule could not be evaluated", rule=rule.__name__, exc_info=error)
    return found


def success_rates(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Whether too few items of a job's slots within the window have succeeded; nothing while few say anything.

    Between `below` and `recover` the alert stays as it is, so that it does not flap.
    """
    rule = schedule.alerts.success_rate
    rates = succeeded(connection, now - rule.window)
    for job in schedule.jobs:
        ok, worked = rates.get(job, (0, 0))
        if worked < rule.min_items:
            continue
        share = Decimal(ok) / worked
        message = f"{job}: {ok} of {worked} items succeeded within {compact_of(rule.window)} ({share:.1%})"
        if share < rule.below:
            yield Alarm("success_rate", job, f"{message}; the target is {rule.below:.0%}", hold=rule.hold)
        elif share >= rule.recover:
            yield Alarm("success_rate", job, message, firing=False)


def succeeded(connection: Connection, since: datetime) -> dict[str, tuple[int, int]]:
    """By job: items that are ok, and those that were tried, of the slots that a run has worked on since then.

    A run that takes longer than a day counts by its beginning.
    """
    found = connection.execute(_SUCCEEDED, {"since": since, "earliest": since - LONGEST})
    return {job: (int(ok), int(worked)) for job, ok, worked in found}


def durations(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Whether the slowest twentieth of a job's items takes too long."""
    rule = schedule.alerts.p95_duration
    slowest = p95_ms(connection, now - rule.window, rule.min_items)
    for job in schedule.jobs:
        p95 = slowest.get(job)
        if p95 is None:
            continue
        above, took = rule.above.total_seconds() * 1000, compact_of(timedelta(milliseconds=p95))
        message = f"{job}: 5% of its items took {took} or longer within {compact_of(rule.window)}"
        if p95 > above:
            limit = compact_of(rule.above)
            yield Alarm("p95_duration", job, f"{message}; the limit is {limit}", hold=rule.hold)
        elif p95 <= above * RECOVERED:
            yield Alarm("p95_duration", job, message, firing=False)


def p95_ms(connection: Connection, since: datetime, at_least: int) -> dict[str, int]:
    """By job: the 95th percentile of item durations of runs begun since then (± 1 %), where enough say something."""
    found: dict[str, dict[int, int]] = {}
    for job, bucket, n in connection.execute(_DURATIONS, {"since": since}):
        found.setdefault(job, {})[bucket] = int(n)
    slowest = {job: quantile(buckets, 0.95) for job, buckets in found.items() if sum(buckets.values()) >= at_least}
    return {job: took for job, took in slowest.items() if took is not None}


def daily_cost(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Whether today has cost more than it should, by the days before or by the budget."""
    rule, today = schedule.alerts.daily_cost, now.astimezone(schedule.timezone).date()
    costs = _spent(connection, today - timedelta(days=rule.of), today)
    spent, budget = costs.pop(today.isoformat(), 0), schedule.budget.per_day
    if rule.of == 0:
        limit, why = budget * rule.above, f"{rule.above:.0%} of the budget of {dollars(budget)}"
    else:
        paid = [cost for cost in costs.values() if cost]
        if len(paid) < FEWEST_DAYS:
            return
        median = int(statistics.median(paid))
        limit, why = median * rule.above, f"{rule.above:f} times the median of {rule.of} days, {dollars(median)}"
    message = f"today has cost {dollars(spent)}"
    if spent > limit and (rule.of == 0 or spent >= budget * WORTH_IT):
        yield Alarm("daily_cost", PROJECT, f"{message}, more than {why}; overnight costs --by job", hold=rule.hold)
    else:
        yield Alarm("daily_cost", PROJECT, message, firing=False)


def _spent(connection: Connection, first: date, last: date) -> dict[str, int]:
    days = {"first": first.isoformat(), "last": last.isoformat()}
    return {day: int(nano) for day, nano in connection.execute(_SPENT, days)}


def stuck(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Whether a run that goes on gets nowhere."""
    rule = schedule.alerts.stuck
    going = connection.execute(_GOING, {"now": now}).mappings()  # also several of one job, over other slots
    still = {row["job"]: row for row in going if not _gets_on(connection, row, now - rule.after)}
    for job in schedule.jobs:
        row = still.get(job)
        if row is None:
            yield Alarm("stuck", job, f"{job} is getting on, or is over", firing=False)
            continue
        where, idle = f"{job} {row['slot']} ({row['id']})", compact_of(now - _last_sign(connection, row))
        remedy = f"overnight logs {row['id']}, overnight cancel {row['id']}"
        yield Alarm("stuck", job, f"{where} has finished no item for {idle}: {remedy}", hold=rule.hold)


SIGNS = (item.c.ended_at, call.c.started_at)


def _gets_on(connection: Connection, of: RowMapping, since: datetime) -> bool:
    """Whether there is a sign of life: where a run gets on, one of many is soon found."""
    if of["started_at"] > since:
        return True
    recent = (select(at).where(*_within(at, of), at > since).limit(1) for at in SIGNS)
    return any(connection.execute(query).first() is not None for query in recent)


def _last_sign(connection: Connection, of: RowMapping) -> datetime:
    found = [connection.execute(select(func.max(at)).where(*_within(at, of))).scalar_one() for at in SIGNS]
    known: list[datetime] = [of["started_at"], *filter(None, found)]
    return max(known)


def _within(column: Column[datetime], of: RowMapping) -> tuple[ColumnElement[bool], ...]:
    mine = column.table.c
    return mine.job == of["job"], mine.slot == of["slot"]


def breakers(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Which other sides are left alone.

    One that may be asked again and was not is neither down nor well; after an hour it may be in use no more.
    """
    rule, down = schedule.alerts.breaker, {one.name: one for one in held(connection, now) if one.down}
    for name, one in down.items():
        message = f"{name} fails and is left alone until {one.until:%H:%M}Z; items wait for it"
        yield Alarm("breaker", name, message, hold=rule.hold)
    for name in connection.execute(_CLOSED).scalars():
        yield Alarm("breaker", name, f"{name} answers again", firing=False)
    for name in forgotten(connection, now - FORGOTTEN):
        yield Alarm("breaker", name, f"{name} was not asked for {compact_of(FORGOTTEN)}", firing=False)


def gone(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:  # noqa: ARG001  as every rule
    """Alerts of jobs that were taken out of the file: nobody can do anything about them any more."""
    for rule, job in connection.execute(_OF_JOBS):
        if job not in schedule.jobs:
            yield Alarm(rule, job, f"{job} was taken out of schedule.yaml", firing=False)


def late(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Which occurrences should have begun by now: nobody has taken them, or they wait in the queue.

    What the dispatcher has given up it tells itself, as `missed`.
    """
    rule = schedule.alerts.missed
    dues = last_due(connection, schedule, now - rule.after)
    for name, settings in schedule.jobs.items():
        due = dues.get(name)
        if due is None:
            yield Alarm("late", name, f"{name} is not due: it is paused, disabled, or counts from later", firing=False)
            continue
        at, state = due
        which = f"{name} of {settings.trigger().slot(at)}"
        if state in (None, "queued"):
            behind = "another run" if state else settings.after
            why = f"waits for {behind}" if behind else "is not begun"
            message = f"{which} {why} since {at:%H:%M}Z"
            yield Alarm("late", name, f"{message}: overnight next, overnight runs", hold=rule.hold)
        else:
            became = f"was {state}" if state in ("missed", "skipped") else "has begun"
            yield Alarm("late", name, f"{which} {became}", firing=False)


def ahead(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:
    """Which jobs were run for a time that is still to come, by a clock that was ahead: they will not be run then."""
    found = run_ahead(connection, now)
    for job in schedule.jobs:
        slot = found.get(job)
        if slot is None:
            yield Alarm("ahead", job, f"{job} was run for no time that is still to come", firing=False)
            continue
        what = f"{job} of {slot} was run while the clock was ahead, and will not be when its time comes"
        yield Alarm("ahead", job, f"{what}; it is now {iso(now)}: overnight redo {job} --slot {slot}")


def last_due(connection: Connection, schedule: Schedule, until: datetime) -> dict[str, tuple[datetime, str | None]]:
    """By job: the latest time at which it was due, and what its occurrence came to.

    Of no job that is disabled or paused, nor before its first time.
    """
    found: dict[str, tuple[datetime, str | None]] = {}
    for row in connection.execute(_LAST_DUE, {"until": until}):
        settings = schedule.jobs.get(row.job)
        if settings is None or not settings.enabled or row.paused_at is not None:
            continue
        following = settings.trigger().next(max(filter(None, (row.effective_since, row.scheduled_for))))
        if following is not None and following <= until:
            found[row.job] = following, None
        elif row.scheduled_for is not None:
            found[row.job] = row.scheduled_for, row.state
    return found


def spooled(folder: Path, schedule: Schedule) -> Alarm:
    """Whether reports wait for their store."""
    left, rule = len(waiting(folder)), schedule.alerts.spool
    message = f"{schedule.reports.spool} holds {counted(left, 'publication')} of reports for {schedule.reports.to}"
    return Alarm("spool", "reports", f"{message}: overnight doctor", firing=left > 0, hold=rule.hold)


def compact_of(span: timedelta) -> str:
    """A span as schedule.yaml writes it; below a second in milliseconds."""
    seconds = int(span.total_seconds())
    return compact(seconds) if seconds else f"{int(span.total_seconds() * 1000)}ms"


# Made once: they are asked each minute, and making such a query takes longer than answering it.
_OF_RUN = (run.c.job == slot.c.job) & (run.c.slot == slot.c.slot)
_SINCE = bindparam("since", type_=run.c.started_at.type)
_WORKED_ON = select(run.c.job, run.c.slot).where(
    run.c.started_at >= bindparam("earliest", type_=run.c.started_at.type),  # there is an index of beginnings alone
    or_(run.c.started_at >= _SINCE, run.c.ended_at >= _SINCE),
)
_SUCCEEDED = (
    select(slot.c.job, func.sum(slot.c.ok), func.sum(slot.c.ok + slot.c.failed + slot.c.retry + slot.c.unknown))
    .where(tuple_(slot.c.job, slot.c.slot).in_(_WORKED_ON), slot.c.rehearsal.is_(False))
    .group_by(slot.c.job)
)
_DURATIONS = (
    select(run.c.job, histogram.c.bucket, func.sum(histogram.c.n))
    .join(run, run.c.id == histogram.c.run_id)
    .join(slot, _OF_RUN)
    .where(run.c.started_at >= _SINCE, slot.c.rehearsal.is_(False))
    .group_by(histogram.c.bucket, run.c.job)  # the other way round SQLite would walk all runs there ever were
)
_SPENT = (
    select(spend.c.budget_day, func.sum(spend.c.cost_nano))
    .where(spend.c.budget_day.between(bindparam("first"), bindparam("last")))
    .group_by(spend.c.budget_day)
)
_GOING = select(run).where(lease.c.run_id == run.c.id, lease.c.until > bindparam("now"))
_CLOSED = select(breaker.c.name).where(breaker.c.state == "closed")
_OF_JOBS = (
    select(alert.c.rule, alert.c.scope)
    .join(entry, entry.c.job == alert.c.scope)
    .where(IS_OPEN, alert.c.rule != "unknown", alert.c.rule != NOT_UNDONE)
)
_passed = occurrence.alias()
_LAST = (
    select(func.max(_passed.c.scheduled_for))
    .where(_passed.c.job == entry.c.job, _passed.c.scheduled_for <= bindparam("until"))
    .correlate(entry)
    .scalar_subquery()
)
_OF_LAST = (occurrence.c.job == entry.c.job) & (occurrence.c.scheduled_for == _LAST)
_LAST_DUE = select(
    entry.c.job, entry.c.effective_since, entry.c.paused_at, occurrence.c.scheduled_for, occurrence.c.state
).select_from(entry.outerjoin(occurrence, _OF_LAST))

ALWAYS: tuple[Rule, ...] = (success_rates, durations, daily_cost, stuck, breakers, unknown, not_undone, gone)
