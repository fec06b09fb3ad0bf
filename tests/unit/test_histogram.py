"""Quantiles from log-spaced buckets."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from overnight.histogram import bucket_of, quantile

durations = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=200)
fractions = st.floats(min_value=0, max_value=1)


@given(durations, fractions)
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[int], q: float) -> None:
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    answer = quantile(Counter(map(bucket_of, values)), q)
    assert answer is not None
    assert abs(answer - exact) <= 0.01 * exact + 0.5


@given(durations, durations, fractions)
def test_the_buckets_of_two_runs_add_up_to_those_of_both(one: list[int], other: list[int], q: float) -> None:
    merged = Counter(map(bucket_of, one)) + Counter(map(bucket_of, other))
    assert quantile(merged, q) == quantile(Counter(map(bucket_of, one + other)), q)


def test_short_durations_are_exact() -> None:
    for duration in range(49):
        assert quantile({bucket_of(duration): 1}, 0.5) == duration


def test_no_durations_have_no_quantile() -> None:
    assert quantile({}, 0.95) is None


def test_a_clock_that_went_back_counts_as_no_time() -> None:
    assert bucket_of(-5) == 0
