"""Rate limits: token buckets that callers wait for in the order they came.

A bucket lets `burst + rate x t` through in every window of `t` seconds, never more. The burst is ten seconds' worth of
the rate. A single request heavier than the burst is not refused: it waits until the bucket holds all of it, so for
such a bucket the burst is its heaviest request. What exceeds the limit of a whole period is refused, as no wait helps.
Waiting here does not count in an item's timeout.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from overnight.clock import Clock
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, Permanent

BURST = 10.0  # seconds
LONGEST_WAIT = 60.0  # seconds a worker may be held; beyond it the item is taken up again by a sweep
SLICE = 1.0  # seconds asleep at most: what others give back shortens the wait
DUST = 1e-6  # tokens; below it is rounding


class Rate(Protocol):
    """So many (`count`) per so many seconds (`per`)."""

    @property
    def count(self) -> int:
        """Requests, tokens or messages."""
        ...

    @property
    def per(self) -> int:
        """Seconds."""
        ...


class Bucket:
    """One limit of this process. Waiters hold the lock in turn, hence in order and without overtaking."""

    def __init__(self, name: str, rate: Rate, clock: Clock) -> None:
        self.name = name
        self._most = rate.count
        self._period = rate.per
        self._rate = rate.count / rate.per
        self._burst = min(max(self._rate * BURST, 1.0), float(rate.count))
        self._clock = clock
        self._tokens = self._burst
        self._at = clock.monotonic()
        self._queued = 0.0
        self._turn = asyncio.Lock()

    async def acquire(self, weight: int) -> None:
        """Wait for `weight` tokens and take them.

        Raises Permanent for a weight beyond the whole limit, Deferred when the wait would hold the worker too long.
        """
        if weight > self._most:
            raise Permanent(
                f"{self.name}: {weight} at once can never pass a limit of {self._most} per {self._period} s; "
                "raise the limit in schedule.yaml or make the request smaller",
                code="over_limit",
            )
        wait = (self._queued + weight - self._level()) / self._rate
        if wait > LONGEST_WAIT:
            raise Deferred(f"{self.name}: the queue is {wait:.0f} s long", code="rate_limit", after=wait)
        self._queued += weight
        try:
            async with self._turn:
                await self._filled(weight)
                self._tokens -= weight
        finally:
            self._queued -= weight

    def settle(self, taken: int, used: int) -> None:
        """Give back what was taken too much; take what was used beyond it, which the next waiters pay for."""
        self._tokens += taken - used

    async def _filled(self, weight: int) -> None:
        """Wait until the bucket holds `weight`; who has the turn alone refills, and lets it grow as far as needed."""
        while True:
            now = self._clock.monotonic()
            most = max(self._burst, float(weight))
            self._tokens = min(most, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if (missing := weight - self._tokens) <= DUST:
                return
            await self._clock.sleep(min(missing / self._rate, SLICE))

    def _level(self) -> float:
        level = self._tokens + (self._clock.monotonic() - self._at) * self._rate
        return level if self._turn.locked() else min(level, self._burst)


@dataclass(slots=True)
class Grant:
    """What a request was let through with; `settle` it with what was really used."""

    taken: dict[Bucket, int] = field(default_factory=dict)

    def settle(self, **used: int) -> None:
        """Correct the buckets by real usage; a bucket that is not named keeps what was taken."""
        for bucket, taken in self.taken.items():
            bucket.settle(taken, used.get(bucket.name.rpartition(".")[2], taken))

    def refund(self) -> None:
        """Give all back: the request was never sent."""
        for bucket, taken in self.taken.items():
            bucket.settle(taken, 0)


class Dependency:
    """The limits of one other side (anthropic, github, smtp): all its buckets, and one pause for all callers."""

    def __init__(self, buckets: Mapping[str, Bucket], clock: Clock) -> None:
        self._buckets = buckets
        self._clock = clock
        self._resumes = clock.monotonic()

    async def acquire(self, **weights: int) -> Grant:
        """Wait for one request of these weights (`requests=1, input_tokens=900`); what has no limit is let through.

        Raises Deferred when the wait would hold the worker too long, Permanent when no wait helps.
        """
        grant = Grant()
        try:
            async with off_the_clock():
                await self._resumed()
                for kind, bucket in self._buckets.items():
                    if weight := weights.get(kind, 0):
                        await bucket.acquire(weight)
                        grant.taken[bucket] = weight
                await self._resumed()
        except BaseException:
            grant.refund()
            raise
        return grant

    def pause(self, seconds: float) -> None:
        """Hold all callers: the other side asked for it."""
        self._resumes = max(self._resumes, self._clock.monotonic() + seconds)

    async def _resumed(self) -> None:
        while (wait := self._resumes - self._clock.monotonic()) > DUST:
            if wait > LONGEST_WAIT:
                raise Deferred(f"asked to wait another {wait:.0f} s", code="rate_limit", after=wait)
            await self._clock.sleep(wait)


class Limits:
    """The limits of this process by dependency; a dependency without any lets everything through."""

    def __init__(self, rates: Mapping[str, Mapping[str, Rate]], clock: Clock) -> None:
        self._rates = rates
        self._clock = clock
        self._known: dict[str, Dependency] = {}

    def of(self, dependency: str) -> Dependency:
        """Return the limits of `dependency`; the same object for all callers."""
        if dependency not in self._known:
            rates = self._rates.get(dependency, {})
            buckets = {kind: Bucket(f"{dependency}.{kind}", rate, self._clock) for kind, rate in rates.items()}
            self._known[dependency] = Dependency(buckets, self._clock)
        return self._known[dependency]
