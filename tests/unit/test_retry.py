"""Retries: how often, how long, and what the other side says."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Deferred, Permanent, Transient
from overnight.retry import Quota, Retry, call, retry_after

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
        ({"retry-after": format_datetime(NOON + timedelta(days=1))}, 900),
        ({"retry-after": "1e9"}, 900),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after-ms": "9e99", "retry-after": "3"}, 900),
        ({"retry-after-ms": "inf", "retry-after": "3"}, 3),
        ({"retry-after-ms": "-1", "retry-after": "nan"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "١٢"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 12 "}, 12),
        ({"retry-after": "Mon, 99 Foo 2026 25:61:61 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 900),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, Clock()) == seconds


def test_a_retry_date_is_compared_with_the_date_of_its_own_response() -> None:
    theirs = NOON - timedelta(hours=3)
    headers = {"date": format_datetime(theirs), "retry-after": format_datetime(theirs + timedelta(seconds=20))}
    assert retry_after(headers, Clock()) == 20


@given(st.dictionaries(st.sampled_from(["retry-after-ms", "Retry-After", "Date"]), st.text() | st.floats().map(str)))
def test_whatever_the_other_side_says_is_a_wait_of_at_most_a_quarter_of_an_hour(headers: dict[str, str]) -> None:
    asked = retry_after(headers, Clock())
    assert asked is None or 0 <= asked <= 900


@given(st.integers(0, 900_000), st.floats(0, 1, exclude_max=True))
def test_no_wait_and_no_deferral_is_shorter_than_asked(milliseconds: int, chance: float) -> None:
    asked = milliseconds / 1000
    error = Transient(after=retry_after({"retry-after-ms": str(milliseconds)}, Clock()))
    try:
        wait = Retry().wait(1, error, Clock(chance))
    except Deferred as deferred:
        wait = deferred.after or 0
    assert asked <= wait
    assert wait <= max(1.0, asked * 1.1)


async def asked(calls: int, failing: float, *, attempts: int = 5, code: str = "http_503") -> float:
    """Make that many calls to a side that fails with this probability; returns requests per call."""
    dice, quota, sent = random.Random(7), Quota(), 0  # noqa: S311  a simulation

    async def work(_: int) -> None:
        nonlocal sent
        sent += 1
        if dice.random() < failing:
            raise Transient("no", code=code)

    for _ in range(calls):
        try:
            await call(Retry(attempts=attempts), work, clock=Clock(0.0), quota=quota)
        except Transient:
            continue
    return sent / calls


@pytest.mark.parametrize(("failing", "most"), [(0.01, 1.02), (0.5, 1.1), (1.0, 1.05)])
async def test_a_side_in_trouble_is_not_asked_much_more_for_it(failing: float, most: float) -> None:
    requests = await asked(3000, failing)
    assert 1.0 < requests <= most


async def test_without_trouble_all_failures_are_repeated() -> None:
    assert await asked(3000, 0.05) == pytest.approx(1 / 0.95, rel=0.01)


async def test_a_used_up_quota_defers_the_item_and_names_the_error() -> None:
    quota = Quota(capacity=20)
    seen, work = failing(*[Transient("busy", code="http_503", after=4)] * 3)
    clock = Clock()
    with pytest.raises(Deferred, match="busy; too many calls fail to repeat it now") as caught:
        await call(Retry(attempts=3), work, clock=clock, quota=quota)
    assert (seen, caught.value.code, caught.value.after, len(clock.slept)) == ([1, 2], "http_503", 4, 1)


async def test_successes_pay_for_repetitions_and_throttled_calls_cost_less() -> None:
    quota = Quota(capacity=14)
    assert quota.take(Transient(code="http_500"))
    assert not quota.take(Transient(code="http_429"))
    for _ in range(5):
        await call(Retry(), failing()[1], clock=Clock(), quota=quota)
    assert quota.take(Transient(code="http_429"))
    for _ in range(100):
        quota.earn()
    assert quota.left == 14


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_a_failing_call_is_exactly_so_many_requests(attempts: int) -> None:
    seen, work = failing(*[Transient()] * 9)
    with pytest.raises(Transient):
        await call(Retry(attempts=attempts), work, clock=Clock(), quota=Quota())
    assert len(seen) == attempts


async def test_no_attempt_begins_when_the_time_for_all_of_them_is_over() -> None:
    clock = Clock()

    async def slow(_attempt: int) -> None:
        await clock.sleep(250)
        raise Transient("still down", code="http_503")

    with pytest.raises(Deferred, match="still down; tried for 400 s") as deferred:
        await call(Retry(attempts=9, within=400), slow, clock=clock)
    assert deferred.value.code == "http_503"
    assert clock.monotonic() <= 400 + 250
