"""Prices in whole nano-USD."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Stop
from overnight.pricing import Usage, known, price, worst

NOW = datetime(2026, 11, 22, tzinfo=UTC)
COUNTS = st.integers(0, 90_000)


@pytest.mark.parametrize(
    ("model", "usage", "nano"),
    [
        ("claude-haiku-5-5", Usage(1, 1), 100 + 500),
        ("claude-haiku-5-5", Usage(cache_read_tokens=1), 10),
        ("claude-haiku-5-5", Usage(cache_write_tokens=1), 125),
        ("claude-sonnet-5-5", Usage(1_000, 300), 2_000_000 + 3_000_000),
        ("claude-haiku-5-5", Usage(100_001, 300), 50_000_500 + 750_000),  # a long prompt is dearer as a whole
        ("claude-haiku-5-5", Usage(), 0),
    ],
)
def test_prices_are_exact(model: str, usage: Usage, nano: int) -> None:
    assert price(model, usage, at=NOW) == nano


@given(COUNTS, COUNTS, COUNTS, st.integers(0, 20_000))
def test_the_worst_case_is_never_below_the_price(plain: int, read: int, write: int, output: int) -> None:
    usage = Usage(plain, output, read, write)
    assert price("claude-haiku-5-5", usage, at=NOW) <= worst("claude-haiku-5-5", plain + read + write, output, at=NOW)


def test_an_unknown_model_is_refused_with_a_remedy() -> None:
    with pytest.raises(Stop, match=r"'claude-nonesuch'.*check the name under `roles:`") as caught:
        price("claude-nonesuch", Usage(1, 1))
    assert caught.value.code == "unknown_model"
    assert not known("claude-nonesuch")
    assert known("claude-sonnet-5-5")
