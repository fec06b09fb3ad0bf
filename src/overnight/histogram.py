"""Durations in log-spaced buckets: quantiles of any set of runs by addition.

A bucket is 2 % wide and is answered by its middle, so a quantile is wrong by at most 1 % (and half a millisecond, for
it is a whole number); a day of a million items needs some six hundred small rows. Exact quantiles would need them all.

This module imports nothing of ours.
"""

import math
from collections.abc import Mapping

GROWTH = 1.02
_LOG_GROWTH = math.log(GROWTH)


def bucket_of(duration_ms: int) -> int:
    """The bucket of a duration: 0 for 0 ms (and below), then `b` for `[1.02^(b-1), 1.02^b)` ms."""
    return 0 if duration_ms < 1 else 1 + math.floor(math.log(duration_ms) / _LOG_GROWTH)


def quantile(buckets: Mapping[int, int], q: float) -> int | None:
    """The duration (ms) that `q` (0 … 1) of the counted ones do not exceed, by nearest rank; None without any."""
    rank = max(1, math.ceil(q * sum(buckets.values())))
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return _middle(bucket)
    return None


def _middle(bucket: int) -> int:
    return round(GROWTH ** (bucket - 0.5)) if bucket else 0
