"""The error codes, variables and alerts that the source names: read from its syntax, so that none is forgotten."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from overnight import errors

Node = TypeVar("Node", bound=ast.AST)
ROOT = Path(__file__).parents[1]
FOLDERS = ("src/overnight", "jobs", "reports")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the engine and of the project that comes with it."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("src.").removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


@cache
def codes() -> dict[str, set[str]]:
    """Each code with the classes of errors that have it; what is only known when it happens is `…`: `http_…`.

    Raises ValueError for a class that is called by the name of a variable: it would be missing here.
    """
    found: dict[str, set[str]] = defaultdict(set)
    trees = [*sources()]
    bases = {each.name: _name(each.bases[0]) for _, tree in trees for each in _nodes(tree, ast.ClassDef) if each.bases}
    for _, tree in trees:
        positions = _positions(tree)
        owner = {function: each.name for each in _nodes(tree, ast.ClassDef) for function in each.body}
        for function in _functions(tree):
            for call in _nodes(function, ast.Call):
                raised = _called(call) if _called(call) != "__init__" else owner.get(function, "")
                given = [text for value in _given(call, positions) for text in _texts(value, [function, tree])]
                if given and isinstance(call.func, ast.Name) and any(_assigned(raised, function)):
                    raise ValueError(f"{function.name}() hides the class of {', '.join(given)} behind {raised!r}")
                for code in given:
                    found[code] |= _public(raised, bases)
    return dict(sorted(found.items()))


@cache
def variables() -> dict[str, set[str]]:
    """Each text that looks like the name of a variable, with the modules that have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, tree in sources():
        for node in _nodes(tree, ast.Constant):
            if isinstance(node.value, str) and _VARIABLE.fullmatch(node.value):
                found[node.value].add(module)
    return dict(sorted(found.items()))


@cache
def alerts() -> set[str]:
    """The rule of each alert: the first thing that `Alarm`, `_alarm` and `run.warn` are given."""
    return {
        text
        for _, tree in sources()
        for call in _nodes(tree, ast.Call)
        if _called(call) in ("Alarm", "_alarm", "warn") and call.args
        for text in _texts(call.args[0], [tree])
        if text.isidentifier()
    }


def _given(call: ast.Call, positions: Mapping[str, int]) -> list[ast.expr]:
    """What a call gives as a code: by the word, or at its position where a function of the module has it."""
    named = [word.value for word in call.keywords if word.arg in ("code", "error_code")]
    if _called(call) in positions:
        at = positions[_called(call)] - isinstance(call.func, ast.Attribute)
        named += call.args[at : at + 1]
    return named


def _positions(tree: ast.AST) -> dict[str, int]:
    names = {each.name: [argument.arg for argument in each.args.args] for each in _functions(tree)}
    return {name: arguments.index("code") for name, arguments in names.items() if "code" in arguments}


def _texts(value: ast.expr, scopes: list[ast.AST]) -> Iterator[str]:
    """The texts that an expression may come to, as far as the source says."""
    match value:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.BoolOp(values=values):
            for each in values:
                yield from _texts(each, scopes)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body, scopes)
            yield from _texts(orelse, scopes)
        case ast.Name(id=name):
            for scope in scopes:
                assigned = [*_assigned(name, scope)]
                for each in assigned:
                    yield from _texts(each, [])
                if assigned:
                    break


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in _nodes(scope, ast.Assign):
        for target in node.targets:
            pairs: list[tuple[ast.expr, ast.expr]] = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def _public(name: str, bases: Mapping[str, str]) -> set[str]:
    """The class of overnight.errors that a class of ours is one of; none of what is no error."""
    while name in bases and name not in vars(errors):
        name = bases[name]
    return {name} & vars(errors).keys()


def _nodes(tree: ast.AST, kind: type[Node]) -> Iterator[Node]:
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from _nodes(tree, ast.FunctionDef)
    yield from _nodes(tree, ast.AsyncFunctionDef)


def _called(call: ast.Call) -> str:
    return _name(call.func)


def _name(expression: ast.expr) -> str:
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
