"""What `serve` and `tick` do beside starting runs: alerts, old rows once a day, and a ledger in trouble."""

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from overnight import logs
from overnight.alerts import Alarm
from overnight.alerts.book import anything_to_tell
from overnight.alerts.rules import scheduled, spooled, standing
from overnight.alerts.telling import noted
from overnight.ledger import LedgerFault
from overnight.ports import operator_alerts
from overnight.publishing import Owing
from overnight.retention import claim, retire
from overnight.runner import Workplace

EVALUATE_EVERY = 55.0  # seconds; a round may come each second
PASSING = ("locked", "full")  # faults of the ledger that may be over in a minute


@dataclass(slots=True)
class Upkeep:
    """Alert rules each minute; and retention, beside everything else, which one process a day does."""

    task: asyncio.Task[None] | None = None
    evaluated_at: float = -math.inf
    owing: Owing = field(default_factory=Owing)

    async def watch(self, work: Workplace) -> None:
        """Evaluate the alert rules if a minute has passed, and tell what is to be told."""
        now = work.clock.monotonic()
        if now - self.evaluated_at >= EVALUATE_EVERY:
            self.evaluated_at = now
            await self.note(work, await _found(work))
        await self.tell(work)

    async def note(self, work: Workplace, alarms: Sequence[Alarm]) -> None:
        """Keep it in mind; it is told by the end of the round."""
        await noted(work.ledger, work.clock, work.redactor, alarms, work.schedule.alerts.repeat)

    async def tell(self, work: Workplace) -> None:
        """Tell what is untold, and again what a channel has not taken."""
        if await work.ledger.read(anything_to_tell, work.clock.now()):
            async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
                await alerter.tell()

    async def begin(self, work: Workplace) -> None:
        """Begin, if it is our turn today."""
        now = work.clock.now()
        if await work.ledger.write(lambda connection: claim(connection, now)):
            self.task = asyncio.create_task(_retire(work))

    def stop(self) -> None:
        """Leave the rest to the next day."""
        if self.task is not None:
            self.task.cancel()

    async def settle(self) -> None:
        """Wait for what was begun."""
        if self.task is not None:
            await asyncio.wait({self.task})


async def _found(work: Workplace) -> list[Alarm]:
    now = work.clock.now()
    found = [alarm for rules in (standing, scheduled) for alarm in await work.ledger.read(rules, work.schedule, now)]
    return [*found, spooled(work.root / work.schedule.reports.spool, work.schedule)]


async def _retire(work: Workplace) -> None:
    terms = {name: job.retention for name, job in work.schedule.jobs.items()}
    try:
        deleted = await retire(work.ledger, terms)
    except Exception as error:  # noqa: BLE001  there is another day; a fault of the file is told by the next round
        logs.get().error("old items could not be deleted", exc_info=error)
        return
    if deleted.rows:
        logs.get().info("old items were deleted", **dataclasses.asdict(deleted))


async def guarded(work: Workplace, look: Callable[[], Awaitable[None]]) -> None:
    """One round. One that fails is told and tried again in a minute: the process that wakes the others must not die.

    Only a ledger that cannot be trusted ends it, for a new process looks at the file first. A full disk is tried again.
    """
    was_full = work.ledger.faults.found is not None
    work.ledger.faults.forgive()
    try:
        await look()
    except LedgerFault as fault:
        logs.get().error("the ledger cannot be written", error=str(fault))
        if not was_full:
            await _tell(work, fault)
        if fault.kind not in PASSING:
            raise
    except Exception as error:  # noqa: BLE001
        logs.get().error("looking for due jobs failed; it is tried again within a minute", exc_info=error)


async def _tell(work: Workplace, fault: LedgerFault) -> None:
    """Try to tell the operators what cannot be noted."""
    async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
        await alerter.last_words(f"overnight serve: {fault}")
