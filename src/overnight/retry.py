"""Retries: the one loop that repeats a request, and what the other side says about when.

No library below may repeat on its own: budget, buckets and shutdown would not see its sleeps, and requests multiply.
A quota bounds the repetitions of all calls together: a dependency in trouble is not asked twice as often for it.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

from overnight.clock import Clock
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, Transient

T = TypeVar("T")

LONGEST_WAIT = 60.0  # seconds a worker may be held; beyond it the item is taken up again by a sweep
LONGEST_ASKED = 900.0  # seconds; who asks for more is asked again then

_THROTTLED = re.compile(r"http_429|ramp_limit_exceeded")
_NUMBER = re.compile(r"\s*[0-9]+(\.[0-9]*)?([eE]\+?[0-9]+)?\s*")


class Allowance(Protocol):
    """Whether a repetition is allowed."""

    def take(self, error: Transient) -> bool:
        """Pay for a repetition after this error; False: there is not enough left for it."""
        ...

    def earn(self) -> None:
        """A call has succeeded."""
        ...


class Unlimited:
    """Any number of repetitions, for what is no dependency of all."""

    def take(self, error: Transient) -> bool:  # noqa: ARG002
        """Allow it."""
        return True

    def earn(self) -> None:
        """Nothing to earn."""


UNLIMITED = Unlimited()


@dataclass(slots=True)
class Quota:
    """The repetitions of one dependency in this process: they cost, successes earn, nothing is lent.

    The first 35 failures are repeated whatever happens; after that at most one success in fourteen pays for one. A
    throttled call costs less, as its repetition waits as long as the other side asked for.
    """

    capacity: int = 500
    cost: int = 14
    cost_throttled: int = 5
    reward: int = 1
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.capacity

    def take(self, error: Transient) -> bool:
        """Pay for a repetition."""
        cost = self.cost_throttled if _THROTTLED.fullmatch(error.code) else self.cost
        if self.left < cost:
            return False
        self.left -= cost
        return True

    def earn(self) -> None:
        """Book a success."""
        self.left = min(self.capacity, self.left + self.reward)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast: `attempts` in all, waits from `initial` seconds times `multiplier`, at most `max`.

    No attempt begins later than `within` seconds after the first: each may take long by itself.
    """

    attempts: int = 3
    initial: float = 1.0
    multiplier: float = 2.0
    max: float = 30.0
    within: float = 600.0

    def wait(self, attempt: int, error: Transient, clock: Clock, until: float = math.inf) -> float:
        """Seconds before the attempt after `attempt` (counted from 1).

        Full jitter drains a herd of clients in half the time of added jitter; what the other side asked for is never
        undercut, only spread by up to a tenth. Raises Deferred for waits that would hold the worker too long, or last
        until after the monotonic second `until`.
        """
        asked = (error.after or 0) * (1 + clock.random() / 10)
        if asked > LONGEST_WAIT:
            raise Deferred(f"{error}; asked to wait {asked:.0f} s", code=error.code, after=asked) from error
        backoff: float = min(self.max, self.initial * self.multiplier ** (attempt - 1))
        seconds = max(asked, clock.random() * backoff)
        if clock.monotonic() + seconds > until:
            raise Deferred(f"{error}; tried for {self.within:g} s", code=error.code, after=error.after) from error
        return seconds


async def call(
    retry: Retry,
    work: Callable[[int], Awaitable[T]],
    *,
    clock: Clock,
    on_retry: Callable[[int, Transient, float], None] | None = None,
    quota: Allowance = UNLIMITED,
) -> T:
    """Await `work(attempt)`, again after each Transient error, at most `retry.attempts` times.

    `on_retry(attempt, error, wait)` is told before each wait. Raises the last Transient when the attempts are spent,
    Deferred when the wait would be too long, the time is over or the `quota` is used up, and any other error at once.
    """
    until = clock.monotonic() + retry.within
    try:  # the loop below costs 50 us, also when nothing fails: too much for each of a million items
        result = await work(1)
    except Transient as error:
        if not _repeatable(error):
            raise
        result = await _again(retry, work, error, clock, until, on_retry, quota)
    quota.earn()
    return result


async def _again(
    retry: Retry,
    work: Callable[[int], Awaitable[T]],
    first: Transient,
    clock: Clock,
    until: float,
    on_retry: Callable[[int, Transient, float], None] | None,
    quota: Allowance,
) -> T:
    """Go on after the `first` error, which counts as the first attempt, `until` some monotonic second."""
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt  # noqa: PLC0415  late

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, Transient):
            raise TypeError(f"only a Transient error is repeated, not {error!r}")
        if state.attempt_number >= retry.attempts:
            return 0.0  # nobody waits for it
        seconds = retry.wait(state.attempt_number, error, clock, until)
        if not quota.take(error):
            raise Deferred(f"{error}; too many calls fail to repeat it now", code=error.code, after=error.after)
        if on_retry is not None:
            on_retry(state.attempt_number, error, seconds)
        return seconds

    async def sleep(seconds: float) -> None:
        async with off_the_clock():
            await clock.sleep(seconds)

    attempts = AsyncRetrying(
        stop=stop_after_attempt(retry.attempts),
        wait=wait,
        retry=retry_if_exception(_repeatable),
        sleep=sleep,
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            if attempt.retry_state.attempt_number == 1:
                raise first
            result = await work(attempt.retry_state.attempt_number)
        if not attempt.retry_state.outcome or not attempt.retry_state.outcome.failed:
            return result
    raise RuntimeError("the retry loop ended without a result")


def _repeatable(error: BaseException) -> bool:
    return isinstance(error, Transient) and not isinstance(error, Deferred)


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds the other side asks us to wait, 900 at most; None when it does not say, or says something senseless.

    Reads `retry-after-ms`, then `retry-after` as seconds or as a date. A date is compared with the response's own
    `date`, so that neither clock has to be right. Names of headers are taken in any case.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    milliseconds = _number(lower.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_ASKED)
    value = lower.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return min(seconds, LONGEST_ASKED)
    until = _date(value)
    if until is None:
        return None
    asked = (until - (_date(lower.get("date")) or clock.now())).total_seconds()
    return min(max(0.0, asked), LONGEST_ASKED)


def _number(text: str | None) -> float | None:
    if not text or not _NUMBER.fullmatch(text):  # float() alone would take 1_000, nan, and digits of any script
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
