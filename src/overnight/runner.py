"""One run over one slot, from the lock to the reports."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping

from overnight import alerts, logs, project
from overnight.alerts import Alarm
from overnight.alerts.rules import standing
from overnight.batch import Batch, Picked
from overnight.budget import dollars, reap
from overnight.clock import Clock, token
from overnight.errors import ConfigError, Fenced, Refused, Stop
from overnight.heartbeat import beating
from overnight.jobs import Job, Options
from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.runs import Opening, close_run, open_run, paused, previous_slot, slot_of
from overnight.leftovers import after_interruption, end_by_hand
from overnight.liveness import HOST, end_at_once, hung_holder, kept_lease, slot_lock
from overnight.outcome import Outcome, RunStatus, Scope, original, run_status
from overnight.ports import Ports, open_ports
from overnight.publishing import publish
from overnight.redact import Redactor
from overnight.rehearsal import borrow, cast
from overnight.result import Result, come_to, pulse_of
from overnight.run import Run
from overnight.schedule import JobSettings, Schedule

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # a closed terminal ends a run as politely as Ctrl-C
DEFERRED_FOR = timedelta(hours=25)  # the longest day: what waits for tomorrow's budget gets it
REHEARSAL = "~"  # in a slot's name: a slot that touches nothing real


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every run of a project shares."""

    root: Path
    schedule: Schedule
    ledger: Ledger
    clock: Clock
    redactor: Redactor
    config: Path = Path("schedule.yaml")

    @property
    def file(self) -> Path:
        """The schedule in use."""
        return self.root / self.config

    async def note(self, found: Sequence[Alarm]) -> None:
        """Keep alarms in mind; whoever tells the operators next tells them."""
        await alerts.noted(self.ledger, self.clock, self.redactor, found, self.schedule.alerts.repeat)


@dataclass(frozen=True, slots=True)
class Request:
    """Which run is wanted.

    `slot` None means the slot of now. `run_id` is that of a run which a scheduler has opened already. `confirm` is
    asked before the first mail to real people and raises Refused. A rehearsal goes `to` these addresses, or else into a
    folder.
    """

    job: str
    slot: str | None = None
    kind: str = "manual"
    picked: Picked = field(default_factory=Picked)
    run_id: str = ""
    retry_of: str | None = None
    rehearsal: bool = False
    to: tuple[str, ...] = ()
    confirm: Callable[[str], None] = lambda _place: None
    on_total: Callable[[int], None] = lambda _total: None
    on_outcome: Callable[[Outcome], None] = lambda _outcome: None


async def run_slot(work: Workplace, request: Request) -> Result:
    """Run a slot, or continue it: what is finished is not repeated.

    Raises ConfigError (unknown job, broken code or template) before anything is written, Refused when the slot is
    being run elsewhere, the job is paused or mailing was not confirmed.
    """
    settings = work.schedule.job(request.job)
    real = not (request.rehearsal or REHEARSAL in (request.slot or ""))
    async with beating(settings.heartbeat if real else "", request.job, work.clock, work.redactor) as heart:
        result = await _run_slot(work, request, settings, heart.start)
        heart.outcome = pulse_of(result)
        return result


