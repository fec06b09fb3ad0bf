"""The file as text and as a tree of plain values in which every value knows its place.

The tree is built from ruamel's nodes and not by its constructors: each node carries its place, all duplicate keys are
found at once, nothing but text, numbers, booleans, lists and mappings can come out, and aliases are bounded.
"""

import codecs
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from overnight.schedule.problem import Problem, ScheduleErrors

LARGEST = 1_000_000  # bytes; thousands of jobs fit, and the parser needs seconds for more
_MOST_VALUES = 100_000  # with aliases expanded; stops an alias bomb long before memory does
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_TAG = "tag:yaml.org,2002:"
_UTF16_OR_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A token in the text: line and column from 1, width in characters."""

    line: int
    column: int
    width: int = 1


@dataclass
class Source:
    """The text, the tree read from it, the place of every value, and the problems met so far."""

    name: str
    text: str
    data: Any = None
    keys: dict[Path_, Span] = field(default_factory=dict)
    values: dict[Path_, Span] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[Path_] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", self.text)

    def line(self, number: int) -> str:
        """Return line `number` (from 1), or nothing behind the end."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def value_at(self, path: Path_) -> Span:
        """Return the place of a value; of the nearest value around it, if it is not in the file."""
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, Span(1, 1))

    def key_at(self, path: Path_) -> Span:
        """Return the place of a key; that of the value for items of a list."""
        return self.keys.get(path) or self.value_at(path)

    def within(self, path: Path_, part: str) -> Span:
        """Return the place of a piece of text inside a value on one line, else that of the value."""
        span = self.value_at(path)
        found = self.line(span.line).find(part, span.column - 1)
        return Span(span.line, found + 1, len(part)) if found >= 0 else span

    def at_offset(self, offset: int, width: int = 1) -> Span:
        """Return the place of a character of the text."""
        starts = [match.end() for match in re.finditer(r"\r\n|[\n\r\x85\u2028\u2029]", self.text)]
        line = bisect(starts, offset)
        return Span(line + 1, offset - (starts[line - 1] if line else 0) + 1, width)

    def report(self, span: Span, path: Path_, message: str, hint: str = "") -> None:
        """Note a problem; secrets in it are replaced."""
        self.refuse(span, path, self.mask(message), self.mask(hint))

    def refuse(self, span: Span, path: Path_, message: str, hint: str = "") -> None:
        """Note a problem whose words hold nothing of the file; only the line shown is masked."""
        line, start = self.line(span.line), span.column - 1
        head, token, tail = (
            self.mask(part) for part in (line[:start], line[start : start + span.width], line[start + span.width :])
        )
        self.problems.append(
            Problem(
                file=self.name,
                line=span.line,
                column=span.column,
                path=".".join(str(part) for part in path),
                message=message,
                hint=hint,
                source=(head + token + tail).rstrip(),
                caret=len(head),
                width=len(token),
            )
        )

    def spoil(self, span: Span, path: Path_, message: str, hint: str = "") -> None:
        """Note a problem that makes the value at `path` meaningless, so that nothing more is said about it."""
        self.report(span, path, message, hint)
        self.spoiled.add(path)

    def is_spoiled(self, path: Path_) -> bool:
        """Tell whether the value at `path`, or one around it, was already found wrong."""
        return any(path[:end] in self.spoiled for end in range(len(path) + 1))

    def mask(self, text: str) -> str:
        """Replace known secrets by `***`."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def stop_if_wrong(self) -> None:
        """Raise what was found; ScheduleErrors."""
        if self.problems:
            raise ScheduleErrors(self.problems)


def read(path: Path, name: str) -> str:
    """Return the text of the file; ScheduleErrors when it is no readable UTF-8 text of reasonable size."""
    try:
        if path.is_dir():
            raise _whole(name, "this is a directory", "give the path of the schedule.yaml in it")
        if path.exists() and not path.is_file():
            raise _whole(name, "this is not a regular file")
        if (size := path.stat().st_size) > LARGEST:
            raise _whole(name, f"the file has {size:,} bytes, more than the {LARGEST:,} a schedule may have")
        return decode(path.read_bytes(), name)
    except FileNotFoundError:
        raise _whole(name, "file not found", "run `overnight init` to make one, or name it with --config") from None
    except OSError as error:
        raise _whole(name, f"cannot be read: {error.strerror or error}") from None


def decode(raw: bytes, name: str) -> str:
    """Return the text of UTF-8 bytes, with or without a byte order mark; ScheduleErrors for anything else."""
    if raw.startswith(_UTF16_OR_32):
        raise _whole(name, "the file is UTF-16 or UTF-32", "save it as UTF-8")
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        readable = raw[: error.start].removeprefix(codecs.BOM_UTF8).decode()
        source = Source(name, readable)
        span = source.at_offset(len(readable))
        source.report(span, (), f"byte 0x{raw[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        raise ScheduleErrors(source.problems) from None


def _whole(name: str, message: str, hint: str = "") -> ScheduleErrors:
    return ScheduleErrors([Problem(name, 0, 0, "", message, hint)])


def parse(source: Source) -> None:
    """Fill `data`, `keys` and `values`; what is no YAML becomes a problem at its place."""
    for match in _CONTROL.finditer(source.text):
        span = source.at_offset(match.start())
        source.report(span, (), f"control character U+{ord(match[0]):04X}", "remove it")
    source.stop_if_wrong()
    try:
        root = YAML(typ="safe", pure=True).compose(source.text)
    except MarkedYAMLError as error:
        _explain(source, error)
    except (YAMLError, ValueError, OverflowError) as error:  # the latter: a character beyond all that there are
        source.report(Span(1, 1), (), f"this is not YAML: {_first_line(error)}")
    except RecursionError:
        source.report(Span(1, 1), (), "the file is nested too deeply")
    else:
        _Builder(source).build(root)
    source.stop_if_wrong()


_FLOWS = ("while parsing a flow sequence", "while parsing a flow mapping")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _explain(source: Source, error: MarkedYAMLError) -> None:
    """Say in words what ruamel found; an open quote is reported where it opens, not at the end of the file."""
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark
    message, hint = f"this is not YAML: {problem or context}", ""
    if "quoted scalar" in context:
        mark, message = error.context_mark, "this quote is never closed"
    elif context in _FLOWS:
        mark, message = error.context_mark, "this bracket is never closed, or a comma is missing in it"
    elif problem.startswith("expected <block end>"):
        message = "this does not fit the indentation of the lines above"
    elif "'\\t'" in problem:
        message, hint = "a tab cannot indent YAML", "use spaces"
    elif "mapping values are not allowed" in problem:
        message, hint = "a second `: ` in one line", "put the text in quotes, or check the indentation"
    elif "another document" in problem:
        message = "a second document begins here; a schedule is one document"
    source.report(_point(mark), (), message, hint)


def _point(mark: StreamMark | None) -> Span:
    return Span(mark.line + 1, mark.column + 1) if mark else Span(1, 1)


class _Builder:
    """Turns nodes into plain values and remembers where each one stood."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.left = _MOST_VALUES
        self.open: set[int] = set()

    def build(self, root: Node | None) -> None:
        source = self.source
        if root is None:
            source.report(Span(1, 1), (), "the file is empty", "run `overnight init` for an example")
        elif not isinstance(root, MappingNode):
            source.report(self.span(root), (), "the file must be a mapping of `key: value` lines")
        else:
            try:
                source.data = self.value(root, ())
            except _TooManyError:
                source.report(Span(1, 1), (), f"more than {_MOST_VALUES:,} values once the aliases are expanded")
            except RecursionError:
                source.report(Span(1, 1), (), "the file is nested too deeply")

    def span(self, node: Node) -> Span:
        """Return the token's place; to the end of the first line for what spans several."""
        start, end = node.start_mark, node.end_mark
        line = self.source.line(start.line + 1)
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(start.line + 1, start.column + 1, max(stop - start.column, 1))

    def value(self, node: Node, path: Path_) -> Any:
        self.spend()
        self.source.values[path] = self.span(node)
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open:
            self.source.spoil(self.span(node), path, "this anchor contains itself")
            return None
        self.open.add(id(node))
        built = self.mapping(node, path) if isinstance(node, MappingNode) else self.sequence(node, path)
        self.open.discard(id(node))
        return built

    def sequence(self, node: Node, path: Path_) -> list[Any]:
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, (span, value_node) in self.pairs(node, path).items():
            self.source.keys[*path, key] = span
            built[key] = self.value(value_node, (*path, key))
            if (
                value_node.start_mark.index == value_node.end_mark.index
            ):  # nothing there; it would point at the next line
                self.source.values[*path, key] = span
        return built

    def pairs(self, node: MappingNode, path: Path_) -> dict[str, tuple[Span, Node]]:
        """Return the keys of a mapping, its own first, then what `<<:` brings in; the first one wins."""
        own: dict[str, tuple[Span, Node]] = {}
        merged: list[MappingNode] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += self.merged(value_node, path)
            elif not isinstance(key_node, ScalarNode):
                self.source.report(self.span(key_node), path, "a key must be a word")
            else:
                self.add(own, key_node, value_node, path)
        for other in merged:
            own = {**self.bounded_pairs(other, path), **own}
        return own

    def add(self, own: dict[str, tuple[Span, Node]], key_node: ScalarNode, value_node: Node, path: Path_) -> None:
        """Add one key; `on`, `no` and `12:30` stay the words the operator wrote."""
        key, span = key_node.value, self.span(key_node)
        if key in own:
            self.source.report(span, (*path, key), f"duplicate key {key!r}, first on line {own[key][0].line}")
        else:
            own[key] = span, value_node

    def merged(self, node: Node, path: Path_) -> list[MappingNode]:
        """Return the mappings named by `<<:`, one or a list of them."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        for wrong in (one for one in nodes if not isinstance(one, MappingNode)):
            self.source.report(self.span(wrong), path, "`<<:` takes a mapping, as in `<<: *name`")
        return [one for one in nodes if isinstance(one, MappingNode)]

    def bounded_pairs(self, node: MappingNode, path: Path_) -> dict[str, tuple[Span, Node]]:
        self.spend()
        if id(node) in self.open:
            self.source.spoil(self.span(node), path, "this anchor contains itself")
            return {}
        self.open.add(id(node))
        found = self.pairs(node, path)
        self.open.discard(id(node))
        return found

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooManyError

    def scalar(self, node: ScalarNode, path: Path_) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind not in _SCALARS:
            self.source.spoil(self.span(node), path, f"tags such as {node.tag!r} are not understood", "remove it")
            return None
        try:
            return _SCALARS[kind](node.value)
        except ValueError:  # .inf, .nan, an integer of thousands of digits: none of them is a setting
            return node.value


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return int(text)  # 007 is seven


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "timestamp": str,
    "int": _integer,
    "float": float,
    "bool": lambda text: text.lower() == "true",
    "null": lambda _text: None,
}


class _TooManyError(Exception):
    """The aliases expand to more values than a schedule can have."""


def scalars(source: Source) -> Iterator[tuple[Path_, str]]:
    """Yield every text and number of the tree with its path; numbers as they are written in the file."""
    return _scalars(source, source.data, ())


def _scalars(source: Source, data: Any, path: Path_) -> Iterator[tuple[Path_, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _scalars(source, value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _scalars(source, value, (*path, index))
    elif isinstance(data, str):
        yield path, data
    elif data is not None and not isinstance(data, bool):
        span = source.value_at(path)
        yield path, source.line(span.line)[span.column - 1 :][: span.width]
