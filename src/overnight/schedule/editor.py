"""The JSON Schema with which an editor completes, explains and checks schedule.yaml while it is written."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from overnight.schedule.job import TIMINGS, Strict
from overnight.schedule.model import Schedule
from overnight.tools import BUILT_IN, Limits


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of schedule.yaml."""
    schema = Schedule.model_json_schema(by_alias=True, mode="serialization")  # defaults as they stand in a file
    schema["patternProperties"] = {"^x-": {}}
    schema["$defs"]["JobSettings"]["oneOf"] = [{"required": [timing]} for timing in TIMINGS]
    schema["properties"]["jobs"]["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "schedule.yaml of overnight"
    parts = schema["$defs"] | {"Schedule": schema}
    models: list[type[BaseModel]] = [*_below(Strict), Limits, *_below(Limits)]
    for model in models:
        for name, said in _explained(model) if model.__name__ in parts else ():
            parts[model.__name__]["properties"][name]["description"] = said
    for name, each in BUILT_IN.items():
        said = inspect.getdoc(each.work) or ""
        schema["$defs"]["Tools"]["properties"][name]["description"] = said.partition("\n")[0]
    return schema


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _below(each)


def _explained(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The names that stand in the file, with the texts below the fields; what a class inherits comes first.

    They are read from the source, here alone: pydantic would do it whenever the engine starts.
    """
    for kind in reversed(model.__mro__):
        if not issubclass(kind, Strict | Limits) or kind.__name__ == "Tools":  # which is made, and has no source
            continue
        parsed = ast.parse(inspect.getsource(kind)).body[0]
        for field, text in pairwise(getattr(parsed, "body", [])):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    yield model.model_fields[name].alias or name, said
