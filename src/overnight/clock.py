"""The ports for time and chance: the engine reads clock, sleep and randomness only here.

A simulated year runs in seconds because tests hand in a clock of their own.
"""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol


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


def iso(instant: datetime) -> str:
    """UTC ISO 8601 with milliseconds and `Z`: the one form in logs, CSVs and JSON."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
