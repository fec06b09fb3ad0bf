"""One request to another side: what it takes from the limits, what it gives back, and who hears of a pause."""

import asyncio
from dataclasses import dataclass

import pytest

from overnight.dependency import Dependencies, Dependency
from overnight.errors import Deferred, Transient
from tests.slots import ManualClock


@dataclass(frozen=True)
class Rate:
    """Ten at once, one a second."""

    count: int = 60
    per: int = 60


def another_side(clock: ManualClock) -> Dependency:
    return Dependencies({"api": {"requests": Rate()}}, clock).of("api")


async def failing(api: Dependency, error: Transient) -> None:
    with pytest.raises(Transient):
        async with api.request(requests=1):
            raise error


async def test_who_is_let_through_by_the_limits_and_not_by_the_breaker_gives_back_what_it_took() -> None:
    clock = ManualClock()
    api = another_side(clock)
    for _ in range(5):
        await failing(api, Transient("no connection", code="connection"))
    clock.move(70)  # the circuit may be probed, and the bucket is full again
    over = asyncio.Event()

    async def caller() -> str:
        try:
            async with api.request(requests=1):
                await over.wait()
        except Deferred:
            return "deferred"
        return "sent"

    callers = [asyncio.create_task(caller()) for _ in range(10)]
    while sum(each.done() for each in callers) < 9:  # noqa: ASYNC110  they end by themselves
        await asyncio.sleep(0)
    over.set()
    assert sorted(await asyncio.gather(*callers)) == ["deferred"] * 9 + ["sent"]
    clock.slept.clear()
    for _ in range(9):
        async with api.request(requests=1):
            pass
    assert clock.slept == [], "the nine that were not sent have left their places"
    async with api.request(requests=1):
        pass
    assert sum(clock.slept) == pytest.approx(1)


async def test_a_pause_of_a_request_that_was_sent_holds_the_next_one() -> None:
    clock = ManualClock()
    api = another_side(clock)
    await failing(api, Transient("slow down", code="http_429", after=30))
    async with api.request(requests=1):
        assert clock.monotonic() == pytest.approx(30)


async def test_a_request_that_fails_keeps_its_place() -> None:
    clock = ManualClock()
    api = another_side(clock)
    for _ in range(10):
        await failing(api, Transient("slow down", code="http_429"))
    assert clock.slept == []
    async with api.request(requests=1):
        assert sum(clock.slept) == pytest.approx(1)
