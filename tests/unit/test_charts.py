"""Small charts: a line of text, bars in pixels, a picture."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.charts import COLOURS, SPARKS, Picture, palette, png, sparkline, stacks

AMOUNTS = st.dictionaries(st.sampled_from("abcdefg"), st.integers(min_value=0, max_value=10**15), max_size=7)


@given(st.lists(st.none() | st.integers(min_value=0, max_value=10**15), max_size=40))
def test_a_sparkline_has_one_sign_a_value_and_the_highest_is_full(values: list[int | None]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    known = [value for value in values if value is not None]
    if max(known, default=0) > 0:
        assert line[values.index(max(known))] == SPARKS[-1]


@given(st.lists(AMOUNTS, min_size=1, max_size=14))
def test_bars_are_never_wider_than_the_scale_by_more_than_what_makes_small_parts_seen(
    rows: list[dict[str, int]],
) -> None:
    totals = {name: sum(row.get(name, 0) for row in rows) for name in "abcdefg"}
    most = max(sum(row.values()) for row in rows)
    for row, bar in zip(rows, stacks(rows, palette(totals), most, 300), strict=True):
        seen = [name for name, amount in row.items() if amount]
        assert len(bar.parts) == len(seen)
        assert sum(pixels for _, pixels in bar.parts) + bar.rest <= 300 + len(seen)


def test_the_largest_has_the_first_colour_and_the_rest_share_the_last() -> None:
    assert palette({"small": 1, "large": 9}) == {"large": COLOURS[0], "small": COLOURS[1]}
    assert set(list(palette(dict.fromkeys("abcdefg", 1)).values())[4:]) == {COLOURS[-1]}


def test_a_picture_is_the_same_bytes_each_time_and_small() -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    rows = [{"big": 5 * n, "small": n} for n in range(14)]
    shown = Picture([f"{n}" for n in range(14)], rows, palette({"big": 9, "small": 1}), 90, "highest $1", "budget $2")
    assert png(shown) == png(shown)
    assert len(png(shown)) < 20_000
    assert image.open(io.BytesIO(png(shown))).size == (1120, 420)
