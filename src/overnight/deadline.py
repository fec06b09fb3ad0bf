"""The deadline of an item, which stands still while the item waits its turn.

Waiting for a budget, a bucket or Retry-After is not the item's fault and does not count in its `item_timeout`. Nor does
a request to a model, which has a deadline of its own: cut short by the item's, it would tell the breaker nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context

_current: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Allow the block `seconds` of work. Raises TimeoutError."""
    async with asyncio.timeout(seconds) as timeout:
        token = _current.set(timeout)
        try:
            yield
        finally:
            _current.reset(token)


def without_deadline() -> Context:
    """A context for work that belongs to no item: it is not stopped when the item that began it is out of time."""
    context = copy_context()
    context.run(_current.set, None)
    return context


@asynccontextmanager
async def off_the_clock() -> AsyncIterator[None]:
    """Stop the current item's deadline for the length of the block."""
    timeout = _current.get()
    if timeout is None or timeout.when() is None:
        yield
        return
    loop = asyncio.get_running_loop()
    left = (timeout.when() or 0) - loop.time()
    timeout.reschedule(None)
    try:
        yield
    finally:
        if not timeout.expired():
            timeout.reschedule(loop.time() + left)
