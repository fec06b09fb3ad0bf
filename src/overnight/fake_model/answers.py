"""Answers made from the request alone: a value of the asked shape, written out of the user's own data.

Nothing here knows a job, a prompt or a field name. What looks like understanding is copying fields of the same name,
mapping an array over the array that resembles it most, and quoting sentences. The same request gives the same answer.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from overnight.fake_model.material import Source, arrays, leaves, shortened

Rule = Mapping[str, Any]
Dictate = Callable[[Rule, str, Any], Any]  # (schema, property name, the data's value) -> what to write, or MISSING

_SENTENCE_LENGTH = 160
_DEEP = 12  # from here on only what the schema insists on
_TOO_DEEP = 60
MISSING = object()
_BOUND = re.compile(r"\b(m(?:in|ax)(?:imum|Length|Items)|exclusiveM(?:in|ax)imum): (-?\d+(?:\.\d+)?)")
_FORMATS = {  # format: (what to look for in the data, what to say when there is none)
    "date": (r"\d{4}-\d\d-\d\d", "2026-01-01"),
    "date-time": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "2026-01-01T00:00:00Z"),
    "time": (r"\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", "00:00:00Z"),
    "duration": (r"P(?:\d+D)?T\d+[HMS]", "PT1H"),
    "email": (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "reader@example.org"),
    "uri": (r"https?://[^\s\"'<>]+", "https://example.org/"),
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-4000-8000-000000000000"),
}
_PATTERN_GUESSES = ("a", "A", "0", "1", "00", "0000", "aa", "AA", "abc", "ABC", "a-b", "2026-01-01", "#", "-", "")


class Unsatisfiable(ValueError):
    """The schema refers to nothing or to itself without end."""


def user_texts(body: Mapping[str, Any]) -> list[str]:
    """List the texts of the user's messages, tool results included, in order."""
    return [
        text
        for message in body["messages"]
        if message.get("role") == "user"
        for text in _block_texts(message.get("content"))
    ]


