"""pydantic's findings as sentences at the place in the file."""

import types
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from overnight.schedule.problem import did_you_mean, one_of, shown
from overnight.schedule.source import Path_, Source

_SENTENCES = {
    "string_type": "must be text, not {input}",
    "list_type": "must be a list, not {input}",
    "dict_type": "must be a mapping, not {input}",
    "model_type": "must be a mapping, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "too_short": "must name at least one",
    "string_pattern_mismatch": "must be module:function, as in jobs.digest:digest, not {input}",
}


def explain(source: Source, error: ValidationError, model: type[BaseModel]) -> None:
    """Report every finding, except where the value was already found wrong."""
    for finding in error.errors(include_url=False):
        path = finding["loc"]
        if not source.is_spoiled(path):
            _report(source, finding, path, model)


def _report(source: Source, finding: ErrorDetails, path: Path_, model: type[BaseModel]) -> None:
    kind, given = finding["type"], finding["input"]
    if kind == "extra_forbidden":
        span, hint = source.key_at(path), did_you_mean(str(path[-1]), known_keys(model, path[:-1]))
        source.report(span, path, f"unknown key {str(path[-1])!r}", hint)
    elif kind == "missing":
        source.report(source.key_at(path[:-1]), path, f"the key {str(path[-1])!r} is missing")
    elif kind == "literal_error":
        _report_choice(source, path, model, given)
    elif kind == "value_error":
        message, _, hint = str(finding["ctx"]["error"]).partition("; ")
        source.report(source.value_at(path), path, message, hint)
    else:
        context = {**finding.get("ctx", {}), "input": shown(given)}
        message = _SENTENCES[kind].format(**context) if kind in _SENTENCES else finding["msg"]
        source.report(source.value_at(path), path, message)


def _report_choice(source: Source, path: Path_, model: type[BaseModel], given: Any) -> None:
    allowed = [str(one) for one in get_args(_bare(_annotation(model, path)))]
    message = f"must be {one_of(allowed)}, not {shown(given)}"
    source.report(source.value_at(path), path, message, did_you_mean(str(given), allowed))


def known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """Return the keys allowed in the mapping at `path`."""
    found = _bare(_annotation(model, path))
    if isinstance(found, type) and issubclass(found, BaseModel):
        return [field.alias or name for name, field in found.model_fields.items()]
    return []


def _annotation(model: type[BaseModel], path: Path_) -> Any:
    """Walk the types along a path; None where it leaves them."""
    current: Any = model
    for part in path:
        current = _bare(current)
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
            current = fields.get(str(part))
        else:
            arguments = get_args(current)
            current = arguments[-1] if arguments else None
    return current


def _bare(annotation: Any) -> Any:
    """Take off Annotated and Optional."""
    while True:
        arguments = get_args(annotation)
        if hasattr(annotation, "__metadata__"):
            annotation = arguments[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            annotation = next(one for one in arguments if one is not type(None))
        else:
            return annotation
