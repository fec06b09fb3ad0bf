"""Small pictures as geometry: the templates make SVG of them, in colours of the page. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDE, HIGH = 120.0, 28.0  # a sparkline
TICK, TICKS_HIGH = 8, 30.0  # pixels from tick to tick
CHART_WIDE, CHART_HIGH = 700, 200
FAR = 4  # a budget that many times the dearest day would leave nothing to see of the days
COLOURS = 5  # classes `series-0` and so on; the last is for all that are left


@dataclass(frozen=True, slots=True)
class Spark:
    """Lines between neighbours that are both known; `dots` are the known ones."""

    lines: Sequence[str]
    dots: Sequence[tuple[float, float]]


def spark(values: Sequence[float | None]) -> Spark:
    """One place a value, on a scale from nothing to the highest."""
    known = [value for value in values if value is not None]
    most = max(known, default=0) or 1
    step = WIDE / max(1, len(values) - 1)
    lines: list[list[tuple[float, float]]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append((round(at * step, 1), round(HIGH - 3 - (HIGH - 6) * value / most, 1)))
    dots = [point for line in lines for point in line]
    return Spark([" ".join(f"{x},{y}" for x, y in line) for line in lines if len(line) > 1], dots[-1:])


@dataclass(frozen=True, slots=True)
class Tick:
    """One run: how long it took is its height, how it ended its shape and colour."""

    x: int
    y: float
    height: float
    kind: str
    title: str
    run: str


def ticks(runs: Sequence[tuple[str, float, str, str]], places: int) -> list[Tick]:
    """Runs `(status, seconds, title, id)`, the newest on the right; heights by the root: short ones are seen."""
    most = max((seconds for _, seconds, _, _ in runs), default=0) or 1
    first = places - len(runs)
    drawn = []
    for at, (status, seconds, title, run) in enumerate(runs):
        height = round(5 + (TICKS_HIGH - 9) * math.sqrt(max(0.0, seconds) / most), 1)
        drawn.append(Tick((first + at) * TICK, TICKS_HIGH - height, height, status, title, run))
    return drawn


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a column."""

    series: int
    y: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Column:
    """One day."""

    x: float
    width: float
    label: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Columns:
    """A chart of days, and the height of the budget's line where one is on the scale."""

    days: Sequence[Column]
    cap_y: float | None


def series(totals: Mapping[str, int]) -> dict[str, int]:
    """A number for each name, the largest first; those beyond the palette share its last."""
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    return {name: min(at, COLOURS - 1) for at, name in enumerate(ranked)}


def columns(
    labels: Sequence[str], rows: Sequence[Mapping[str, int]], of: Mapping[str, int], cap: int | None
) -> Columns:
    """Stacked columns on one scale."""
    most = max([1, *(sum(row.values()) for row in rows)])
    drawn = cap if cap and cap <= FAR * most else None
    most = max(most, drawn or 0)
    step = CHART_WIDE / max(1, len(rows))
    days = []
    for at, (label, row) in enumerate(zip(labels, rows, strict=True)):
        y, parts = float(CHART_HIGH), []
        for name in sorted(row, key=lambda one: of[one]):
            height = round(max(1.5, CHART_HIGH * row[name] / most), 1) if row[name] else 0.0
            y -= height
            parts.append(Part(of[name], round(y, 1), height, f"{label}: {name}"))
        days.append(Column(round(at * step + step * 0.14, 1), round(step * 0.72, 1), label, parts))
    return Columns(days, None if drawn is None else round(CHART_HIGH * (1 - drawn / most), 1))
