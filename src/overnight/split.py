"""Questions that are too long: their data is halved, as often as it takes, and the answers are merged.

What shows that a question was too long: the API refuses it for its size, a rate limit could never let it through, or
its answer was cut off. The answer that was cut off is paid for and thrown away; a part is a question of its own.
"""

import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar, get_origin

from overnight.errors import Invalid, OvernightError, Permanent, Stop, TooLong

T = TypeVar("T")
A = TypeVar("A")

SHORTEST = 200  # characters; a text that is shorter is one entry: its length is not what is wrong
CUT_OFF = "truncated"  # the code of an answer that was cut off
OVER_LIMIT = "over_limit"  # and of a question that no rate limit would ever let through
_ENDS = ("\n\n", "\n", ". ", " ")  # where a text is cut, the best first

_JOINERS = {"\u200c", "\u200d"}
_VIRAMA = 9  # the combining class of signs that tie the next letter to the last
_TIED = (range(0x1F3FB, 0x1F400), range(0xE0020, 0xE0080), range(0x1160, 0x1200), range(0xD7B0, 0xD800))
_FLAGS = range(0x1F1E6, 0x1F200)


@dataclass(frozen=True, slots=True)
class Split(Generic[T]):
    """How a question is divided: `key` of its data holds a list or a text, `merge` makes one answer of several."""

    key: str
    merge: Callable[[Sequence[T]], T]

    def halves(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the data twice, with half of the list or text each; None when it is one entry already."""
        whole = data[self.key]
        at = _middle(whole) if isinstance(whole, str) else len(whole) // 2
        if at == 0:
            return None
        return {**data, self.key: whole[:at]}, {**data, self.key: whole[at:]}


def split_of(
    key: str | None, merge: Callable[[Sequence[T]], T] | None, data: Mapping[str, Any], output: Any
) -> Split[T] | None:
    """Return how a question is divided; None for one that is asked whole or not at all.

    Without `merge` the answers have to be lists. Raises Stop for what is wrong with every item, and Permanent when
    `key` leads to no list and no text in this one. `data` is as in JSON, where a tuple is a list.
    """
    if key is None:
        if merge is not None:
            raise Stop("merge= is of use only together with split=, which names the list in `data`", code="split")
        return None
    if key not in data:
        raise Stop(f"split={key!r} is not among {', '.join(data)} in `data`: name a list or a text of it", code="split")
    if merge is None and get_origin(output) is not list and output is not list:
        raise Stop(f"split={key!r} needs merge=: a function that makes one {output} of several", code="split")
    if not isinstance(data[key], (str, list)):
        found = type(data[key]).__name__
        raise Permanent(f"split={key!r} is a {found} in the `data` of this item: give a list or a text", code="split")
    return Split(key, merge or _joined)


def too_long(error: OvernightError) -> bool:
    """Tell whether less data may help."""
    return isinstance(error, TooLong) or error.code in (CUT_OFF, OVER_LIMIT)


async def in_parts(
    data: Mapping[str, Any], split: Split[Any], ask: Callable[[Mapping[str, Any], bool], Awaitable[A]]
) -> list[A]:
    """Await `ask(data, divisible)`, for its halves when that shows that it is too long; returns the answers in order.

    Parts are asked one after the other: the first that fails, with whatever error, is the last to be paid for.
    """
    halves = split.halves(data)
    try:
        return [await ask(data, halves is not None)]
    except (Invalid, Permanent) as error:
        if halves is None or not too_long(error):
            raise
    return [answer for half in halves for answer in await in_parts(half, split, ask)]


def _joined(answers: Sequence[Any]) -> Any:
    return [*chain.from_iterable(answers)]


def _middle(text: str) -> int:
    """Where to cut a text: after a paragraph, else a line, a sentence, a word, a letter; 0: nowhere.

    Only the middle half is looked at, so that both parts are much shorter than the whole.
    """
    if len(text) < SHORTEST:
        return 0
    low, middle, high = len(text) // 4, len(text) // 2, 3 * len(text) // 4
    places = [place for end in _ENDS if (place := _nearest(text, end, low, middle, high))]
    return next(chain(places, (at for at in _outwards(middle, high - middle) if _between_letters(text, at))), 0)


def _nearest(text: str, end: str, low: int, middle: int, high: int) -> int:
    """Return the place after `end` that is nearest to the middle, between low and high; 0: there is none."""
    before = text.rfind(end, low, middle) + len(end)
    after = text.find(end, middle, high) + len(end)
    found = [at for at in (before, after) if at >= low + len(end) and _between_letters(text, at)]
    return min(found, key=lambda at: abs(at - middle), default=0)


def _outwards(middle: int, distance: int) -> Iterator[int]:
    for step in range(distance):
        yield middle + step
        yield middle - step


def _between_letters(text: str, at: int) -> bool:
    """Tell whether a cut leaves what a reader sees as one letter whole. When in doubt it is no place for a cut."""
    before, after = text[at - 1], text[at]
    if after in _JOINERS or before in _JOINERS or (before, after) == ("\r", "\n"):
        return False
    tied = unicodedata.category(after)[0] == "M" or any(ord(after) in each for each in _TIED)
    flags = ord(before) in _FLAGS and ord(after) in _FLAGS
    return not tied and not flags and unicodedata.combining(before) != _VIRAMA