async def _run_slot(work: Workplace, request: Request, settings: JobSettings, on_start: Callable[[], None]) -> Result:
    project.attach(work.root)
    job = cast(project.load_job(request.job, settings.target), request.to)
    job.codec()
    slot = _slot(settings, request, work.clock.now())
    request = dataclasses.replace(request, rehearsal=REHEARSAL in slot)  # also when it is only retried
    if request.kind == "scheduled" and (reason := work.ledger.reading(paused, request.job)) is not None:
        raise Refused(f"{request.job} is paused: {reason}; `overnight resume-job {request.job}`")
    hung = await hung_holder(work.root, work.ledger, work.clock, request.job, slot)
    with slot_lock(work.root, request.job, slot, hung):
        opening = _opening(work, settings, job, request, slot)
        now = work.clock.now()
        to, rehearsal = request.to, request.rehearsal
        ports = open_ports(work.root, work.schedule, settings, work.ledger, work.clock, rehearsal=rehearsal, to=to)
        try:
            if ports.mailer.real:
                request.confirm(ports.mailer.place)
            scope = await work.ledger.write(lambda connection: _opened(connection, opening, now))
            await borrow(work.ledger, scope, to, now)
            on_start()
            with ports.dependencies.in_use():
                return await _Attempt(work, request, settings, job, scope, ports).go()
        except LedgerFault as fault:
            await ports.alerter.last_words(f"{request.job} {slot} stopped: {fault}")
            raise
        finally:
            await ports.close()


def current_slot(settings: JobSettings, now: datetime) -> str:
    """The slot of now: what a run is about when nobody says which."""
    return settings.trigger().slot(now.replace(second=0, microsecond=0))


def term(settings: JobSettings, now: datetime) -> datetime:
    """Deferred items are tried again until the job's next slot: for an hour at least, and not for days."""
    longest = now + max(DEFERRED_FOR, settings.max_age)
    following = settings.trigger().next(now)
    return max(min(following or longest, longest), now + timedelta(hours=1))


def _slot(settings: JobSettings, request: Request, now: datetime) -> str:
    slot = current_slot(settings, now) if request.slot is None else request.slot
    try:
        settings.trigger().scheduled_for(original(slot))
    except ValueError as error:
        raise ConfigError(f"{request.job}: --slot {slot}: {error}") from error
    if request.rehearsal and REHEARSAL not in slot:
        slot = f"{slot}{REHEARSAL}{token(3)}"
    return slot


def _opening(work: Workplace, settings: JobSettings, job: Job[Any, Any], request: Request, slot: str) -> Opening:
    scheduled_for = settings.trigger().scheduled_for(original(slot))
    return Opening(
        job=request.job,
        slot=slot,
        kind=request.kind,
        scheduled_for=scheduled_for,
        slot_day=scheduled_for.astimezone(settings.zone).date().isoformat(),
        day=work.clock.now().astimezone(work.schedule.timezone).date().isoformat(),
        host=HOST,
        pid=os.getpid(),
        code_version=project.code_version(work.root, Path(job.work.__code__.co_filename)),
        config_hash=work.schedule.config_hash,
        retry_of=request.retry_of,
        rehearsal=request.rehearsal,
        partial=bool(request.picked.only) or request.picked.limit is not None,
        run_id=request.run_id,
    )


