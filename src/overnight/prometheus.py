"""Figures for Prometheus, read from the ledger when they are asked for: also those of runs in other processes.

Labels are bounded: jobs, models, states. Totals of days long gone are counted once a day and kept; what changes within
two days is counted each time. This is the only importer of prometheus_client.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, func, select

from overnight import __version__
from overnight.alerts.book import IS_OPEN, undelivered
from overnight.alerts.rules import FORGOTTEN, last_due, p95_ms
from overnight.budget import day_counter
from overnight.ledger.controls import alert, breaker, bucket, budget
from overnight.ledger.flow import forgotten
from overnight.ledger.rollups import spend
from overnight.ledger.tables import FLYING, call, effect, entry, run, slot
from overnight.pricing import NANO
from overnight.runner import Workplace
from overnight.storage import waiting

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LATE = timedelta(days=2)  # how long after it began a day's figures may still change
WINDOW = timedelta(days=1)  # of durations, which are no totals
OUTCOMES = ("ok", "failed", "retry", "skipped", "unknown")
TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
}
CIRCUITS = {"closed": 0, "half_open": 1, "open": 2}

Labels = tuple[str, ...]
Values = dict[Labels, float]
Sums = Mapping[Labels, Counter[int]]  # by labels, numbers that add up


@dataclass(slots=True)
class Total:
    """Sums over all times; `labels` leading columns of the query are labels, the others are numbers."""

    query: Callable[[datetime, bool], Select[Any]]
    labels: int
    _until: datetime | None = None
    _past: dict[Labels, Counter[int]] = field(default_factory=dict)

    def read(self, connection: Connection, now: datetime) -> dict[Labels, Counter[int]]:
        """All sums by labels."""
        until = (now - LATE).replace(hour=0, minute=0, second=0, microsecond=0)
        if until != self._until:
            self._past, self._until = self._sums(connection, until, recent=False), until
        sums = {labels: Counter(numbers) for labels, numbers in self._past.items()}
        for labels, numbers in self._sums(connection, until, recent=True).items():
            sums.setdefault(labels, Counter()).update(numbers)
        return sums

    def _sums(self, connection: Connection, until: datetime, *, recent: bool) -> dict[Labels, Counter[int]]:
        rows = connection.execute(self.query(until, recent)).all()
        return {
            tuple(map(str, row[: self.labels])): Counter({n: int(x or 0) for n, x in enumerate(row[self.labels :])})
            for row in rows
        }


def _runs(until: datetime, recent: bool) -> Select[Any]:
    sums = [func.sum(run.c[name]) for name in OUTCOMES]
    worked = sum((run.c[name] for name in OUTCOMES[1:]), run.c.ok)
    query = select(run.c.job, run.c.status, func.count(), *sums, func.sum(run.c.attempts - worked))
    when = run.c.started_at >= until if recent else run.c.started_at < until
    return query.where(when, run.c.kind != "dry").group_by(run.c.job, run.c.status)


def _calls(until: datetime, recent: bool) -> Select[Any]:
    sums = [func.sum(spend.c[name]) for name in ("calls", "cost_nano", *TOKENS.values())]
    day = until.date().isoformat()
    when = spend.c.budget_day >= day if recent else spend.c.budget_day < day
    return select(spend.c.job, spend.c.model, *sums).where(when).group_by(spend.c.job, spend.c.model)


def _in_flight(connection: Connection) -> Sums:
    """Calls that are not over, and their worst case: a total that had them would go down when less is paid."""
    query = select(call.c.job, call.c.model, func.count(), func.sum(call.c.cost_nano)).where(FLYING)
    rows = connection.execute(query.group_by(call.c.job, call.c.model))
    return {(job, model): Counter({0: n, 1: int(cost)}) for job, model, n, cost in rows}


def _mails(until: datetime, recent: bool) -> Select[Any]:
    same = (slot.c.job == effect.c.job) & (slot.c.slot == effect.c.slot)
    query = select(effect.c.job, effect.c.state, func.count()).join(slot, same)
    when = slot.c.created_at >= until if recent else slot.c.created_at < until
    over = effect.c.state != "intent"
    return query.where(when, over, effect.c.kind == "mail", slot.c.rehearsal.is_(False)).group_by(
        effect.c.job, effect.c.state
    )


@dataclass(slots=True, eq=False)  # a registry keeps collectors by their hash
class Exposition:
    """What `/metrics` says. `text` may be called from any thread, by one at a time."""

    current: Callable[[], Workplace]
    problem: Callable[[], str | None]
    runs: Total = field(default_factory=lambda: Total(_runs, 2))
    calls: Total = field(default_factory=lambda: Total(_calls, 2))
    mails: Total = field(default_factory=lambda: Total(_mails, 2))

    @property
    def content_type(self) -> str:
        """Of the text."""
        from prometheus_client import CONTENT_TYPE_LATEST  # noqa: PLC0415  only who is scraped pays for it

        return str(CONTENT_TYPE_LATEST)

    def text(self) -> bytes:
        """All figures, in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # whatever can `collect` is a collector
        return bytes(generate_latest(registry))

    def collect(self) -> Iterator["Metric"]:
        """Read everything from one ledger at one time."""
        work = self.current()
        return iter(work.ledger.reading(partial(_metrics, self, work)))


