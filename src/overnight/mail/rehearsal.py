"""Rehearsing a mail for real: over the same way out, but to the addresses of who rehearses, and to nobody else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overnight.ledger.outsiders import STAND_IN
from overnight.mail.mailer import Mailer, Recipient
from overnight.outcome import Scope

MARK = "[Test] "  # before each subject


@dataclass(frozen=True, slots=True)
class StandIn:
    """Who gets a mail in the place of a subscriber."""

    id: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Diverted:
    """Sends whatever a job sends to these addresses instead: to the same one if it is among them, else to the first."""

    mailer: Mailer
    addresses: tuple[str, ...]

    async def send(
        self, scope: Scope, to: Recipient | str, template: str, context: Mapping[str, Any], *, archive: bool = False
    ) -> str:
        """Send one test; returns its Message-ID. Raises what `Mailer.send` raises."""
        address = self._instead(to if isinstance(to, str) else to.email)
        recipient = address if isinstance(to, str) else StandIn(STAND_IN, address, to.name)
        return await self.mailer.send(scope, recipient, template, context, archive=archive)

    def _instead(self, address: str) -> str:
        return address if address in self.addresses else self.addresses[0]
