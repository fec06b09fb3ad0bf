"""The dispatcher: look what is due, start each run as a process of its own, take up what was left.

A run in its own process cannot stall the others, sees the newest code, and gives its memory back.
"""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, RowMapping

from overnight import __version__, logs
from overnight.ahead import righted
from overnight.alerts import Alarm
from overnight.budget import reap
from overnight.errors import Stop
from overnight.ledger.runs import Opening, held_leases, latest_run, paused
from overnight.leftovers import give_back, let_go
from overnight.liveness import HOST, RENEW_EVERY, ask_to_end, is_dead
from overnight.missed import tell
from overnight.occurrences import (
    Claim,
    Decision,
    Slot,
    Timed,
    claim,
    due,
    latest,
    note,
    outdated,
    queued,
    register,
    running,
    start_if_free,
    unfinished_on,
    withdraw,
)
from overnight.processes import Processes, remedy_of
from overnight.runner import Workplace
from overnight.schedule import JobSettings
from overnight.sweeps import left_to_do, may_sweep
from overnight.triggers import Listed
from overnight.upkeep import Upkeep

FAILED = 1
REFUSED = 4
TOLD = (0, 3, REFUSED, 130)  # exit codes of runs that are over, refused, or asked to end
LOOK_EVERY = 60.0  # seconds: repairs a suspended machine, a stepped clock, and other processes' deaths
TAKEN_OUT = "the job was taken out of schedule.yaml while it waited"
AWAY = timedelta(seconds=LOOK_EVERY * 1.5)  # after so long without a round nobody had a chance to renew a lease


