"""Retries: how often, how long, and what the other side says."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Deferred, Permanent, Transient
from overnight.retry import Retry, call, retry_after

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Time that passes by sleeping only; chance that is always the same."""

    def __init__(self, chance: float = 1 - 1e-9) -> None:
        self.slept: list[float] = []
        self.chance = chance

    def now(self) -> datetime:
        return NOON + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def random(self) -> float:
        return self.chance


def failing(*errors: Exception) -> tuple[list[int], Callable[[int], Awaitable[str]]]:
    """Work that raises these errors in turn and then succeeds, and the attempts it has seen."""
    seen: list[int] = []
    left = list(errors)

    async def work(attempt: int) -> str:
        seen.append(attempt)
        if left:
            raise left.pop(0)
        return "done"

    return seen, work


async def test_a_transient_error_is_repeated_until_it_works() -> None:
    clock = Clock()
    seen, work = failing(Transient(), Transient())
    assert await call(Retry(), work, clock=clock) == "done"
    assert seen == [1, 2, 3]
    assert clock.slept == pytest.approx([1, 2])


async def test_spent_attempts_raise_the_last_error() -> None:
    seen, work = failing(Transient("one"), Transient("two"), Transient("three"), Transient("four"))
    with pytest.raises(Transient, match="three"):
        await call(Retry(), work, clock=Clock())
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("error", [Permanent(), Deferred(after=5), ValueError()])
async def test_other_errors_are_not_repeated(error: Exception) -> None:
    seen, work = failing(error)
    with pytest.raises(type(error)):
        await call(Retry(), work, clock=Clock())
    assert seen == [1]


async def test_what_the_other_side_asks_for_is_never_undercut() -> None:
    for chance in (0.0, 0.5, 1 - 1e-9):
        clock = Clock(chance)
        _, work = failing(Transient(after=7))
        await call(Retry(), work, clock=clock)
        assert 7 <= clock.slept[0] <= 7.7


async def test_a_long_wait_frees_the_worker() -> None:
    seen, work = failing(Transient("busy", code="http_429", after=120))
    with pytest.raises(Deferred) as caught:
        await call(Retry(), work, clock=Clock(0))
    assert (caught.value.after, caught.value.code, seen) == (120, "http_429", [1])


async def test_each_repetition_is_told_and_the_last_failure_is_not() -> None:
    told: list[tuple[int, float]] = []
    _, work = failing(Transient(), Transient(), Transient())
    with pytest.raises(Transient):
        await call(Retry(), work, clock=Clock(), on_retry=lambda attempt, _, wait: told.append((attempt, round(wait))))
    assert told == [(1, 1), (2, 2)]


@given(st.integers(1, 40), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_below_the_maximum(attempt: int, chance: float) -> None:
    wait = Retry(initial=1, multiplier=2, max=30).wait(attempt, Transient(), Clock(chance))
    assert 0 <= wait <= min(30, 2 ** (attempt - 1))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After-Ms": "1500", "Retry-After": "9"}, 1.5),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4),
        ({"retry-after": "next Tuesday"}, None),
        ({}, None),
        ({"retry-after": format_datetime(NOON + timedelta(seconds=30))}, 30),
        ({"retry-after": format_datetime(NOON - timedelta(days=1))}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, Clock()) == seconds


def test_a_retry_date_is_compared_with_the_date_of_its_own_response() -> None:
    theirs = NOON - timedelta(hours=3)
    headers = {"date": format_datetime(theirs), "retry-after": format_datetime(theirs + timedelta(seconds=20))}
    assert retry_after(headers, Clock()) == 20
