"""Small charts for mail: a line of text, bars in pixels, and the same bars as a picture for who wants one.

Bars are table cells: they are seen with images off, in every client, and cost a few hundred bytes. This module imports
nothing of ours.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPARKS = "▁▂▃▄▅▆▇█"
COLOURS = ("#2f5bd0", "#e08a1e", "#2a9d76", "#a259c4", "#7d8796")  # the last one is for all that are left
CAP_COLOUR = "#c0392b"
WIDTH, HEIGHT = 1120, 420  # pixels of a picture: twice as large as it is shown


def sparkline(values: Sequence[float | None]) -> str:
    """One block a value, from nothing to the highest; a blank where there is no value."""
    known = [value for value in values if value is not None]
    most = max(known, default=0)
    top = len(SPARKS) - 1
    return "".join(" " if v is None else SPARKS[round(top * v / most)] if most > 0 else SPARKS[0] for v in values)


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar: its parts from the left, `(colour, pixels)`, and what is left of the width."""

    parts: Sequence[tuple[str, int]]
    rest: int


def palette(totals: Mapping[str, int]) -> dict[str, str]:
    """A colour for each name, the largest first; those beyond the palette share its last."""
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    return {name: COLOURS[min(at, len(COLOURS) - 1)] for at, name in enumerate(ranked)}


def stacks(rows: Sequence[Mapping[str, int]], colours: Mapping[str, str], most: int, width: int) -> list[Stack]:
    """Bars on one scale, on which `most` is `width` pixels; what is not nothing is seen by a pixel at least."""
    bars = []
    for row in rows:
        parts = [(colours[name], max(1, width * row[name] // most)) for name in colours if row.get(name) and most]
        bars.append(Stack(parts, max(0, width - sum(pixels for _, pixels in parts))))
    return bars


@dataclass(frozen=True, slots=True)
class Picture:
    """The bars of a chart standing upright: labels, amounts by name, and the line of the cap where there is one."""

    labels: Sequence[str]
    rows: Sequence[Mapping[str, int]]
    colours: Mapping[str, str]
    cap: int | None
    top: str  # the highest amount, in words
    cap_label: str


def png(picture: Picture) -> bytes:
    """Draw it; the same bytes for the same picture. Needs Pillow.

    Raises ImportError with the way to get it.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415  an extra; 0.1 s and 21 MB for who asks for it
    except ImportError as error:
        raise ImportError("`charts: png` needs Pillow: pip install pillow") from error
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    left, bottom, above = 24, HEIGHT - 44, 56
    most = max([sum(row.values()) for row in picture.rows] + [picture.cap or 0, 1])
    step = (WIDTH - 2 * left) / max(1, len(picture.rows))
    for at, (label, row) in enumerate(zip(picture.labels, picture.rows, strict=True)):
        x, y = left + at * step, float(bottom)
        for name, colour in picture.colours.items():
            if row.get(name):
                tall = max(2.0, (bottom - above) * row[name] / most)
                draw.rectangle((x + 6, y - tall, x + step - 6, y), fill=colour)
                y -= tall
        draw.text((x + step / 2, bottom + 8), label, fill="#5d6674", font=font, anchor="ma")
    draw.line((left, bottom, WIDTH - left, bottom), fill="#c9ced6", width=2)
    draw.text((left, 12), picture.top, fill="#16181d", font=font)
    if picture.cap:
        y = bottom - (bottom - above) * picture.cap / most
        draw.line((left, y, WIDTH - left, y), fill=CAP_COLOUR, width=3)
        draw.text((WIDTH - left, y - 32), picture.cap_label, fill=CAP_COLOUR, font=font, anchor="ra")
    file = io.BytesIO()
    image.quantize(32).save(file, "PNG", optimize=True)
    return file.getvalue()
