"""The deadline of an item, which stands still while the item waits its turn.

Waiting for a budget, a bucket or Retry-After is not the item's fault and does not count in its `item_timeout`. Nor does
a request to a model, which has a deadline of its own: cut short by the item's, it would tell the breaker nothing.
"""

import asyncio
from contextvars import Context, ContextVar, copy_context
from types import TracebackType

_current: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


class deadline:  # noqa: N801  used like a function; a generator would cost each item 10 us
    """Allow the block `seconds` of work. Raises TimeoutError."""

    __slots__ = ("_timeout", "_token")

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._token = _current.set(self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        await self._timeout.__aexit__(kind, error, trace)


def without_deadline() -> Context:
    """A context for work that belongs to no item: it is not stopped when the item that began it is out of time."""
    context = copy_context()
    context.run(_current.set, None)
    return context


class off_the_clock:  # noqa: N801
    """Stop the current item's deadline for the length of the block."""

    __slots__ = ("_left", "_timeout")

    async def __aenter__(self) -> None:
        timeout = _current.get()
        self._timeout = timeout if timeout is not None and timeout.when() is not None else None
        if self._timeout is not None:
            self._left = (self._timeout.when() or 0) - asyncio.get_running_loop().time()
            self._timeout.reschedule(None)

    async def __aexit__(self, *error: object) -> None:
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left)
