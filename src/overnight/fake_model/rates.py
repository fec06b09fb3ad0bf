"""Token buckets per model, and the rate-limit headers that report them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from overnight.clock import Clock
from overnight.fake_model.envelope import ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one model may be asked per minute; the defaults are out of the way."""

    requests_per_minute: int = 1_000_000
    input_tokens_per_minute: int = 1_000_000_000
    output_tokens_per_minute: int = 1_000_000_000


class _Bucket:
    def __init__(self, name: str, limit: int, clock: Clock) -> None:
        self.name, self.limit = name, limit
        self._clock = clock
        self._level, self._at = float(limit), clock.monotonic()

    def level(self) -> float:
        now = self._clock.monotonic()
        self._level = min(self.limit, self._level + (now - self._at) * self.limit / 60)
        self._at = now
        return self._level

    def wait(self, amount: int) -> float:
        """Seconds until `amount` is there; more than the bucket holds is served from a full one."""
        return max(0.0, (min(amount, self.limit) - self.level()) * 60 / self.limit)

    def take(self, amount: int) -> None:
        self._level = self.level() - amount

    def headers(self) -> Iterator[tuple[str, str]]:
        full = self._clock.now() + timedelta(seconds=self.wait(self.limit))
        prefix = f"anthropic-ratelimit-{self.name}"
        yield f"{prefix}-limit", str(self.limit)
        yield f"{prefix}-remaining", str(max(0, math.floor(self.level())))
        yield f"{prefix}-reset", full.strftime("%Y-%m-%dT%H:%M:%SZ")


class Rates:
    """The buckets of all models. Output is charged with what was really written, so it may go below zero."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._buckets: dict[str, tuple[_Bucket, _Bucket, _Bucket]] = {}

    def take(self, model: str, input_tokens: int, output_tokens: int) -> dict[str, str]:
        """Charge one request and report the headers. Raises `ApiError` 429 with `retry-after` (seconds)."""
        requests, inputs, outputs = self._of(model)
        wants = ((requests, 1), (inputs, input_tokens), (outputs, 1))
        short = max(wants, key=lambda want: want[0].wait(want[1]))
        seconds = short[0].wait(short[1])
        if seconds > 0:
            headers = {"retry-after": str(math.ceil(seconds)), **self.headers(model)}
            raise ApiError(429, f"Too many {short[0].name} for {model} within a minute.", headers=headers)
        for bucket, amount in ((requests, 1), (inputs, input_tokens), (outputs, output_tokens)):
            bucket.take(amount)
        return self.headers(model)

    def headers(self, model: str) -> dict[str, str]:
        """Report the state of a model's buckets."""
        return dict(header for bucket in self._of(model) for header in bucket.headers())

    def _of(self, model: str) -> tuple[_Bucket, _Bucket, _Bucket]:
        if model not in self._buckets:
            self._buckets[model] = (
                _Bucket("requests", self._limits.requests_per_minute, self._clock),
                _Bucket("input-tokens", self._limits.input_tokens_per_minute, self._clock),
                _Bucket("output-tokens", self._limits.output_tokens_per_minute, self._clock),
            )
        return self._buckets[model]