def _metrics(of: Exposition, work: Workplace, connection: Connection) -> list["Metric"]:
    now = work.clock.now()
    return [
        *_of_runs(of.runs.read(connection, now)),
        *_of_calls(of.calls.read(connection, now), _in_flight(connection)),
        *_of_mails(of.mails.read(connection, now)),
        *_of_times(connection, work, now),
        *_of_money(connection, work, now),
        _of_limits(connection),
        *_of_trouble(connection, work, now),
        _gauge("schedule_valid", "Whether schedule.yaml is valid as it is now", (), {(): float(not of.problem())}),
        _gauge("build_info", "The version", ("version",), {(__version__,): 1.0}),
    ]


def _of_runs(sums: Sums) -> list["Metric"]:
    runs = {labels: float(numbers[0]) for labels, numbers in sums.items() if "running" not in labels}
    tasks: Counter[Labels] = Counter()
    retries: Counter[Labels] = Counter()
    for (job, _status), numbers in sums.items():
        for n, outcome in enumerate(OUTCOMES, start=1):
            tasks[job, outcome] += numbers[n]
        retries[(job,)] += max(0, numbers[len(OUTCOMES) + 1])
    return [
        _counter("runs", "Runs by how they ended", ("job", "outcome"), runs),
        _counter("tasks", "Items that runs have worked on, by outcome", ("job", "outcome"), tasks),
        _counter("retries", "Attempts at items beyond the first", ("job",), retries),
    ]


def _of_calls(sums: Sums, in_flight: Sums) -> list["Metric"]:
    calls: Counter[Labels] = Counter()
    cost: Counter[Labels] = Counter()
    tokens: Counter[Labels] = Counter()
    for (job, model), numbers in sums.items():
        going = in_flight.get((job, model), Counter())
        calls[(model,)] += numbers[0] - going[0]
        cost[job, model] += numbers[1] - going[1]
        for n, kind in enumerate(TOKENS, start=2):
            tokens[model, kind] += numbers[n]
    dollars = {labels: nano / NANO for labels, nano in cost.items()}
    return [
        _counter("calls", "Requests to models that are over", ("model",), calls),
        _counter("cost_usd", "What requests to models have cost", ("job", "model"), dollars),
        _counter("tokens", "Tokens of models", ("model", "type"), tokens),
    ]


def _of_mails(sums: Sums) -> list["Metric"]:
    mails = {labels: float(numbers[0]) for labels, numbers in sums.items()}
    return [_counter("emails", "Mails of jobs, by what became of them", ("job", "outcome"), mails)]


