"""Shapes of answers: a type as the JSON schema that a model gets, and the text it answers as a value of that type.

This module imports nothing of ours but the errors.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError, create_model

from overnight.errors import Invalid, Stop

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """How a type travels: its JSON schema, whose root is always an object, and how text becomes a value of it."""

    adapter: TypeAdapter[Any]
    schema: Mapping[str, Any]
    wrapped: bool

    def parse(self, text: str) -> T:
        """Return the value in `text`. Raises Invalid, naming the places but not the text."""
        try:
            value = self.adapter.validate_json(text)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)
            places = [{"at": ".".join(map(str, each["loc"])), "wrong": each["msg"]} for each in wrong[:20]]
            raise Invalid(json.dumps(places), code="schema") from error
        return cast("T", value.value if self.wrapped else value)


@lru_cache(maxsize=256)
def shape(output: Any) -> Shape[Any]:
    """Return the shape of a type. Raises Stop for a mapping with free keys, which structured output cannot express."""
    plain: TypeAdapter[Any] = TypeAdapter(output)
    schema = plain.json_schema()
    if place := next(_with_free_keys(schema), None):
        raise Stop(
            f"output={output} has free keys{place}, which a model's structured output cannot have: use a dataclass, "
            "or a list of entries",
            code="output_type",
        )
    if schema.get("type") != "object":
        inside: TypeAdapter[Any] = TypeAdapter(create_model("Value", value=(output, ...)))
        return Shape(inside, inside.json_schema(), wrapped=True)
    return Shape(plain, schema, wrapped=False)


def _with_free_keys(part: Any, place: str = " as a whole") -> Iterator[str]:
    """Yield the places of mappings with free keys: the SDK makes empty objects of them without a word."""
    if not isinstance(part, dict):
        return
    typed = isinstance(part.get("additionalProperties"), dict)
    if part.get("type") == "object" and (typed or "properties" not in part):
        yield place
    for key, inner in part.get("$defs", {}).items():
        yield from _with_free_keys(inner, f" in {key}")
    for key, inner in part.get("properties", {}).items():
        yield from _with_free_keys(inner, f" at {part.get('title', 'output')}.{key}")
    several = [inner for name in ("anyOf", "oneOf", "allOf", "prefixItems") for inner in part.get(name, ())]
    for inner in (*several, part.get("items")):
        yield from _with_free_keys(inner, place)
