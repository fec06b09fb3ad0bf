"""The first real mail is asked for: a relay that nobody has confirmed gets no message but those to the operators.

What was confirmed is kept in the ledger by the relay's place, host and port; another relay is asked for anew.
"""

import asyncio
import hashlib
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, select

from overnight.clock import iso
from overnight.errors import Stop
from overnight.ledger import Ledger
from overnight.ledger.statements import put
from overnight.ledger.tables import meta

NAME_MAX = 64  # characters of meta.name


class Consent(Protocol):
    """Whether mail may leave."""

    async def check(self, remedy: str) -> None:
        """Raise Stop when it may not; `remedy` is the command that asks, and goes on."""
        ...


class Free:
    """Nobody has to be asked: a folder, a rehearsal that was asked for by itself, an alert."""

    async def check(self, remedy: str) -> None:
        """Let it pass."""


class Asked:
    """A relay, which somebody has to have confirmed."""

    def __init__(self, ledger: Ledger, place: str) -> None:
        self._ledger = ledger
        self._place = place
        self._given = False
        self._asking = asyncio.Lock()

    async def check(self, remedy: str) -> None:
        """Raise Stop while nobody has; once somebody has, the ledger is not asked again."""
        async with self._asking:  # by all workers at once it would be asked as often
            self._given = self._given or await self._ledger.read(is_confirmed, self._place)
        if not self._given:
            raise Stop(
                f"nobody was mailed: that mail goes to people through {self._place} was never confirmed; to confirm it "
                f"once, and go on: {remedy}",
                code="not_confirmed",
            )


def is_confirmed(connection: Connection, place: str) -> bool:
    """Whether somebody said that mail may go there."""
    return connection.execute(select(meta.c.name).where(meta.c.name == _name(place))).first() is not None


def keep(connection: Connection, place: str, now: datetime) -> None:
    """Note that somebody said so."""
    put(connection, meta, {"name": _name(place), "value": iso(now)})


def _name(place: str) -> str:
    name = f"confirmed:{place}"
    return name if len(name) <= NAME_MAX else f"confirmed:{hashlib.sha256(place.encode()).hexdigest()[:48]}"
