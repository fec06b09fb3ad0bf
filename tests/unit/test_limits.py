"""Rate limits: what passes in any window, in which order, and what is refused."""

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overnight.errors import Deferred, Permanent
from overnight.limits import Limits


@dataclass(frozen=True)
class Rate:
    """So many per so many seconds."""

    count: int
    per: int


class Virtual:
    """A clock that jumps to the next sleeper when nobody else has anything to do."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._order), awake))
        await awake.wait()

    async def run(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run all of `work` to its end; returns results and errors."""
        tasks = [asyncio.create_task(each) for each in work]
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self.time, _, awake = heapq.heappop(self._sleepers)
                awake.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def at(clock: Virtual, when: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Await `work` when it is time."""
    if when:
        await clock.sleep(when)
    return await work


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60)), min_size=1, max_size=25),
    st.integers(60, 600),
)
def test_no_window_lets_more_through_than_burst_and_rate(events: list[tuple[int, int]], count: int) -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(count, 60)}}, clock).of("api")
    granted: list[tuple[float, int]] = []

    async def caller(weight: int) -> None:
        await limit.acquire(tokens=weight)
        granted.append((clock.time, weight))

    asyncio.run(clock.run(*(at(clock, when, caller(weight)) for when, weight in events)))
    rate = count / 60
    burst = max(rate * 10, *(weight for _, weight in events))
    for start, first in enumerate(granted):
        total = 0
        for moment, weight in granted[start:]:
            total += weight
            assert total <= burst + rate * (moment - first[0]) + 1e-3


async def test_callers_pass_in_the_order_they_came() -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")
    order: list[int] = []

    async def caller(number: int, weight: int) -> None:
        await limit.acquire(tokens=weight)
        order.append(number)

    await clock.run(*(caller(number, weight) for number, weight in enumerate([10, 8, 1, 1, 5, 1])))
    assert order == [0, 1, 2, 3, 4, 5]


async def test_waiters_that_give_up_cost_the_others_nothing() -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")

    async def patient() -> float:
        await limit.acquire(tokens=10)
        return clock.time

    async def gone() -> None:
        waiters = [asyncio.create_task(limit.acquire(tokens=5)) for _ in range(5)]
        await clock.sleep(0.5)
        for waiter in waiters:
            waiter.cancel()

    await limit.acquire(tokens=10)
    [_, at_last] = await clock.run(gone(), at(clock, 0.6, patient()))
    assert at_last == pytest.approx(10, abs=0.1)


async def test_what_was_not_used_lets_others_pass_sooner() -> None:
    clock = Virtual()
    limit = Limits({"api": {"output_tokens": Rate(60, 60)}}, clock).of("api")
    grant = await limit.acquire(requests=1, output_tokens=10)

    async def waiting() -> float:
        await limit.acquire(output_tokens=10)
        return clock.time

    async def done() -> None:
        grant.settle(output_tokens=1)

    [waited, _] = await clock.run(waiting(), at(clock, 0.5, done()))
    assert 0.9 < waited < 2.1


async def test_a_pause_holds_every_caller() -> None:
    clock = Virtual()
    limit = Limits({}, clock).of("api")
    limit.pause(12)

    async def caller() -> float:
        await limit.acquire(requests=1)
        return clock.time

    assert await clock.run(caller(), caller()) == [12, 12]


async def test_a_long_pause_and_a_long_queue_free_the_worker() -> None:
    clock = Virtual()
    limits = Limits({"api": {"tokens": Rate(600, 600)}}, clock)
    limits.of("other").pause(90)
    with pytest.raises(Deferred) as paused:
        await limits.of("other").acquire(requests=1)
    with pytest.raises(Deferred) as queued:
        await limits.of("api").acquire(tokens=200)
    assert (paused.value.after, queued.value.after) == (90, 190)


async def test_what_no_wait_can_let_through_is_refused() -> None:
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, Virtual()).of("api")
    with pytest.raises(Permanent, match=r"61 at once can never pass a limit of 60 per 60 s"):
        await limit.acquire(tokens=61)


async def test_a_refusal_by_one_bucket_gives_back_the_others() -> None:
    clock = Virtual()
    limit = Limits({"api": {"requests": Rate(6, 60), "tokens": Rate(60, 60)}}, clock).of("api")
    with pytest.raises(Permanent):
        await limit.acquire(requests=1, tokens=100)
    await clock.run(limit.acquire(requests=1, tokens=1))
    assert clock.time == 0


async def test_without_limits_everything_passes_at_once() -> None:
    clock = Virtual()
    limits = Limits({}, clock)
    await asyncio.gather(*(limits.of("api").acquire(requests=1, tokens=10**9) for _ in range(100)))
    assert clock.time == 0
