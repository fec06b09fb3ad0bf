"""CSV that anybody can load: exact money, safe text, the same bytes for the same table.

Every cell has a kind. Money is integer nano-USD, written in dollars without an exponent; times are UTC; None is an
empty cell, and what no reader gives back (NaN, infinity, a time without a zone) is refused. Text that a spreadsheet
would take for a formula gets an apostrophe in front, which `unguard` takes away again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from overnight.clock import iso

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")

Kind = Literal["text", "count", "money", "ratio", "instant", "date"]
Columns = Mapping[str, Kind]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are written, by column; rows in the order of the file."""

    columns: Columns
    rows: Sequence[tuple[str, ...]]

    def csv(self) -> bytes:
        """The file: UTF-8, LF, a header, quotes where they are needed."""
        lines = (",".join(map(_quoted, line)) + "\n" for line in (tuple(self.columns), *self.rows))
        return "".join(lines).encode("utf-8", "backslashreplace")

    def sums(self) -> dict[str, int]:
        """Each column of money, added up: nano-USD."""
        money = [(at, name) for at, (name, kind) in enumerate(self.columns.items()) if kind == "money"]
        return {name: sum(int(Decimal(row[at]).scaleb(9)) for row in self.rows if row[at]) for at, name in money}

    def readable(self) -> list[dict[str, str]]:
        """The rows for people: text as it was before the guard."""
        bare = [unguard if kind == "text" else str for kind in self.columns.values()]
        shown = ([show(cell) for show, cell in zip(bare, row, strict=True)] for row in self.rows)
        return [dict(zip(self.columns, row, strict=True)) for row in shown]


def table(values: Mapping[str, Sequence[Any]], columns: Columns) -> Table:
    """Write the values of each column, rows sorted by what is written.

    Raises ValueError naming the column that is missing, or has a value of another kind.
    """
    if missing := [name for name in columns if name not in values]:
        raise ValueError(f"the table lacks the column {missing[0]!r}; it has {', '.join(map(str, values))}")
    written = [[_cell(value, name, kind) for value in values[name]] for name, kind in columns.items()]
    return Table(columns, sorted(zip(*written, strict=True)))


def guard(cell: str) -> str:
    """Text that no spreadsheet takes for a formula; `unguard` gives it back unchanged."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def unguard(cell: str) -> str:
    """The text that was guarded."""
    return cell.removeprefix("'")


def dollars(nano: int | Decimal) -> str:
    """Nano-USD as exact dollars without an exponent: `0.000000030`."""
    if isinstance(nano, float) or nano != int(nano):
        raise ValueError(f"{nano!r} is no whole number of nano-USD")
    return format(Decimal(int(nano)).scaleb(-9), "f")


def _cell(value: Any, column: str, kind: Kind) -> str:
    if value is None:
        return ""
    try:
        return _WRITERS[kind](value)
    except (ValueError, TypeError, ArithmeticError) as error:
        shown, why = f"{value!r:.200}", f"{error!s:.200}"
        raise ValueError(f"column {column!r} ({kind}) cannot hold {shown}: {why}; None is an empty cell") from error


def _text(value: Any) -> str:
    return guard(str(value).lower() if isinstance(value, bool) else str(value))


def _count(value: Any) -> str:
    if value != int(value):
        raise ValueError("not a whole number")
    return str(int(value))


def _ratio(value: Any) -> str:
    """At most six digits after the point, and never `-0`."""
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _instant(value: Any) -> str:
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return iso(at)


def _date(value: Any) -> str:
    return date.fromisoformat(str(value)).isoformat()


_WRITERS: Mapping[Kind, Callable[[Any], str]] = {
    "text": _text,
    "count": _count,
    "money": dollars,
    "ratio": _ratio,
    "instant": _instant,
    "date": _date,
}


def _quoted(cell: str) -> str:
    """Quote where needed. The csv module of this Python leaves a lone CR bare, which no reader gives back."""
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in ',"\r\n') else cell
