"""The page on what a job's author has: the docstrings and comments of `@job`, `Run`, errors and the fixture `bench`."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_overloads

import overnight
from docs.tables import table
from overnight import Answer, Run, Subscriber, active_subscribers, errors, job
from overnight.context import Context
from overnight.jobs import Options
from overnight.run import Mail
from overnight.testing import BatchResult, Bench, Sent

ENGINES = {  # of Run: what is public for the engine alone
    "asks", "clock", "for_item", "ledger", "notices", "on_unknown", "post", "scope", "steps",
}  # fmt: skip
_FIELD = re.compile(r"(?m)^    (?P<name>[a-z]\w*): .+?  # (?P<said>.+)$")
_DEFAULT = re.compile(r"(?m)^    (?P<name>[a-z]\w*): \w+ = (?P<default>[\d.]+)")
_HEAD = re.compile(r"^(?P<head>(?:async )?def .+?):\n", re.MULTILINE | re.DOTALL)


def author(becomes: Mapping[str, str]) -> str:
    """The page; `becomes` says of the class of an error what becomes of the item."""
    return "\n\n".join(
        [
            f"## `@job`\n\n{_doc(job)}\n\n{_options()}",
            f"## `run`\n\n{_doc(Run)}\n\n{_attributes('run', Run)}",
            *_methods("run", Run),
            *_methods("run.mail", Mail),
            "## What they give and take",
            *(_value(kind) for kind in (Answer, Context, Subscriber)),
            f"### `active_subscribers`\n\n{_doc(active_subscribers)}",
            f"## What it raises\n\nAnything else is a bug: the item fails, and somebody is told.\n\n{_errors(becomes)}",
            f"## The fixture `bench`\n\n{_doc(Bench)}\n\n{_attributes('bench', Bench)}",
            *_methods("bench", Bench),
            f"### `BatchResult`\n\n{_doc(BatchResult)}\n\n{_attributes('batch', BatchResult)}",
            _value(Sent),
        ]
    )


def _options() -> str:
    (given,) = (
        parameters for each in get_overloads(job) if "items" in (parameters := inspect.signature(each).parameters)
    )
    source = inspect.getsource(Options)
    defaults = {found["name"]: found["default"] for found in _DEFAULT.finditer(source)}
    rows = [(f"`{name}`", f"`{float(defaults[name]):g}`", said) for name, said in _fields(source) if name in given]
    return table(("option", "default", "meaning"), rows)


def _attributes(word: str, kind: type) -> str:
    """Fields with a comment behind them, and properties with their docstrings."""
    said = {**dict(_fields(inspect.getsource(kind)))}
    said |= {name: _doc(each) for name, each in _public(kind) if isinstance(each, property)}
    return table(("attribute", "what it is"), [(f"`{word}.{name}`", text) for name, text in said.items()])


def _fields(source: str) -> Iterator[tuple[str, str]]:
    return ((found["name"], found["said"]) for found in _FIELD.finditer(source))


def _methods(word: str, kind: type) -> Iterator[str]:
    for name, each in _public(kind):
        if inspect.isfunction(each):
            yield f"### {word}.{name}\n\n```text\n{_head(word, each)}\n```\n\n{_doc(each)}"


def _head(word: str, function: Callable[..., Any]) -> str:
    """How it is called, as the source has it."""
    found = _HEAD.search(textwrap.dedent(inspect.getsource(function)))
    assert found is not None
    head = found["head"].replace("(\n    self,", "(").replace("(self, ", "(").replace("(self)", "()")
    return head.replace("async def ", f"await {word}.").replace("def ", f"{word}.")


def _public(kind: type) -> Iterable[tuple[str, Any]]:
    return ((name, each) for name, each in vars(kind).items() if not name.startswith("_") and name not in ENGINES)


def _value(kind: type) -> str:
    fields = ", ".join(f"`{name}`" for name in getattr(kind, "__dataclass_fields__", ()))
    return f"### `{kind.__name__}`\n\n{_doc(kind)}\n\nIts fields: {fields}."


def _errors(becomes: Mapping[str, str]) -> str:
    kinds = [(name, getattr(errors, name)) for name in overnight.__all__ if hasattr(errors, name)]
    rows = [(f"`{name}{_call(kind)}`", _doc(kind), becomes[name]) for name, kind in kinds]
    return table(("raise", "when", "then"), rows)


def _call(kind: type) -> str:
    return (
        "(" + ", ".join(name if name == "message" else f"{name}=" for name in inspect.signature(kind).parameters) + ")"
    )


def _doc(of: object) -> str:
    return inspect.getdoc(of) or ""
