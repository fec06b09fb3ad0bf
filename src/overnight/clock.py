"""The ports for time and chance: the engine reads clock, sleep and randomness only here.

A simulated year runs in seconds because tests hand in a clock of their own.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol

_chance: ContextVar[Callable[[int], bytes]] = ContextVar("chance", default=os.urandom)


class Clock(Protocol):
    """Time and chance as the engine sees them."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less yields once."""
        ...

    def random(self) -> float:
        """Uniform in [0, 1); for jitter only, never for secrets."""
        ...


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(max(seconds, 0))

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return random.random()  # noqa: S311  jitter, not cryptography


def token(size: int) -> str:
    """`size` random bytes in hexadecimal, for names that nobody shall guess or give twice."""
    return _chance.get()(size).hex()


@contextmanager
def chance(source: Callable[[int], bytes]) -> Iterator[None]:
    """Draw the tokens of this block from `source(size)`: a simulation gives the same names every time."""
    before = _chance.set(source)
    try:
        yield
    finally:
        _chance.reset(before)


def iso(instant: datetime) -> str:
    """UTC ISO 8601 with milliseconds and `Z`: the one form in logs, CSVs and JSON."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"