def _of_times(connection: Connection, work: Workplace, now: datetime) -> list["Metric"]:
    good = (run.c.status.in_(("ok", "partial")), run.c.partial.is_(False), run.c.kind != "dry")
    ended = connection.execute(select(run.c.job, func.max(run.c.ended_at)).where(*good).group_by(run.c.job))
    success: Values = {(job,): at.timestamp() for job, at in ended if at and job in work.schedule.jobs}
    paused = set(connection.execute(select(entry.c.job).where(entry.c.paused_at.is_not(None))).scalars())
    jobs = {name: one for name, one in work.schedule.jobs.items() if one.enabled and name not in paused}
    coming: Values = {(name,): at.timestamp() for name, one in jobs.items() if (at := one.trigger().next(now))}
    last: Values = {(name,): at.timestamp() for name, (at, _) in last_due(connection, work.schedule, now).items()}
    slowest = p95_ms(connection, now - WINDOW, 1)
    slow: Values = {(name,): slowest[name] / 1000 for name in work.schedule.jobs if slowest.get(name)}
    took: Values = {
        (name,): (row.ended_at - row.started_at).total_seconds()
        for name in work.schedule.jobs
        if (row := connection.execute(_latest(name)).one_or_none())
    }
    by_job = ("job",)
    return [
        _gauge("run_last_success_timestamp_seconds", "When a run has last ended ok or partial", by_job, success),
        _gauge("run_last_due_timestamp_seconds", "When the job was due last", by_job, last),
        _gauge("run_next_timestamp_seconds", "When the job is due next", by_job, coming),
        _gauge("run_duration_seconds", "How long the latest finished run took", by_job, took),
        _gauge("task_duration_p95_seconds", "95% of the items of the last day took no longer", by_job, slow),
    ]


def _latest(job: str) -> Select[Any]:
    ended = (run.c.job == job, run.c.ended_at.is_not(None), run.c.kind != "dry")
    return select(run.c.started_at, run.c.ended_at).where(*ended).order_by(run.c.started_at.desc()).limit(1)


def _of_money(connection: Connection, work: Workplace, now: datetime) -> list["Metric"]:
    name = day_counter(now.astimezone(work.schedule.timezone).date().isoformat())
    row = connection.execute(select(budget).where(budget.c.scope == name)).mappings().one_or_none()
    cap = work.schedule.budget.per_day + (row["extra_nano"] if row else 0)
    used = row["settled_nano"] + row["reserved_nano"] if row else 0
    ratio, scope = used / cap if cap else 1.0, ("scope",)
    return [
        _gauge("budget_usd", "What may be spent today", scope, {("day",): cap / NANO}),
        _gauge("budget_used_ratio", "How much of that is spent or reserved", scope, {("day",): ratio}),
    ]


def _of_limits(connection: Connection) -> "Metric":
    waited: Values = {(name,): ms / 1000 for name, ms in connection.execute(select(bucket.c.name, bucket.c.waited_ms))}
    text = "How long callers have waited for a rate limit, all together"
    return _counter("rate_limit_wait_seconds", text, ("limiter",), waited)


def _of_trouble(connection: Connection, work: Workplace, now: datetime) -> list["Metric"]:
    used = select(breaker.c.name, breaker.c.state).where(breaker.c.name.not_in(forgotten(connection, now - FORGOTTEN)))
    circuits: Values = {(name,): float(CIRCUITS[state]) for name, state in connection.execute(used)}
    real = slot.c.rehearsal.is_(False)
    sums = connection.execute(select(func.sum(slot.c.pending), func.sum(slot.c.retry)).where(real)).one()
    depth: Values = {("pending",): float(sums[0] or 0), ("retry",): float(sums[1] or 0)}
    states = select(alert.c.rule, alert.c.state, func.count()).where(IS_OPEN)
    alerts: Values = {
        (rule, state): float(n) for rule, state, n in connection.execute(states.group_by(alert.c.rule, alert.c.state))
    }
    left: Counter[tuple[str, ...]] = Counter()
    for row in undelivered(connection):  # a channel has several addresses
        left[(row["channel"].partition("/")[0],)] += row["waiting"]
    spool = float(len(waiting(work.root / work.schedule.reports.spool)))
    return [
        _gauge("circuit_state", "0 closed, 1 half open, 2 open", ("dependency",), circuits),
        _gauge("queue_depth", "Items that wait", ("state",), depth),
        _gauge("alerts", "Alerts that are not over", ("rule", "state"), alerts),
        _gauge("alerts_undelivered", "Messages that a channel has not taken", ("channel",), left),
        _gauge("spool_publications", "Reports that wait for their store", (), {(): spool}),
    ]


def _counter(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    return _filled(CounterMetricFamily(f"overnight_{name}", text, labels=labels), values)


def _gauge(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    return _filled(GaugeMetricFamily(f"overnight_{name}", text, labels=labels), values)


def _filled(family: Any, values: Mapping[Labels, float]) -> "Metric":
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    found: Metric = family
    return found
