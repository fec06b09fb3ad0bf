"""What the user's messages hold: JSON values on lines of their own, the arrays in them, and readable sentences."""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

_LINE_START = re.compile(r'^[ \t]*(?=["{\[])', re.MULTILINE)
_LINE_END = re.compile(r"[ \t]*(?:\r?\n|\Z)")
_TAG = re.compile(r"</?[A-Za-z!][^<>]{0,500}>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*\n\s*")
_NESTING = 3  # JSON in a JSON string in a JSON string; deeper than that is text
_NO_TEXT = "There is no text to work on."


def embedded(text: str) -> list[Any]:
    """List the JSON strings, objects and arrays that fill whole lines of `text`, in order.

    A string that is itself JSON is replaced by what it holds: untrusted data travels as one string literal.
    """
    found: list[Any] = []
    end = 0
    decoder = json.JSONDecoder()
    for start in _LINE_START.finditer(text):
        if start.end() < end:
            continue
        try:
            value, stop = decoder.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            continue
        if _LINE_END.match(text, stop):
            found.append(unwrapped(value))
            end = stop
    return found


def unwrapped(value: Any, nesting: int = _NESTING) -> Any:
    """Look inside a JSON string for an object or array; any other value stays as it is."""
    if not isinstance(value, str) or nesting == 0:
        return value
    try:
        inner = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return unwrapped(inner, nesting - 1) if isinstance(inner, str | dict | list) else value


def leaves(value: Any) -> Iterator[str]:
    """All strings inside a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from leaves(inner)


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """All arrays of objects inside a JSON value, each with the property name it stands under."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from arrays(inner, key)
    elif isinstance(value, list):
        objects = [item for item in value if isinstance(item, Mapping)]
        if objects:
            yield name, objects
        for inner in value:
            yield from arrays(inner)


def readable(text: str) -> str:
    """`text` without markup and with single spaces."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def sentences(text: str) -> list[str]:
    """Split `text` into sentences, cleaned; none when it holds no word."""
    parts = (readable(part) for part in _SENTENCE_END.split(text))
    return [part for part in parts if any(char.isalnum() for char in part)]


def shortened(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, cut between words where one ends in time."""
    if len(text) <= limit:
        return text
    if limit < 2:
        return text[:limit]
    cut = text[: limit - 1]
    whole = cut if text[limit - 1] == " " else cut.rpartition(" ")[0]
    return (whole or cut).rstrip(" ,;:-") + "…"


@dataclass(slots=True)
class Source:
    """What one object of the answer is written from.

    `fields` are the scalars and values that may be copied by name, `values` is where arrays are looked for, `text` is
    what words are looked for in. Each sentence is given out in turn, so neighbouring properties read differently.
    """

    fields: Mapping[str, Any]
    values: Sequence[Any]
    text: str
    _turns: Iterator[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._turns = cycle(sentences(self.text) or [_NO_TEXT])

    def sentence(self) -> str:
        """Give out the next sentence of the text."""
        return next(self._turns)

    @classmethod
    def of_messages(cls, texts: Sequence[str]) -> "Source":
        """Take the whole request: the data found in the user's texts, or the texts themselves when they hold none."""
        values = [value for text in texts for value in embedded(text)]
        fields = {key: inner for value in values if isinstance(value, Mapping) for key, inner in value.items()}
        prose = _prose(values) or "\n\n".join(texts)
        return cls(fields, values, prose)

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> "Source":
        """One object of the data: its own fields and its longest text."""
        longest = max(_worded(item), key=len, default="") or max(leaves(item), key=len, default="")
        return cls(item, list(item.values()), longest)


def _prose(values: Sequence[Any]) -> str:
    return "\n\n".join(_worded(values)) or "\n\n".join(leaves(values))


def _worded(value: Any) -> list[str]:
    return [leaf for leaf in leaves(value) if len(leaf.split()) >= 3]