def answer(body: Mapping[str, Any]) -> str:
    """Answer a request: JSON when the request asks for a schema, else two sentences of the data.

    Raises `Unsatisfiable` for a schema no value can be made for.
    """
    source = Source.of_messages(user_texts(body))
    form = (body.get("output_config") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        return json.dumps(written(form.get("schema", {}), source), ensure_ascii=False)
    quoted = dict.fromkeys((source.sentence(), source.sentence()))
    return " ".join(shortened(sentence, _SENTENCE_LENGTH) for sentence in quoted)


def written(schema: Rule, source: Source, dictate: Dictate | None = None) -> Any:
    """Write a JSON value that satisfies `schema`, out of `source`, except where `dictate` knows what to write.

    Raises `Unsatisfiable`.
    """
    return _Author(schema, dictate or _undictated).write(schema, source, ())


def _block_texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts: list[str] = []
    for block in content if isinstance(content, list) else ():
        texts += [block["text"]] if block.get("type") == "text" else _block_texts(block.get("content"))
    return texts


class _Author:
    def __init__(self, root: Rule, dictate: Dictate) -> None:
        self._root = root
        self._dictate = dictate
        self._kinds: dict[str, Callable[[Rule, Source, tuple[str, ...]], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": _string,
            "integer": _number,
            "number": _number,
            "boolean": lambda _, source, path: _seed(source, path) % 2 == 0,
            "null": lambda *_: None,
        }

    def write(self, schema: Any, source: Source, path: tuple[str, ...]) -> Any:
        if len(path) > _TOO_DEEP:
            raise Unsatisfiable("the schema demands a value that contains itself without end")
        rule = self._resolved(schema)
        if "const" in rule:
            return rule["const"]
        known = source.fields.get(path[-1], MISSING) if path else MISSING
        options = self._options(rule)
        if options:
            return self.write(self._option(options, known, deep=len(path) > _DEEP), source, path)
        dictated = self._dictate(rule, path[-1] if path else "", known)
        given = _copied(rule, known) if dictated is MISSING else dictated
        if given is not MISSING:
            return given
        if "enum" in rule:
            return _chosen(rule["enum"], source, path)
        kind = kind_of(rule)
        if kind not in self._kinds:
            raise Unsatisfiable(f"there is no type {kind!r}")
        return self._kinds[kind](rule, source, path)

    def _resolved(self, schema: Any) -> dict[str, Any]:
        rule: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
        for _ in range(_TOO_DEEP):
            if "$ref" in rule:
                rule = _merged(self._target(rule.pop("$ref")), rule)
            elif "allOf" in rule:
                for part in rule.pop("allOf"):
                    rule = _merged(self._resolved(part), rule)
            else:
                return _described_bounds(rule) | rule
        raise Unsatisfiable("a $ref of the schema leads back to itself")

    def _target(self, reference: str) -> Rule:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            try:
                found = found[step.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError):
                raise Unsatisfiable(f"$ref {reference!r} of the schema leads nowhere") from None
        return dict(found)

    def _options(self, rule: dict[str, Any]) -> list[dict[str, Any]]:
        for word in ("anyOf", "oneOf"):
            if word in rule:
                rest = {key: value for key, value in rule.items() if key != word}
                return [_merged(self._resolved(option), rest) for option in rule[word]]
        if isinstance(rule.get("type"), list):
            return [{**rule, "type": kind} for kind in rule["type"]]
        return []

    def _option(self, options: list[dict[str, Any]], known: Any, *, deep: bool) -> dict[str, Any]:
        for option in options:
            if known is not MISSING and not self._options(option) and _copied(option, known) is not MISSING:
                return option
        nulls = [option for option in options if option.get("type") == "null"]
        values = [option for option in options if option.get("type") != "null"]
        return (nulls + values if deep else values + nulls)[0]

    def _object(self, rule: Rule, source: Source, path: tuple[str, ...]) -> dict[str, Any]:
        known = source.fields.get(path[-1]) if path else None
        if isinstance(known, Mapping) and known:
            source = Source.of_item(known)
        names = list(rule.get("properties", ()))
        if len(path) > _DEEP:
            names = [name for name in names if name in rule.get("required", ())]
        value = {name: self.write(rule["properties"][name], source, (*path, name)) for name in names}
        extra = rule.get("additionalProperties", True)
        wanted = rule.get("minProperties", 0)
        if isinstance(extra, Mapping) and isinstance(known, Mapping):
            names = list(known)[: rule.get("maxProperties")]
        else:
            names = [f"entry_{number}" for number in range(1, 1 + wanted - len(value))]
        return value | {name: self.write(extra, source, (*path, name)) for name in names if name not in value}

    def _array(self, rule: Rule, source: Source, path: tuple[str, ...]) -> list[Any]:
        least, most = rule.get("minItems", 0), rule.get("maxItems", math.inf)
        first = [
            self.write(part, source, (*path, str(place))) for place, part in enumerate(rule.get("prefixItems", ()))
        ]
        item = self._resolved(rule.get("items", {}))
        if first and not rule.get("items"):
            return first
        rest = self._items(item, source, path, least - len(first), most - len(first))
        return first + rest

    def _items(self, item: Rule, source: Source, path: tuple[str, ...], least: int, most: float) -> list[Any]:
        if kind_of(self._plain(item)) != "object":
            return self._scalars(item, source, path, least, most)
        objects = _resembling(self._plain(item), source.values, path[-1] if path else "")
        sources = [Source.of_item(found) for found in objects] or [source] * (len(path) <= _DEEP)
        while sources and len(sources) < least:
            sources += sources
        sources = sources or [source] * max(least, 0)
        wanted = min(max(len(objects), least, 1), most)
        return [self.write(item, each, (*path, "")) for each in sources[: int(max(wanted, 0))]]

    def _plain(self, item: Rule) -> Rule:
        """Reduce an item that is a choice to its first form that is not null."""
        options = self._options(dict(item))
        return self._plain(self._option(options, MISSING, deep=False)) if options else item

    def _scalars(self, item: Rule, source: Source, path: tuple[str, ...], least: int, most: float) -> list[Any]:
        known = source.fields.get(path[-1]) if path else None
        copies = [_copied(item, each) for each in known] if isinstance(known, list) else []
        values = [value for value in copies if value is not MISSING]
        if not values and "enum" in item:
            values = mentioned(item["enum"], source.text)
        wanted = int(max(min(max(len(values), least, 1), most), 0))
        if len(path) > _DEEP and not values:
            wanted = max(least, 0)
        fresh = (self.write(item, source, (*path, str(place))) for place in range(len(values), wanted))
        return [*values[:wanted], *fresh]


def _merged(base: Rule, more: Rule) -> dict[str, Any]:
    both = {**base, **more}
    if "properties" in base and "properties" in more:
        both["properties"] = {**base["properties"], **more["properties"]}
    if "required" in base and "required" in more:
        both["required"] = [*base["required"], *more["required"]]
    return both


def _described_bounds(rule: Rule) -> dict[str, float]:
    """Bounds the schema states in words: structured output allows few keywords, so clients describe the others."""
    description = rule.get("description")
    found = _BOUND.findall(description) if isinstance(description, str) else []
    return {word: float(bound) if "." in bound else int(bound) for word, bound in found}


def _undictated(_: Rule, __: str, ___: Any) -> Any:
    return MISSING


def kind_of(rule: Rule) -> str:
    """Tell the type a schema describes, stated or not."""
    if "type" in rule:
        return str(rule["type"])
    if "properties" in rule or "additionalProperties" in rule:
        return "object"
    if "items" in rule or "prefixItems" in rule:
        return "array"
    return "string"


def _seed(source: Source, path: Sequence[str]) -> int:
    digest = hashlib.blake2b("/".join((*path, source.text)).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _copied(rule: Rule, known: Any) -> Any:
    """`known`, the data's value of the same name, when the schema takes it; else `MISSING`."""
    kind = kind_of(rule) if "enum" not in rule else rule.get("type", "string")
    if kind == "null":
        return None if known is None else MISSING
    if isinstance(known, bool):
        return known if kind == "boolean" and known in rule.get("enum", (known,)) else MISSING
    if kind == "string" and isinstance(known, int | float):
        known = str(known)
    if kind == "integer" and isinstance(known, str) and known.isascii() and known.isdigit() and len(known) < 19:
        known = int(known)
    return known if fits(rule, kind, known) else MISSING


def fits(rule: Rule, kind: str, value: Any) -> bool:
    """Whether a schema of this type takes a scalar; not a long text, which is to be summarised."""
    if "enum" in rule:
        return value in rule["enum"]
    if kind == "string" and isinstance(value, str):
        if len(value) > _SENTENCE_LENGTH and " " in value:
            return False  # a long text is summarised, not repeated
        form = _FORMATS.get(rule.get("format", ""))
        return (
            rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", math.inf)
            and ("pattern" not in rule or bool(re.search(rule["pattern"], value)))
            and (form is None or bool(re.fullmatch(form[0], value)))
        )
    if (kind == "integer" and isinstance(value, int)) or (kind == "number" and isinstance(value, int | float)):
        return (
            math.isfinite(value)
            and rule.get("minimum", -math.inf) <= value <= rule.get("maximum", math.inf)
            and rule.get("exclusiveMinimum", -math.inf) < value < rule.get("exclusiveMaximum", math.inf)
            and Fraction(str(value)) % Fraction(str(rule.get("multipleOf", value or 1))) == 0
        )
    return False


def mentioned(options: Sequence[Any], text: str) -> list[Any]:
    """List the options whose word stands in `text`, in the order they are first met."""
    lowered = text.lower()
    places = {}
    for place, option in enumerate(options):
        word = re.search(rf"(?<!\w){re.escape(str(option).lower())}(?!\w)", lowered) if option is not None else None
        if word:
            places[place] = word.start()
    return [options[place] for place in sorted(places, key=places.__getitem__)]


def _chosen(options: Sequence[Any], source: Source, path: Sequence[str]) -> Any:
    return (mentioned(options, source.text) or [options[_seed(source, path) % len(options)]])[0]


def _resembling(item: Rule, values: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """Find the array of objects in `values` that shares most property names with `item`; none when none shares any."""
    wanted = set(item.get("properties", ()))
    best: list[Mapping[str, Any]] = []
    most = 0.0
    for key, objects in arrays(list(values)):
        shared = len(wanted & {field for each in objects[:5] for field in each}) + (0.5 if key and key == name else 0)
        if shared > most:
            best, most = objects, shared
    return best


def _string(rule: Rule, source: Source, _: Sequence[str]) -> str:
    if "pattern" in rule:
        return _patterned(rule, source)
    if rule.get("format") in _FORMATS:
        pattern, default = _FORMATS[rule["format"]]
        found = re.search(pattern, "\n".join(leaves(source.values)) + "\n" + source.text)
        return found[0] if found else default
    least, most = rule.get("minLength", 0), rule.get("maxLength", math.inf)
    text = shortened(source.sentence(), int(min(most, max(least, _SENTENCE_LENGTH))))
    while len(text) < least:
        text = f"{text} {source.sentence()}"
    return text[: int(most)] if len(text) > most else text


def _patterned(rule: Rule, source: Source) -> str:
    """Quote a piece of the data that matches the pattern, or guess; wrong for exotic patterns."""
    inner = rule["pattern"].removeprefix("^").removesuffix("$")
    text = "\n".join(leaves(source.values)) + "\n" + source.text
    pieces = (match[0] for match in re.finditer(inner, text))
    plain = {key: value for key, value in rule.items() if key != "enum"}
    sentence = shortened(source.sentence(), _SENTENCE_LENGTH)
    for piece in (*pieces, sentence, *text.split(), *_PATTERN_GUESSES):
        if fits(plain, "string", piece):
            return piece
    return sentence


def _number(rule: Rule, source: Source, path: Sequence[str]) -> int | float:
    whole = rule.get("type") == "integer"
    low, high = _bounds(rule, span=100 if whole else 1)
    step = Fraction(str(rule.get("multipleOf", 1))) if whole or "multipleOf" in rule else None
    if step is None:
        return _between(rule, low, high, _seed(source, path))
    first, last = math.ceil(low / step), math.floor(high / step)
    first += first * step <= rule.get("exclusiveMinimum", -math.inf)
    last -= last * step >= rule.get("exclusiveMaximum", math.inf)
    value = step * (first + _seed(source, path) % max(last - first + 1, 1))
    return int(value) if whole else float(value)


def _bounds(rule: Rule, span: int) -> tuple[Fraction, Fraction]:
    lows = [Fraction(rule[word]) for word in ("minimum", "exclusiveMinimum") if word in rule]
    highs = [Fraction(rule[word]) for word in ("maximum", "exclusiveMaximum") if word in rule]
    if not lows and not highs:
        return Fraction(0), Fraction(span)
    low = max(lows) if lows else min(Fraction(0), min(highs) - span)
    return low, min(highs) if highs else low + span


def _between(rule: Rule, low: Fraction, high: Fraction, seed: int) -> float:
    exact = float(low + (high - low) * Fraction(seed % 98 + 1, 100))
    rounded = round(exact, 2)
    return rounded if fits(rule, "number", rounded) else exact
