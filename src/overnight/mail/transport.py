"""What a mail transport is: it takes finished bytes and says definitely what became of them, or that nobody knows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

Intent = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One message ready to go, with its envelope.

    `sender` is the return path, where bounces go. `folder` is where a folder transport files it: job and slot.
    Addresses are checked, and ASCII unless `utf8`: then only a server that offers SMTPUTF8 may get it.
    """

    message_id: str
    sender: str
    recipient: str
    data: bytes
    folder: tuple[str, str]
    html: str | None = None
    utf8: bool = False

    @property
    def envid(self) -> str:
        """Which mail a notification is about (RFC 3461): the left side of the Message-ID, hexadecimal."""
        return self.message_id.strip("<>").partition("@")[0]

    @property
    def orcpt(self) -> str:
        """Whom a notification is about, in the form of RFC 3461 (RFC 6533 for an address that is not ASCII)."""
        kind = "utf-8" if self.utf8 else "rfc822"
        return f"{kind};" + "".join(f"+{ord(c):02X}" if c in "+=\\" else c for c in self.recipient)


class Transport(Protocol):
    """A way out.

    `real` says that people may get this mail; `place` is a short text for people, without a password; `reconciles`
    says that `delivered` knows.
    """

    real: bool
    place: str
    reconciles: bool

    async def send(self, letter: Letter, intent: Intent) -> None:
        """Deliver once; await `intent` when the next step may make the message irrevocable, and not before.

        Raises Deferred or Permanent when it surely did not go out, Unknown when nobody can tell, Stop when no message
        will.
        """
        ...

    async def delivered(self, letter: Letter) -> bool:
        """Whether this very message went out earlier; only asked when `reconciles`."""
        ...

    async def close(self) -> None:
        """Finish and let go."""
        ...
