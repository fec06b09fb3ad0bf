"""Blanks: what differs from reader to reader stays open while a mail is rendered once for many.

A template is rendered with a Blank in place of a name or a link. Where it writes the blank, a marker is left, which no
feed can forge; where it asks whether there is anything, the answer becomes a condition of the form; where it does
anything else with it (measure, wrap, compare, join), Computed is raised: that mail is rendered for each reader by
itself, which is slower and always right.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

_LINE_END = re.compile(r"\r\n|\r|\n")

Step = Callable[[object], str]
Escape = Callable[[str], str]


class Computed(Exception):
    """No error: the template computes with something personal, so that one rendering cannot serve all readers."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands in a place left open: a personal value, by its name, after the filters of the template."""

    name: str
    steps: tuple[Step, ...] = ()

    def of(self, values: Mapping[str, str]) -> str:
        """The text for the reader with these values."""
        text = values[self.name]
        for step in self.steps:
            text = step(text)
        return text


@dataclass(slots=True)
class Blanks:
    """The blanks of one rendering for a reader with `values`: which were written, and what was asked about them."""

    nonce: str
    values: Mapping[str, str]
    written: list[Gap] = field(default_factory=list)
    conditions: dict[Gap, bool] = field(default_factory=dict)

    def blank(self, name: str) -> "Blank":
        """The blank for a personal value."""
        return Blank(self, Gap(name))

    def write(self, gap: Gap) -> str:
        """Leave a marker, each only once."""
        self.written.append(gap)
        return f"{self.nonce}{len(self.written) - 1:04d}"

    def ask(self, gap: Gap) -> bool:
        """Whether there is anything; the form is for readers with the same answer."""
        return self.conditions.setdefault(gap, bool(gap.of(self.values)))

    def pattern(self, text: str, escape_at: Callable[[int], Escape]) -> "Pattern":
        """Cut a text with markers into what is fixed and what is open. Raises Computed when a marker was changed."""
        found = list(re.finditer(re.escape(self.nonce) + r"(\d{4})", text, re.IGNORECASE))
        if [int(one.group(1)) for one in found] != list(range(len(self.written))) or any(
            not one.group().startswith(self.nonce) for one in found
        ):
            raise Computed
        pieces: list[str | Open] = []
        end = 0
        for one, gap in zip(found, self.written, strict=True):
            pieces += [text[end : one.start()], Open(gap, escape_at(one.start()))]
            end = one.end()
        return Pattern((*pieces, text[end:]))


@dataclass(frozen=True, slots=True)
class Open:
    """An open place of a text, and how what goes there is escaped."""

    gap: Gap
    escape: Escape


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with open places."""

    pieces: tuple[str | Open, ...]

    @property
    def fixed(self) -> bool:
        """Whether it is the same for everybody."""
        return all(isinstance(piece, str) for piece in self.pieces)

    def fill(self, values: Mapping[str, str]) -> str:
        """The text for one reader."""
        return "".join([p if isinstance(p, str) else p.escape(p.gap.of(values)) for p in self.pieces])

    def lines(self) -> "list[Pattern]":
        """One pattern for each line; what is filled in has no line breaks."""
        lines: list[list[str | Open]] = [[]]
        for piece in self.pieces:
            first, *others = _LINE_END.split(piece) if isinstance(piece, str) else (piece,)
            lines[-1].append(first)
            lines += [[other] for other in others]
        return [Pattern(tuple(line)) for line in lines]


class Blank:
    """A personal value while a template is rendered: to be written, filtered by ours, and asked whether it is there."""

    __slots__ = ("_blanks", "_gap")

    def __init__(self, blanks: Blanks, gap: Gap) -> None:
        self._blanks, self._gap = blanks, gap

    def __bool__(self) -> bool:
        """Ask, and remember the answer."""
        return self._blanks.ask(self._gap)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse every method of a text; also `__html__`, so that nothing escapes a blank by itself."""
        raise Computed

    def _computed(self, *_: object, **__: object) -> NoReturn:
        raise Computed

    __str__ = __repr__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _computed
    __len__ = __iter__ = __contains__ = __getitem__ = __format__ = __int__ = __float__ = __index__ = _computed
    __add__ = __radd__ = __mul__ = __rmul__ = __mod__ = __rmod__ = __call__ = __reversed__ = _computed


class Reader:
    """Who gets the mail, while it is rendered for many: a template may write who it is, and nothing else."""

    __slots__ = ("email", "id", "name")

    def __init__(self, blanks: Blanks) -> None:
        self.id, self.email, self.name = (blanks.blank(name) for name in ("id", "email", "name"))

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what only a job's own recipient has."""
        raise Computed

    def _computed(self) -> NoReturn:
        raise Computed

    __str__ = __repr__ = _computed


def fillable(step: Step) -> Callable[[Any], Any]:
    """Make a filter that waits with a blank until the value is there."""

    def filtered(value: Any) -> Any:
        if isinstance(value, Blank):
            return Blank(value._blanks, Gap(value._gap.name, (*value._gap.steps, step)))  # noqa: SLF001  one module
        return step(value)

    return filtered


def written(nonce: str, value: Any) -> Any:
    """What a template writes for a value: a marker for a blank. Raises Computed for a text made of one before."""
    if isinstance(value, Blank):
        return value._blanks.write(value._gap)  # noqa: SLF001  one module
    if isinstance(value, Reader) or (isinstance(value, str) and nonce in value):
        raise Computed
    return value
