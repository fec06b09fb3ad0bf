"""What `serve` and `tick` do beside starting runs: delete what is old once a day, and bear a ledger in trouble."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from overnight import logs
from overnight.ledger import LedgerFault
from overnight.ports import operator_alerts
from overnight.retention import claim, retire
from overnight.runner import Workplace

PASSING = ("locked", "full")  # faults of the ledger that may be over in a minute


@dataclass(slots=True)
class Upkeep:
    """Retention, beside everything else; one process a day does it."""

    task: asyncio.Task[None] | None = None

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
