"""What `serve` and `tick` do beside starting runs: alerts, reports that are owed, old rows, and a ledger in trouble.

A round waits for nobody outside: a webhook or a store that hangs must not hold up a job that is due.
"""

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from overnight import logs
from overnight.alerts import Alarm, Channel
from overnight.alerts.rules import scheduled, spooled
from overnight.alerts.telling import due
from overnight.ledger import LedgerFault
from overnight.ledger.faults import Kind
from overnight.ports import channels_of, open_dependencies, operator_alerts
from overnight.publishing import Owing, drain_spool
from overnight.retention import claim, retire
from overnight.runner import Workplace
from overnight.storage import waiting

EVALUATE_EVERY = 55.0  # seconds; a round may come each second
PASSING = ("locked", "full")  # faults of the ledger that may be over in a minute
HURRY = 5.0  # seconds: less than a container is given to stop
RETENTION, REPORTS = "retention", "reports"


@dataclass(slots=True)
class Beside:
    """What goes on beside the rounds, of each name one task at a time; a later round begins anew what has failed."""

    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def begin(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """Begin, unless the one before of this name still goes on."""
        if name not in self.tasks:
            self.tasks[name] = task = asyncio.create_task(_borne(name, act))
            task.add_done_callback(lambda _: self.tasks.pop(name))

    def cancel(self, name: str) -> None:
        """End it, if it goes on."""
        if name in self.tasks:
            self.tasks[name].cancel()

    async def settle(self) -> None:
        """Wait for all."""
        while self.tasks:
            await asyncio.wait(set(self.tasks.values()))

    async def abandon(self) -> None:
        """End all."""
        for name in self.tasks:
            self.cancel(name)
        await self.settle()


async def _borne(name: str, act: Callable[[], Awaitable[None]]) -> None:
    try:
        await act()
    except Exception as error:  # noqa: BLE001  there is another round; a fault of the ledger is told by that
        logs.get().error("what goes on beside the rounds has failed", what=name, exc_info=error)


@dataclass(slots=True)
class Upkeep:
    """Alert rules each minute; telling, reports and retention beside everything else.

    `fault` is the trouble of the ledger that has been told and is not over; `ending` is true once we are asked to end.
    """

    beside: Beside = field(default_factory=Beside)
    evaluated_at: float = -math.inf
    owing: Owing = field(default_factory=Owing)
    fault: Kind | None = None
    ending: bool = False

    async def watch(self, work: Workplace) -> None:
        """Evaluate the alert rules if a minute has passed, and begin to tell what is to be told."""
        now = work.clock.monotonic()
        if now - self.evaluated_at >= EVALUATE_EVERY:
            self.evaluated_at = now
            await work.note(await _found(work))
        await self.tell(work)

    async def tell(self, work: Workplace) -> None:
        """Begin to tell what is untold, and again what a channel has not taken; each channel by itself.

        What is due for a channel that is still busy stays so, and is told after that.
        """
        for channel in await due(work.ledger, work.clock, channels_of(work.schedule)):
            self.beside.begin(channel.id, partial(_serve, work, channel))

    async def report(self, work: Workplace, *, idle: bool) -> None:
        """Begin to make the reports that dead runs owe, and to upload what waits.

        While a run goes on (not `idle`) it will do the first at its own end.
        """
        owed = idle and await work.ledger.read(self.owing.due, work.clock.now())
        if owed or waiting(work.root / work.schedule.reports.spool):
            self.beside.begin(REPORTS, partial(self._report, work, owed=owed))

    async def retire(self, work: Workplace) -> None:
        """Begin to delete what is older than its retention, if it is our turn today."""
        now = work.clock.now()
        if await work.ledger.write(lambda connection: claim(connection, now)):
            self.beside.begin(RETENTION, partial(_retire, work))

    def stop(self) -> None:
        """Be brief from now on, and leave the rest of the old rows to the next day."""
        self.ending = True
        self.beside.cancel(RETENTION)

    async def settle(self, work: Workplace) -> None:
        """Wait for what was begun, and tell what that and the runs have found.

        Who is asked to end waits for a moment alone: what was not told or uploaded is due for the next start.
        """
        try:
            async with asyncio.timeout(HURRY if self.ending else None):
                await self.beside.settle()
                await self.tell(work)
                await self.beside.settle()
        except TimeoutError:
            await self.beside.abandon()

    async def guard(self, work: Workplace, look: Callable[[], Awaitable[None]]) -> None:
        """One round. One that fails is told and tried again: the process that wakes the others must not die.

        Only a ledger that cannot be trusted ends it, for a new process looks at the file first. A full disk is tried
        again.
        """
        work.ledger.faults.forgive()
        try:
            await look()
            self.fault = None
        except LedgerFault as fault:
            logs.get().error("the ledger cannot be written", error=str(fault))
            if fault.kind != self.fault:
                self.fault = fault.kind
                await _borne("last words", partial(_last_words, work, fault))
            if fault.kind not in PASSING:
                raise
        except Exception as error:  # noqa: BLE001
            logs.get().error("looking for due jobs failed; it is tried again within a minute", exc_info=error)

    async def _report(self, work: Workplace, *, owed: bool) -> None:
        async with open_dependencies(work.schedule, work.ledger, work.clock) as dependencies:
            if owed:
                await self.owing.publish(work.root, work.schedule, work.ledger, dependencies, work.note)
            await drain_spool(work.root, work.schedule, dependencies, work.note)


async def _serve(work: Workplace, channel: Channel) -> None:
    async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
        await alerter.serve(channel)


async def _found(work: Workplace) -> list[Alarm]:
    now = work.clock.now()
    found = await work.ledger.read(scheduled, work.schedule, now)
    return [*found, spooled(work.root / work.schedule.reports.spool, work.schedule)]


async def _retire(work: Workplace) -> None:
    terms = {name: job.retention for name, job in work.schedule.jobs.items()}
    deleted = await retire(work.ledger, terms)
    if deleted.rows:
        logs.get().info("old items were deleted", **dataclasses.asdict(deleted))


async def _last_words(work: Workplace, fault: LedgerFault) -> None:
    """Try to tell the operators what cannot be noted."""
    async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
        await alerter.last_words(f"overnight serve: {fault}")
