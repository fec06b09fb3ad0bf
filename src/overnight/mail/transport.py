"""What a mail transport is: it takes finished bytes and says definitely what became of them, or that nobody knows."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

Intent = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One message ready to go, with its envelope.

    `folder` is where a folder transport files it: job and slot. Addresses are ASCII and checked.
    """

    message_id: str
    sender: str
    recipient: str
    data: bytes
    folder: tuple[str, str]
    html: str | None = None


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
