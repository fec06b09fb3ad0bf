"""What turns everybody away, such as a wrong key: nobody waits in vain for a request that nobody answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from overnight.errors import Stop

ALL = ""  # everything another side offers


class Refusals:
    """The refusals of one other side: whoever waits for a request hears of one at once, and sends none.

    `of` is what is asked for, a model say: one that does not exist says nothing about the others.
    """

    def __init__(self) -> None:
        self._known: dict[str, Stop] = {}
        self._waiting: dict[asyncio.Timeout, str] = {}

    def tell(self, error: Stop, of: str = ALL) -> None:
        """Turn away all who wait for `of`, and all who come."""
        self._known.setdefault(of, error)
        for timeout in [each for each, name in self._waiting.items() if of in (ALL, name)]:
            del self._waiting[timeout]
            timeout.reschedule(0)

    @asynccontextmanager
    async def waiting(self, of: str) -> AsyncIterator[Callable[[], None]]:
        """Wait for leave to send within, call what this gives, then send. Raises the Stop that was told of."""
        self._check(of)
        try:
            async with asyncio.timeout(None) as timeout:
                self._waiting[timeout] = of

                def send() -> None:
                    self._waiting.pop(timeout, None)
                    timeout.reschedule(None)
                    self._check(of)

                try:
                    yield send
                finally:
                    self._waiting.pop(timeout, None)
        except TimeoutError:
            self._check(of)
            raise

    def _check(self, of: str) -> None:
        for name in (ALL, of):
            if known := self._known.get(name):
                raise Stop(str(known), code=known.code) from known
