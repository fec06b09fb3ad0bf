"""CSV that anybody can load."""

import csv
import io
import random

import pytest

from overnight.cells import FORMULA, Columns, table, unguard

TEXTS: Columns = {"n": "count", "t": "text"}
SIGNS = [*FORMULA, "a", "é", ",", '"', "\r\n", " ", "ÿ", "😀", "\u2028", "\x1b"]


def back(content: bytes) -> list[tuple[int, str]]:
    """What a reader of the file has, the guard included."""
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert next(rows) == ["n", "t"]
    return sorted((int(n), text) for n, text in rows)


@pytest.mark.slow
def test_two_hundred_thousand_strings_come_back_and_none_is_a_formula() -> None:
    chance = random.Random(1)  # noqa: S311  texts that can be made again
    texts = ["".join(chance.choices(SIGNS, k=chance.randint(1, 6))) for _ in range(200_000)]
    read = back(table({"n": range(len(texts)), "t": texts}, TEXTS).csv())
    formula = tuple(sign for sign in FORMULA if sign != "'")
    assert not any(text.startswith(formula) for _, text in read)
    assert [unguard(text) for _, text in read] == texts


def test_ten_megabytes_of_nuls_quotes_and_line_breaks_are_a_cell_like_any_other() -> None:
    cell = '=1+1\0"\r\n' * 1_250_000
    made = table({"n": [1], "t": [cell]}, TEXTS)
    assert len(cell) == 10_000_000
    before = csv.field_size_limit(2 * len(cell))
    try:
        assert back(made.csv()) == [(1, f"'{cell}")]
    finally:
        csv.field_size_limit(before)
    assert made.readable() == [{"n": "1", "t": cell}]


def test_sums_are_of_money_alone_and_of_all_rows() -> None:
    columns: Columns = {"t": "text", "a": "money", "b": "money", "n": "count"}
    made = table({"t": ["x", "y"], "a": [10**18, 1], "b": [None, 3], "n": [5, 6]}, columns)
    assert made.sums() == {"a": 10**18 + 1, "b": 3}


def test_a_number_is_never_written_as_minus_nothing_or_with_an_exponent() -> None:
    made = table({"r": [-1e-9, 1e-7, 1e15]}, {"r": "ratio"})
    assert sorted(cell for (cell,) in made.rows) == ["0", "0", "1000000000000000"]


def test_a_refusal_does_not_print_ten_megabytes() -> None:
    with pytest.raises(ValueError, match="column 'n'") as caught:
        table({"n": ["x" * 10_000_000]}, {"n": "count"})
    assert len(str(caught.value)) < 1_000
