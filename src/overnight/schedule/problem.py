"""What is wrong with schedule.yaml, and where: all of it at once, printed for the operator."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from overnight.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct.

    `line` and `column` count from 1; line 0 means the file as a whole. `source` is the line of the file with secrets
    replaced; in it the offending token starts at `caret` (from 0) and has `width` characters.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    source: str = ""
    caret: int = 0
    width: int = 1

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        said = ": ".join(part for part in (self.path, self.message) if part)
        head = f"{place}: error: {said}" + (f"; {self.hint}" if self.hint else "")
        return "\n".join([head, *self._excerpt()])

    def _excerpt(self) -> list[str]:
        if not self.line or not self.source:
            return []
        number = f"{self.line:>3}"
        # A tab before the caret stays a tab, or the caret would stand elsewhere on the screen.
        indent = "".join("\t" if char == "\t" else " " for char in self.source[: self.caret]).ljust(self.caret)
        return [f"{number} | {self.source}", f"{' ' * len(number)} | {indent}{'^' * max(self.width, 1)}"]


class ScheduleErrors(ConfigError):
    """schedule.yaml cannot be used; `errors` holds every problem found, in the order of the file."""

    def __init__(self, errors: Iterable[Problem]) -> None:
        self.errors = sorted(set(errors), key=lambda one: (one.line, one.column, one.path))
        super().__init__("\n".join(str(error) for error in self.errors))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word, or nothing."""
    by_folded = {one.casefold(): one for one in known}
    near = get_close_matches(word.casefold(), by_folded, n=1)
    return f"did you mean {by_folded[near[0]]!r}?" if near else ""


def one_of(words: Iterable[str]) -> str:
    """Write the allowed words as `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def shown(value: object) -> str:
    """Write a value the way the operator wrote it, more or less; long ones and blocks by their kind."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 60  # characters of a value in a message