@dataclass(slots=True)
class _Attempt:
    """The steps of one run, in order."""

    work: Workplace
    request: Request
    settings: JobSettings
    job: Job[Any, Any]
    scope: Scope
    ports: Ports
    interrupted: bool = False
    by_hand: bool = False
    noting: asyncio.Task[None] | None = None
    alarms: list[Alarm] = field(default_factory=list)

    async def go(self) -> Result:
        started = self.work.clock.monotonic()
        log = logs.get().bind(run_id=self.scope.run_id, worker_id=self.scope.worker_id)
        slot, previous = await self.work.ledger.read(_begun, self.scope)
        run = self._run(log, slot, previous)
        batch = self._batch(run)
        log.info("run started", job=self.scope.job, slot=self.scope.slot, kind=self.request.kind)
        async with kept_lease(self.work.ledger, self.scope, self.work.clock, batch._lose):  # noqa: SLF001
            stopped = await self._interruptible(batch, slot)
        if batch.fenced is not None:
            raise batch.fenced
        status = self._status(batch, stopped)
        reason = self.work.redactor.text(str(stopped)) if stopped else None
        now = self.work.clock.now()
        await self.work.ledger.write(lambda connection: self._close(connection, status, reason, now))
        result = await self._result(batch, status, reason, started)
        log.info(
            "run ended",
            status=status,
            cost=dollars(result.cost_nano),
            duration=result.duration_s,
            **result.items,
        )
        await self._tell(run, batch, stopped, result)
        return await self._reported(result)

    def _close(self, connection: Connection, status: RunStatus, reason: str | None, now: datetime) -> None:
        close_run(connection, self.scope, status, reason, now)
        if status == "interrupted":
            after_interruption(connection, self.scope, now, by_hand=self.by_hand)

    async def _interruptible(self, batch: Batch, slot: RowMapping) -> Stop | None:
        working = asyncio.create_task(self._items(batch, slot))
        try:
            self._listen(batch, working)
            return await working
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
            return None  # `drain` is over; what was in flight stays pending

    def _run(self, log: Any, slot: RowMapping, previous: datetime | None) -> Run:
        return Run(
            scope=self.scope,
            scheduled_for=slot["scheduled_for"],
            params=self.settings.params,
            root=self.work.root,
            zone=self.settings.zone,
            clock=self.work.clock,
            ledger=self.work.ledger,
            asks=self.ports.agent,
            post=self.ports.post,
            log=log,
            previous=previous,
            public_url=self.work.schedule.public_url,
            spool=self.work.root / self.work.schedule.reports.spool,
            rehearsal=self.request.rehearsal,
            on_unknown=self.settings.on_unknown,
            redact=self.work.redactor.text,
        )

    def _batch(self, run: Run) -> Batch:
        set_here = self.settings.explicit
        options = Options().override(self.job.options).override(
            {
                "concurrency": self.settings.concurrency if "concurrency" in set_here else None,
                "timeout": self.settings.timeout.total_seconds() if "timeout" in set_here else None,
                "item_timeout": self.settings.item_timeout.total_seconds() if "item_timeout" in set_here else None,
                **_retry(self.settings),
            }
        )  # fmt: skip
        return Batch(
            job=self.job,
            run=run,
            options=options,
            expires_at=term(self.settings, self.work.clock.now()),
            redact=self.work.redactor.text,
            on_outcome=self.request.on_outcome,
        )

    async def _items(self, batch: Batch, slot: RowMapping) -> Stop | None:
        """Plan and work; returns why the run could not go on."""
        planning = None if slot["planned_at"] else asyncio.create_task(batch.plan(self.request.picked))
        if planning is None:
            again = slot["failed"] if self.request.picked.selection == "again" else 0
            self.request.on_total(slot["pending"] + slot["retry"] + again)
        else:
            planning.add_done_callback(self._planned)
        timer = asyncio.get_running_loop().call_later(batch.options.timeout, self._time_is_up, batch)
        try:
            await batch.work(self.request.picked, planning)
        except asyncio.CancelledError:
            if planning is not None:
                planning.cancel()  # or it would write rows while the run is being closed
            raise
        finally:
            timer.cancel()
        return await self._planning_ended(planning, batch) if planning is not None else batch.stopped

    async def _planning_ended(self, planning: asyncio.Task[int], batch: Batch) -> Stop | None:
        """Wait for the plan; a run that is to end does not, and the next one goes on planning."""
        if batch.draining.is_set():
            planning.cancel()
        try:
            await planning
        except Stop as error:
            return error
        except ConfigError as error:
            return Stop(str(error), code=error.code)
        except asyncio.CancelledError:
            if not planning.cancelled():
                raise
        return batch.stopped

    def _planned(self, planning: asyncio.Task[int]) -> None:
        if not planning.cancelled() and planning.exception() is None:
            self.request.on_total(planning.result())

    def _time_is_up(self, batch: Batch) -> None:
        limit = timedelta(seconds=batch.options.timeout)
        batch.stopped = Stop(f"the run took longer than its timeout of {limit}; the rest is pending", code="timeout")
        batch.drain()

    def _listen(self, batch: Batch, working: asyncio.Task[Stop | None]) -> None:
        """The first signal drains the batch, for `drain` seconds at most; the second ends the process.

        Until the event loop is closed: a signal while reports are written does not leave them half done. Only SIGINT
        says that somebody does not want it to go on: he has pressed Ctrl-C, or given `cancel`.
        """
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            if self.interrupted:
                end_at_once(self.noting)
                return
            self.interrupted, self.by_hand = True, number == signal.SIGINT
            if self.by_hand:
                self.noting = loop.create_task(self.work.ledger.write(partial(end_by_hand, scope=self.scope)))
            batch.drain()
            loop.call_later(self.work.schedule.drain.total_seconds(), working.cancel)

        for number in ENDING:
            loop.add_signal_handler(number, stop, number)

    def _status(self, batch: Batch, stopped: Stop | None) -> RunStatus:
        if stopped is not None:
            return "stopped"
        if self.interrupted:
            return "interrupted"
        counts = {name: batch.counts[name] for name in ("ok", "failed", "retry", "skipped", "unknown")}
        status = run_status(counts)
        return "partial" if status == "ok" and batch.without_budget else status

    async def _result(self, batch: Batch, status: RunStatus, reason: str | None, started: float) -> Result:
        slot, cost, mails = await self.work.ledger.read(come_to, self.scope)
        names = ("ok", "failed", "retry", "skipped", "unknown")
        items = {"total": sum(batch.counts.values())} | {name: batch.counts[name] for name in names}
        return Result(
            run_id=self.scope.run_id,
            job=self.scope.job,
            slot=self.scope.slot,
            status=status,
            items=items,
            slot_items={name: slot[name] for name in ("pending", *names)},
            cost_nano=cost,
            duration_s=round(self.work.clock.monotonic() - started, 3),
            reason=reason,
            mails=mails,
            place=self.ports.mailer.place,
            fallbacks=sum(self.ports.agent.fallbacks.values()),
        )

    async def _tell(self, run: Run, batch: Batch, stopped: Stop | None, result: Result) -> None:
        """Raise and settle the alerts of this run; a rehearsal wakes nobody."""
        if self.request.rehearsal:
            return
        if batch.without_budget:
            run.warn("budget", f"{batch.without_budget} of its items had no budget: overnight budget raise 5, retry")
        agent = self.ports.agent
        found = alerts.of_run(self.scope, batch.bugs, stopped, run.notices, agent.notices, agent.warnings)
        rules = await self.work.ledger.read(standing, self.work.schedule, self.work.clock.now())
        worked, pending = result.items["total"], result.slot_items["pending"]
        await self.ports.alerter.settle_run(self.scope.job, [*rules, *found], worked=worked, pending=pending)

    async def _reported(self, result: Result) -> Result:
        if self.request.rehearsal:
            return result
        work, ports = self.work, self.ports
        published = await publish(work.root, work.schedule, work.ledger, ports.dependencies, ports.alerter.raise_all)
        return dataclasses.replace(result, reports=published)


def _retry(settings: JobSettings) -> dict[str, Any]:
    """The `retry:` block, when there is one."""
    asked = settings.retry
    if asked is None:
        return {}
    return {"attempts": asked.attempts, "initial": asked.initial.total_seconds(), "longest": asked.max.total_seconds()}


def _opened(connection: Connection, opening: Opening, now: datetime) -> Scope:
    """Take the slot, and settle on this occasion what killed processes had reserved. Raises Refused."""
    scope = open_run(connection, opening, now, locked=True)
    reap(connection, now)
    return scope


def _begun(connection: Connection, scope: Scope) -> tuple[RowMapping, datetime | None]:
    """The slot, and when the one before it was due."""
    slot = slot_of(connection, scope.job, scope.slot)
    return slot, previous_slot(connection, scope.job, slot["scheduled_for"])


__all__ = ["Fenced", "Request", "Result", "Workplace", "run_slot"]