@dataclass(slots=True)
class Dispatcher:
    """Decides and starts; `children` are the runs it has started and not yet seen end.

    Since the last round began: `codes` are the exit codes of those that have ended, `swept` the slots taken up again.
    `on_end` hears of each end. `unbegun` says when a slot's process could last not be begun; `resting` are the children
    that make what is left of an edition, by their job.
    """

    work: Workplace
    children: dict[asyncio.Task[int], Slot] = field(default_factory=dict)
    processes: Processes = field(init=False)
    unbegun: dict[Slot, float] = field(default_factory=dict)
    swept: set[Slot] = field(default_factory=set)
    resting: dict[asyncio.Task[int], str] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    looked_at: datetime | None = None
    draining: bool = False
    on_end: Callable[[], None] = lambda: None
    upkeep: Upkeep = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self.processes = Processes(self.work.clock)

    async def look(self) -> None:
        """One round: what is due, what waits in the queue, what died, what is deferred.

        It waits for nobody outside: reports go out, and operators are told, beside it.
        """
        self.codes.clear()
        self.swept.clear()
        await self._come_round()
        await self._end_hung()  # first, and from reads alone: one that was stopped may have locked the ledger
        held_up: set[Slot] = set()
        for decision in await self._decisions():
            if self.draining:
                return  # what is not taken yet is for the next start
            overtakes = decision.job in {job for job, _ in held_up}
            if overtakes or not await self._alone(self._carry_out(decision, held_up), decision.job):
                held_up.add((decision.job, decision.slot))
        await self.take_queued()
        await self._alone(self.take_up())
        await self.upkeep.report(self.work, idle=not self.children)
        await self.upkeep.watch(self.work)
        await self.upkeep.retire(self.work)
        self.looked_at = self.work.clock.now()

    async def settle(self) -> list[int]:
        """Wait for every run started so far, and end those that hang; returns the exit codes of the last round's."""
        while self.children:
            over, _ = await asyncio.wait(list(self.children), timeout=LOOK_EVERY)
            for child in over:
                child.result()
            if not over:
                await self._come_round()
                self.looked_at = self.work.clock.now()
                await self._end_hung()
        await self.upkeep.settle(self.work)
        return self.codes

    def stop(self) -> None:
        """Start nothing more, and ask every running child to finish what is in flight."""
        self.draining = True
        self.upkeep.stop()
        self.processes.terminate()

    async def _come_round(self) -> None:
        """After a suspended machine, a clock set forward or a locked ledger: let who lives renew its lease first."""
        if self.looked_at is not None and self.work.clock.now() - self.looked_at > AWAY:
            await self.work.clock.sleep(RENEW_EVERY)

    async def _end_hung(self) -> None:
        """End our runs that let their lease run out.

        One that was stopped while it wrote keeps the others from renewing theirs: then they have time for it.
        """
        silent = await self._silent()
        if self.processes.end_hung(silent, only_stopped=True):
            await self.work.clock.sleep(RENEW_EVERY)
            silent = await self._silent()
        self.processes.end_hung(silent)

    async def _silent(self) -> dict[Slot, int]:
        """The slots of this machine whose lease was not renewed in time, and which process has it."""
        held, now = await self.work.ledger.read(held_leases), self.work.clock.now()
        return {(row["job"], row["slot"]): row["pid"] for row in held if row["host"] == HOST and row["until"] <= now}

    async def _decisions(self) -> list[Decision]:
        jobs, now = self.work.schedule.jobs, self.work.clock.now()
        listed = self.work.schedule.listed()
        ahead, lost, entries, last = await self.work.ledger.write(lambda connection: _known(connection, listed, now))
        for job, what in ahead:
            await self._alarm("clock", job, f"{job} was looked at while the clock was ahead; {what}: overnight next")
        await tell(self.work, lost)
        timed = [_timed(settings, entries[name], last.get(name)) for name, settings in jobs.items() if settings.enabled]
        found = [decision for one in timed for decision in due(one, now)]
        # A job that comes after another one does so also when both are late.
        return sorted(found, key=lambda one: (self.work.schedule.rank(one.job), one.scheduled_for))

    async def _alone(self, doing: Awaitable[bool], job: str = "") -> bool:
        """Do one thing of a round: one that fails holds up no other, and is tried again in the next. False then.

        A ledger that fails does so for all of them.
        """
        try:
            return await doing
        except Stop:
            raise
        except Exception as error:  # noqa: BLE001
            logs.get().error("a step of the look for due jobs failed; it is tried again", job=job, exc_info=error)
            return False

    async def _carry_out(self, decision: Decision, held_up: Collection[Slot]) -> bool:
        """Run an occurrence, or note why not; False while it waits for the job it comes after, which may do so, too."""
        settings, now = self.work.schedule.jobs[decision.job], self.work.clock.now()
        waits = (settings.after, decision.slot) in held_up or await self._waits(settings.after, decision.slot)
        if decision.action == "missed" and waits:
            reason = f"{settings.after} was not over within max_age ({settings.max_age})"
            decision = dataclasses.replace(decision, reason=reason)
        if decision.action != "run":
            if await self.work.ledger.write(lambda connection: note(connection, decision, now)):
                await tell(self.work, [decision])
            return True
        if waits or self._rests(decision.job):
            return False  # no row yet: the next round looks again
        opening = self._opening(settings, decision.slot, decision.scheduled_for, now)
        overlap = "queue" if decision.made_up else settings.overlap
        claimed: Claim | None = await self.work.ledger.write(
            lambda connection: claim(
                connection, decision, opening, now, overlap, partial(is_dead, self.work.root, now=now)
            )
        )
        if claimed is not None and claimed.run_id:
            self.start(decision.job, decision.slot, "--occurrence", claimed.id)
        elif claimed is not None and claimed.skipped:
            await self._alarm("missed", decision.job, f"{decision.job} {decision.slot} was skipped: {claimed.skipped}")
        elif claimed is not None and overlap == "replace":
            await self._cancel_others(decision.job, now)
        return True

    async def _waits(self, after: str | None, slot: str) -> bool:
        """Whether the job it comes after has an occurrence that day which is not over, or is still to come."""
        if after is None:
            return False
        settings, now = self.work.schedule.jobs[after], self.work.clock.now()
        if settings.enabled and await self.work.ledger.read(paused, after) is None:
            trigger = settings.trigger()
            at = trigger.scheduled_for(slot)
            if at > now and trigger.next(at - timedelta(seconds=1)) == at:
                return True
        return await self.work.ledger.read(unfinished_on, after, slot)

    def _rests(self, job: str) -> bool:
        """Whether we go on with an edition of the job; until that has opened its run, nobody else can see it."""
        return job in self.resting.values()

    async def _cancel_others(self, job: str, now: datetime) -> None:
        for row in await self.work.ledger.read(running, job, now):
            ask_to_end(self.work.root, job=job, slot=row["slot"], host=row["host"])

    async def take_queued(self) -> bool:
        """Start what waited for another run of its job; returns whether anything was started."""
        rows = await self.work.ledger.read(queued)
        return any([await self._alone(self._take(row), row["job"]) for row in rows])  # a list: each has its turn

    async def _take(self, row: RowMapping) -> bool:
        """Start one that waits if it is its turn, or give it up."""
        settings, now = self.work.schedule.jobs.get(row["job"]), self.work.clock.now()
        if settings is None or not settings.enabled:
            await self.work.ledger.write(partial(withdraw, occurrence_id=row["id"], state="skipped", reason=TAKEN_OUT))
            return False
        if self.draining or self._rests(row["job"]) or await self.work.ledger.read(paused, row["job"]) is not None:
            return False
        if now - row["scheduled_for"] > settings.max_age:
            await self._miss(row, f"it waited for another run for longer than max_age ({settings.max_age})")
            return False
        opening = self._opening(settings, row["slot"], row["scheduled_for"], now)
        free = partial(start_if_free, row=row, opening=opening, now=now, died=partial(is_dead, self.work.root, now=now))
        if not await self.work.ledger.write(free):
            return False
        self.start(row["job"], row["slot"], "--occurrence", row["id"])
        return True

    async def _miss(self, row: RowMapping, reason: str) -> None:
        """Give up an occurrence that waits in the queue."""
        if await self.work.ledger.write(partial(withdraw, occurrence_id=row["id"], state="missed", reason=reason)):
            await tell(self.work, [Decision(row["job"], row["scheduled_for"], row["slot"], "missed", reason)])

    async def take_up(self, but: Collection[Slot] = ()) -> bool:
        """Go on with slots whose run died or was interrupted, and take up deferred items whose time has come.

        Of all slots `but` these; returns whether anything was started. An edition is not made beside another one of
        its job, or both would bring the same news: a later look decides.
        """
        now, own = self.work.clock.now(), set(self.children.values())  # also those that end while we read
        started = False
        for rest in await left_to_do(self.work, now, own | self._just_failed() | set(but)):
            if rest.what == "rest" and await self._is_under_way(rest.job, now):
                continue
            task = self.start(rest.job, rest.slot, "--slot", rest.slot, "--sweep", rest.what)
            self.swept.add((rest.job, rest.slot))
            if rest.what == "rest":
                self.resting[task] = rest.job
            started = True
        return started

    async def _is_under_way(self, job: str, now: datetime) -> bool:
        """Whether we have begun a run of the job, or somebody else makes an edition."""
        ours = job in {job for job, _ in self.children.values()}
        return ours or bool(await self.work.ledger.read(running, job, now, partial(is_dead, self.work.root, now=now)))

    def _just_failed(self) -> set[Slot]:
        """Slots whose process could not be begun a moment ago: each end wakes us, and this one would for ever."""
        now = self.work.clock.monotonic()
        self.unbegun = {slot: at for slot, at in self.unbegun.items() if now - at < LOOK_EVERY / 2}
        return set(self.unbegun)

    async def _alarm(self, rule: str, job: str, message: str) -> None:
        """Note it; what a round has to tell is told at its end, in one message."""
        await self.work.note([Alarm(rule, job, message)])

    def _opening(self, settings: JobSettings, slot: str, scheduled_for: datetime, now: datetime) -> Opening:
        return Opening(
            job=settings.name,
            slot=slot,
            kind="scheduled",
            scheduled_for=scheduled_for,
            slot_day=scheduled_for.astimezone(settings.zone).date().isoformat(),
            day=now.astimezone(self.work.schedule.timezone).date().isoformat(),
            host=HOST,
            pid=os.getpid(),
            code_version=__version__,
            config_hash=self.work.schedule.config_hash,
        )

    def start(self, job: str, slot: str, *arguments: str) -> asyncio.Task[int]:
        """Start a run over a slot, once the process that had it is gone; gives its exit code, 4 when we are to end."""
        before = [task for task, of in self.children.items() if of == (job, slot)]
        task = asyncio.create_task(self._in_turn(before, job, slot, arguments))
        self.children[task] = (job, slot)
        task.add_done_callback(self._ended)
        return task

    async def _in_turn(self, before: Sequence[asyncio.Task[int]], job: str, slot: str, arguments: Sequence[str]) -> int:
        if before:
            await asyncio.wait(before)
        return REFUSED if self.draining else await self._child(job, slot, arguments)

    def _ended(self, task: asyncio.Task[int]) -> None:
        self.children.pop(task, None)
        self.resting.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.get().error("a run could not be followed to its end", exc_info=error)
        self.on_end()

    async def _child(self, job: str, slot: str, arguments: Sequence[str]) -> int:
        noted: Callable[[], Awaitable[None]]
        try:
            code = await self.processes.run((job, slot), "--config", str(self.work.file), "run", job, *arguments)
            noted = partial(self._note_end, job, slot, code)
        except OSError as error:
            code, noted = FAILED, partial(self._note_unbegun, job, slot, error)
        self.codes.append(code)
        try:
            await noted()
        except Stop as error:  # the lease runs out by itself, and a later round finds what is left
            logs.get().error("the end of a run could not be noted", job=job, slot=slot, error=str(error))
        return code

    async def _note_unbegun(self, job: str, slot: str, error: OSError) -> None:
        """Give the slot back: a later look takes it up again, for as long as it would any that was interrupted."""
        self.unbegun[job, slot] = self.work.clock.monotonic()
        why, me, now = f"its process could not be begun: {error.strerror or error}", _me(), self.work.clock.now()
        logs.get().error("the process of a run could not be begun", job=job, slot=slot, error=str(error))
        await self.work.ledger.write(lambda connection: give_back(connection, job, slot, me, why, now))
        await self._alarm(
            "unbegun", job, f"{job} {slot}: {why}; what is due is tried again each minute: {remedy_of(error)}"
        )

    async def _note_end(self, job: str, slot: str, code: int) -> None:
        logs.get().info("run process ended", job=job, slot=slot, exit_code=code)
        if code:  # also one that was asked to end before it had opened its run
            me, now = _me(), self.work.clock.now()
            await self.work.ledger.write(lambda connection: let_go(connection, job, slot, me, now))
        if not self.draining and code not in TOLD:
            await self._tell_death(job, slot, code)

    async def _tell_death(self, job: str, slot: str, code: int) -> None:
        """A run that ended by itself has told what was wrong; nobody else tells of one that could not."""
        row = await self.work.ledger.read(latest_run, job, slot)
        if row is not None and row["status"] == "running" and await may_sweep(self.work, job, slot):
            message = (
                f"the process of {job} {slot} ended with {code} before its run was over; the slot is taken up again "
                f"within a minute; to see why: overnight run {job} --slot {slot}"
            )
            await self._alarm("died", job, message)


def _me() -> tuple[str, int]:
    return HOST, os.getpid()


def _known(
    connection: Connection, listed: Mapping[str, Listed], now: datetime
) -> tuple[list[tuple[str, str]], list[Decision], dict[str, RowMapping], dict[str, datetime]]:
    """What a clock that was ahead has left, what an edit has done away with, the jobs' entries and latest occurrences.

    What killed processes had reserved is settled on this occasion.
    """
    reap(connection, now)
    ahead = righted(connection, now)
    return ahead, outdated(connection, listed, now), register(connection, listed, now), latest(connection, now)


def _timed(settings: JobSettings, entry: RowMapping, last: datetime | None) -> Timed:
    paused = (entry["pause_reason"] or "no reason given") if entry["paused_at"] else None
    return Timed(
        settings.name, settings.trigger(), entry["effective_since"], last, settings.catch_up, settings.max_age, paused
    )
