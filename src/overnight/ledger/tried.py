"""Which items may have calls in the journal: a look for paid answers costs as much as all other rows of a call.

Only the holder of a slot's lease begins calls in it. So what the journal held when it was taken over, and what was
asked since, is all there is.
"""

import asyncio
from collections.abc import Iterable

from sqlalchemy import Connection, select

from overnight.ledger import Ledger
from overnight.ledger.tables import call
from overnight.outcome import Scope

PLACES = 1 << 23  # bits, hence a megabyte: of a million items 6 % are looked up for nothing


class Tried:
    """Items of the slots of a run, in a bit each: a few are taken for one another, none is forgotten."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reading = asyncio.Lock()
        self._slots: dict[tuple[str, str, int], Marks] = {}

    async def before(self, scope: Scope) -> bool:
        """Note an item; tells whether it may have been asked about before, by whatever process."""
        slot = (scope.job, scope.slot, scope.fence)
        if slot not in self._slots:
            async with self._reading:
                if slot not in self._slots:
                    self._slots[slot] = await self._ledger.read(_tried, scope.job, scope.slot)
        return self._slots[slot].add(scope.key)


class Marks:
    """A set of texts that may hold more than was added."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._bits = bytearray(PLACES // 8)
        for key in keys:
            self.add(key)

    def add(self, key: str) -> bool:
        """Add a text; tells whether it may have been there."""
        byte, bit = divmod(hash(key) % PLACES, 8)
        known = bool(self._bits[byte] & 1 << bit)
        self._bits[byte] |= 1 << bit
        return known


def _tried(connection: Connection, job: str, slot: str) -> Marks:
    query = select(call.c.key).where(call.c.job == job, call.c.slot == slot).distinct()
    return Marks(connection.execute(query.execution_options(stream_results=True)).scalars())
