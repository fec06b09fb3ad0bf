"""The fake model writes values of the asked shape out of the data it is given, and nothing else."""

import json
import re
import string
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from overnight.fake_model.answers import Unsatisfiable, answer, written
from overnight.fake_model.material import Source, embedded, sentences, shortened

NOTES = [
    {"id": 3, "kind": "bug", "text": "The door of the shed is stuck. It opens only by force."},
    {"id": 1, "kind": "wish", "text": "A second lamp over the door would help. It is dark there."},
]


def source(data: Any = NOTES) -> Source:
    return Source.of_messages([f"Please do.\n{json.dumps(json.dumps(data))}\nThank you."])


def conforms(schema: dict[str, Any], value: Any) -> bool:  # noqa: PLR0911  one return for each type
    """Judge a value without the code under test; knows the keywords `schemas` makes."""
    if "anyOf" in schema:
        return any(conforms(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    match schema["type"]:
        case "object":
            return (
                isinstance(value, dict)
                and set(value) == set(schema["properties"])
                and all(conforms(schema["properties"][name], inner) for name, inner in value.items())
            )
        case "array":
            fits = schema["minItems"] <= len(value) <= schema["maxItems"]
            return isinstance(value, list) and fits and all(conforms(schema["items"], inner) for inner in value)
        case "string":
            return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
        case "integer" | "number" as kind:
            right = isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
            return right and schema["minimum"] <= value <= schema["maximum"]
        case "boolean":
            return isinstance(value, bool)
        case kind:
            return kind == "null" and value is None


def ranges(low: str, high: str, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(numbers, numbers).map(lambda pair: {low: min(pair), high: max(pair)})


def typed(kind: str, bounds: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return bounds.map(lambda rule: {"type": kind, **rule})


NAMES = st.sampled_from(["id", "kind", "text", "title", "items", "x"])
SCALARS = st.one_of(
    typed("string", ranges("minLength", "maxLength", st.integers(0, 300))),
    typed("integer", ranges("minimum", "maximum", st.integers(-(10**6), 10**6))),
    typed("number", ranges("minimum", "maximum", st.floats(-1e6, 1e6))),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(st.sampled_from(["bug", "wish", "door", "other"]), min_size=1, unique=True).map(lambda e: {"enum": e}),
)


def grown(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(NAMES, inner, max_size=4)
    objects = properties.map(lambda p: {"type": "object", "properties": p, "required": list(p)})
    items = st.tuples(inner, ranges("minItems", "maxItems", st.integers(0, 5)))
    arrays = items.map(lambda pair: {"type": "array", "items": pair[0], **pair[1]})
    return st.one_of(objects, arrays, st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}))


SCHEMAS = st.recursive(SCALARS, grown, max_leaves=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)  # a busy machine is no failure
@given(schema=SCHEMAS, data=JSON | st.just(NOTES))
def test_every_answer_satisfies_its_schema_whatever_the_data(schema: dict[str, Any], data: Any) -> None:
    value = written(schema, source(data))
    assert conforms(schema, value), (schema, value)


@settings(deadline=None)
@given(schema=SCHEMAS, data=JSON)
def test_the_same_request_is_answered_alike(schema: dict[str, Any], data: Any) -> None:
    assert json.dumps(written(schema, source(data))) == json.dumps(written(schema, source(data)))


@given(JSON)
def test_data_is_found_again_inside_a_fence(data: Any) -> None:
    fence = f'Read this.\n<untrusted-1a source="x">\n{json.dumps(json.dumps({"d": data}))}\n</untrusted-1a>'
    assert embedded(fence) == [{"d": data}]


def test_json_is_found_plain_and_over_several_lines_but_not_within_a_sentence() -> None:
    text = 'He said\n"Good" and left [1]\n{\n "a": [1,\n 2]\n}\n  [3]\n"[4]"\n"plain words"\n{broken'
    assert embedded(text) == [{"a": [1, 2]}, [3], [4], "plain words"]


def test_sentences_lose_markup_and_line_breaks() -> None:
    assert sentences("<p>It is&nbsp;5 &lt; 6.\nYes!</p>\n\n<br/>") == ["It is 5 < 6.", "Yes!"]


@given(st.text(string.ascii_letters + " ", max_size=60), st.integers(0, 70))
def test_shortened_text_keeps_within_its_limit(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= limit
    assert shortened(text, 60) == text


class Point(BaseModel):
    """A nested model."""

    label: str = Field(min_length=3, max_length=20)
    share: float = Field(gt=0, lt=1)
    even: int = Field(multiple_of=2, gt=2, le=8)


class Verdict(BaseModel):
    """One object per note."""

    id: int
    kind: Literal["bug", "wish"]
    reason: str
    points: list[Point] = Field(min_length=2, max_length=3)


class Tree(BaseModel):
    """A model that contains itself."""

    name: str
    left: "Tree | None"
    children: list["Tree"]


class Report(BaseModel):
    """Nested definitions, choices, maps and tuples."""

    version: Literal["v1"]
    verdicts: list[Verdict]
    best: Verdict | None
    pair: tuple[int, str]
    counts: dict[str, int]
    code: str = Field(pattern=r"^[a-z]+$")
    link: str | int | None
    tags: list[Literal["door", "lamp", "roof"]] = Field(max_length=2)


def test_a_pydantic_model_with_definitions_is_filled_item_by_item() -> None:
    report = Report.model_validate(written(Report.model_json_schema(), source()))
    assert [(verdict.id, verdict.kind) for verdict in report.verdicts] == [(3, "bug"), (1, "wish")]
    assert report.verdicts[1].reason == "A second lamp over the door would help."
    assert report.tags == ["door", "lamp"]


def test_a_model_that_contains_itself_comes_to_an_end() -> None:
    tree = Tree.model_validate(written(Tree.model_json_schema(), source()))
    assert tree.name == "The door of the shed is stuck."


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "back to itself"),
        ({"$ref": "#/$defs/a"}, "leads nowhere"),
        ({"type": "strnig"}, "no type 'strnig'"),
    ],
)
def test_a_schema_no_value_can_satisfy_is_named_so(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsatisfiable, match=reason):
        written(schema, source())


def test_a_list_that_resembles_no_data_still_holds_its_minimum() -> None:
    shape = TypeAdapter(list[Point]).json_schema() | {"minItems": 3}
    assert len(written(shape, source())) == 3


def test_a_group_of_items_reaches_all_the_data() -> None:
    verdict = {"type": "object", "properties": {"id": {"type": "integer"}, "why": {"type": "string"}}}
    group = {"type": "object", "properties": {"topic": {"type": "string"}, "notes": {"items": verdict}}}
    (only,) = written({"items": group}, source({"notes": NOTES}))
    assert [note["id"] for note in only["notes"]] == [3, 1]


def test_the_fullest_likeness_wins_among_several_lists() -> None:
    data = {"people": [{"id": "p"}], "notes": [{"id": "n", "text": "A note is here."}]}
    item = {"type": "object", "properties": {"id": {"type": "string"}, "text": {"type": "string"}}}
    assert written({"type": "array", "items": item}, source(data)) == [{"id": "n", "text": "A note is here."}]


def test_a_long_text_of_the_same_name_is_summarised_not_repeated() -> None:
    data = [{"summary": "It rains. " * 40}]
    (line,) = written({"items": {"properties": {"summary": {"type": "string"}}}}, source(data))
    assert line == {"summary": "It rains."}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("date", r"2026-03-04"),
        ("email", r"ann@example\.org"),
        ("uri", r"https://example\.org/a"),
        ("uuid", r"[0-9a-f-]{36}"),
    ],
)
def test_formats_are_quoted_from_the_data(form: str, expected: str) -> None:
    data = {"body": "On 2026-03-04 ann@example.org wrote at https://example.org/a about it."}
    value = written({"type": "string", "format": form}, source(data))
    assert re.fullmatch(expected, value)


def test_a_pattern_is_searched_in_the_data() -> None:
    data = {"body": "This is about ticket OPS-417 and others."}
    assert written({"type": "string", "pattern": r"^[A-Z]+-\d+$"}, source(data)) == "OPS-417"


def test_plain_text_without_data_is_quoted_from_the_question() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Say hello. Be kind. Go."}]}]}
    assert answer(body) == "Say hello. Be kind."


def test_an_empty_question_is_answered_too() -> None:
    assert answer({"messages": [{"role": "user", "content": ""}]}) == "There is no text to work on."
