"""Breakers: when they open, who may probe, what closes them, and what is none of their business."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overnight.breaker import Breaker, Breakers, verdict
from overnight.dependency import Dependencies
from overnight.errors import Deferred, Invalid, Permanent, Skip, Stop, Transient, Unknown
from overnight.ledger.flow import InMemory
from tests.slots import ManualClock, open_ledger


async def tried(breaker: Breaker, ending: Callable[[], Awaitable[Any]]) -> str:
    """Send one request; returns `sent`, `deferred` or the error."""
    try:
        async with breaker.guard():
            await ending()
    except Deferred as error:
        return "deferred" if error.code == "breaker_open" else "failed"
    except Exception as error:  # noqa: BLE001  the test asks which
        return type(error).__name__
    return "sent"


async def fine() -> None:
    """Answer."""


async def down() -> None:
    """Fail as a dead server does."""
    raise Transient("no connection", code="connection")


async def opened(breaker: Breaker) -> None:
    for _ in range(5):
        await tried(breaker, down)
    assert breaker.state == "open"


async def test_five_failures_in_a_row_open_it_and_the_items_are_deferred() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    assert [await tried(breaker, down) for _ in range(6)] == ["Transient"] * 5 + ["deferred"]
    with pytest.raises(Deferred, match="api has failed too often") as refused:
        await breaker.check()
    assert refused.value.after is not None
    assert 60 <= refused.value.after <= 66


async def test_half_of_ten_calls_within_a_minute_open_it() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    for _ in range(4):
        assert [await tried(breaker, fine), await tried(breaker, down)] == ["sent", "Transient"]
    await tried(breaker, fine)
    assert breaker.state == "closed"
    await tried(breaker, down)
    assert breaker.state == "open"


async def test_failures_older_than_a_minute_are_forgotten() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    for _ in range(4):
        await tried(breaker, down)
    await tried(breaker, fine)
    clock.move(61)
    for _ in range(4):
        await tried(breaker, fine)
    await tried(breaker, down)
    assert breaker.state == "closed"


async def test_it_stays_open_twice_as_long_each_time_up_to_ten_minutes() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    await opened(breaker)
    waits = []
    for _ in range(6):
        with pytest.raises(Deferred) as refused:
            await breaker.check()
        waits.append(refused.value.after or 0)
        clock.move(waits[-1])
        await tried(breaker, down)
    assert waits == pytest.approx([63, 126, 252, 504, 630, 630], abs=0.01), "half of the jitter of a tenth"


async def test_a_successful_probe_closes_it_and_the_next_time_is_short_again() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    await opened(breaker)
    clock.move(63)
    await tried(breaker, down)
    clock.move(126)
    assert await tried(breaker, fine) == "sent"
    assert breaker.state == "closed"
    await opened(breaker)
    with pytest.raises(Deferred) as refused:
        await breaker.check()
    assert refused.value.after == pytest.approx(63)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Transient(code="http_429"), True),
        (Transient(code="http_529"), False),
        (Transient(code="connection"), False),
        (Deferred(code="smtp_451"), True),
        (Deferred(code="smtp_421"), False),
        (Deferred(code="smtp_unreachable"), False),
        (Permanent(code="http_400"), True),
        (Invalid(code="schema"), True),
        (Stop(code="http_401"), True),
        (Unknown(), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (asyncio.CancelledError(), None),
        (KeyError("bug"), None),
        (Skip("budget"), None),
    ],
)
def test_an_answer_proves_life_and_what_is_ours_proves_nothing(error: BaseException, expected: bool | None) -> None:
    assert verdict(error) is expected


async def test_throttled_calls_do_not_open_it() -> None:
    breaker = Breakers(ManualClock()).of("api")

    async def throttled() -> None:
        raise Transient("slow down", code="http_429", after=3)

    assert {await tried(breaker, throttled) for _ in range(50)} == {"Transient"}
    assert breaker.state == "closed"


async def test_late_results_of_an_older_state_change_nothing() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    async with breaker.guard() as old:
        pass
    await opened(breaker)
    await breaker.report(old, success=True)
    assert breaker.state == "open"
    clock.move(70)
    await tried(breaker, fine)
    for _ in range(4):
        await breaker.report(old, success=False)
    await tried(breaker, down)
    assert breaker.state == "closed", "one failure counts, not five"


async def test_a_cancelled_probe_leaves_its_place_to_the_next() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    await opened(breaker)
    clock.move(70)
    probe = asyncio.create_task(tried(breaker, asyncio.Event().wait))
    await asyncio.sleep(0.01)
    assert await tried(breaker, fine) == "deferred"
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await tried(breaker, fine) == "sent"
    assert breaker.state == "closed"


async def test_a_hanging_probe_leaves_its_place_after_its_time_and_may_still_succeed() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    await opened(breaker)
    clock.move(70)
    answer = asyncio.Event()
    hanging = asyncio.create_task(tried(breaker, answer.wait))
    await asyncio.sleep(0.01)
    clock.move(59)
    assert await tried(breaker, fine) == "deferred"
    clock.move(2)
    second = asyncio.create_task(tried(breaker, asyncio.Event().wait))
    await asyncio.sleep(0.01)
    assert await tried(breaker, fine) == "deferred", "there is a second probe"
    answer.set()
    assert (await hanging, breaker.state) == ("sent", "closed")
    second.cancel()


async def test_the_failure_of_a_probe_whose_time_is_over_does_not_count() -> None:
    clock = ManualClock()
    breaker = Breakers(clock).of("api")
    await opened(breaker)
    clock.move(70)
    fail = asyncio.Event()

    async def late() -> None:
        await fail.wait()
        await down()

    hanging = asyncio.create_task(tried(breaker, late))
    await asyncio.sleep(0.01)
    clock.move(61)
    async with breaker.guard():
        fail.set()
        await hanging
        assert breaker.state == "half_open"
    assert breaker.state == "closed"


async def test_it_stays_open_over_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    first = open_ledger(tmp_path, clock)
    await opened(Breakers(clock, first).of("api"))
    first.close()
    clock.move(30)
    second = open_ledger(tmp_path, clock)
    again = Breakers(clock, second).of("api")
    with pytest.raises(Deferred) as refused:
        await again.check()
    assert refused.value.after == pytest.approx(33)
    clock.move(33)
    assert (await tried(again, fine), again.state) == ("sent", "closed")
    second.close()


async def test_other_processes_hear_of_it_within_a_second(tmp_path: Path) -> None:
    clock = ManualClock()
    ledgers = [open_ledger(tmp_path, clock) for _ in range(2)]
    one, other = (Breakers(clock, ledger).of("api") for ledger in ledgers)
    assert await tried(other, fine) == "sent"
    await opened(one)
    clock.move(1)
    assert await tried(other, fine) == "deferred"
    clock.move(70)
    assert await tried(other, fine) == "sent"
    clock.move(1)
    assert (await tried(one, fine), one.state) == ("sent", "closed")
    for ledger in ledgers:
        ledger.close()


async def test_a_wall_clock_set_back_does_not_keep_it_open(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    await opened(Breakers(clock, ledger).of("api"))
    clock.move(-3 * 3600)
    restarted = Breakers(clock, ledger).of("api")
    with pytest.raises(Deferred) as refused:
        await restarted.check()
    assert refused.value.after is not None
    assert refused.value.after <= 66
    ledger.close()


async def test_a_breaker_reset_by_hand_lets_calls_through(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    breaker = Breakers(clock, ledger).of("api")
    await opened(breaker)
    ledger.writing(lambda connection: connection.exec_driver_sql("DELETE FROM breaker"))
    clock.move(67)
    assert (await tried(breaker, fine), breaker.state) == ("sent", "closed")
    ledger.close()


async def test_one_request_goes_through_breaker_and_limits_and_gives_back_what_was_not_sent() -> None:
    @dataclass(frozen=True)
    class Rate:
        count: int = 60
        per: int = 60

    clock = ManualClock()
    api = Dependencies({"api": {"requests": Rate()}}, clock).of("api")
    async with api.request(requests=1):
        pass
    with pytest.raises(Transient, match="slow down"):
        async with api.request(requests=1):
            raise Transient("slow down", code="http_429", after=30)
    began = clock.monotonic()
    async with api.request(requests=1):
        assert clock.monotonic() - began >= 30
    for _ in range(5):
        with pytest.raises(Transient):
            async with api.request(requests=1):
                await down()
    with pytest.raises(Deferred, match="api has failed too often"):
        async with api.request(requests=1):
            raise AssertionError("was sent")


async def test_breakers_of_one_memory_share_it() -> None:
    clock, store = ManualClock(), InMemory()
    await opened(Breakers(clock, store=store).of("api"))
    assert await tried(Breakers(clock, store=store).of("api"), fine) == "deferred"
