"""Retries: the one loop that repeats a request, and what the other side says about when.

No library below may repeat on its own: budget, buckets and shutdown would not see its sleeps, and requests multiply.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from overnight.clock import Clock
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, Transient

T = TypeVar("T")

LONGEST_WAIT = 60.0  # seconds a worker may be held; beyond it the item is taken up again by a sweep


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how fast: `attempts` in all, waits from `initial` seconds times `multiplier`, at most `max`."""

    attempts: int = 3
    initial: float = 1.0
    multiplier: float = 2.0
    max: float = 30.0

    def wait(self, attempt: int, error: Transient, clock: Clock) -> float:
        """Seconds before the attempt after `attempt` (counted from 1).

        Full jitter drains a herd of clients in half the time of added jitter; what the other side asked for is never
        undercut, only spread by up to a tenth. Raises Deferred for waits that would hold the worker too long.
        """
        asked = (error.after or 0) * (1 + clock.random() / 10)
        if asked > LONGEST_WAIT:
            raise Deferred(f"{error}; asked to wait {asked:.0f} s", code=error.code, after=asked) from error
        backoff: float = min(self.max, self.initial * self.multiplier ** (attempt - 1))
        return max(asked, clock.random() * backoff)


async def call(
    retry: Retry,
    work: Callable[[int], Awaitable[T]],
    *,
    clock: Clock,
    on_retry: Callable[[int, Transient, float], None] | None = None,
) -> T:
    """Await `work(attempt)`, again after each Transient error, at most `retry.attempts` times.

    `on_retry(attempt, error, wait)` is told before each wait. Raises the last Transient when the attempts are spent,
    Deferred when the wait would be too long, and any other error at once.
    """
    try:  # the loop below costs 50 us, also when nothing fails: too much for each of a million items
        return await work(1)
    except Transient as error:
        if not _repeatable(error):
            raise
        return await _again(retry, work, error, clock, on_retry)


async def _again(
    retry: Retry,
    work: Callable[[int], Awaitable[T]],
    first: Transient,
    clock: Clock,
    on_retry: Callable[[int, Transient, float], None] | None,
) -> T:
    """Go on after the `first` error, which counts as the first attempt."""
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt  # noqa: PLC0415  late

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, Transient):
            raise TypeError(f"only a Transient error is repeated, not {error!r}")
        seconds = retry.wait(state.attempt_number, error, clock)
        if on_retry is not None and state.attempt_number < retry.attempts:
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
    """Seconds the other side asks us to wait; None when it does not say, or says something senseless.

    Reads `retry-after-ms`, then `retry-after` as seconds or as a date. A date is compared with the response's own
    `date`, so that neither clock has to be right. Names of headers are taken in any case.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    milliseconds = _number(lower.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = lower.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return seconds
    until = _date(value)
    if until is None:
        return None
    return max(0.0, (until - (_date(lower.get("date")) or clock.now())).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
