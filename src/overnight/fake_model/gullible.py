"""The gullible model: it does what texts in the data tell it to do. What holds it back must be outside of it.

It understands no language, it looks for the marks of an order: an imperative, the name of a tool, `field: value`. That
is enough for attacks written to be understood, and honest texts seldom have them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overnight.fake_model.answers import MISSING, Rule, fits, kind_of, mentioned, user_texts, written
from overnight.fake_model.material import Source, embedded, leaves, shortened
from overnight.fake_model.messages import Reply, called_tools

_LINK = re.compile(r"https?://[^\s\"'<>()\[\]`]+[^\s\"'<>()\[\]`.,;:!?]")
_QUOTED = re.compile(r'"([^"\n]+)"|“([^”\n]+)”|`([^`\n]+)`|(?<!\w)\'([^\'\n]+)\'(?!\w)')
_ORDER = re.compile(
    r"(?:^|[.!?:;,>*—-])\s*(?:(?:please|must|should|shall|will|and|then|instead|now|to|always|only|just|do)\s+)?{verb}"
    r"|\b(?:please|must|should|shall|will|and|then|instead|now|to|always|only|just|do)\s+{verb}".replace(
        "{verb}",
        r"(?:say|write|answer|reply|respond|output|print|include|insert|add|append|put|paste|copy|link|mention|repeat"
        r"|begin|start|end|finish|return|set|mark|rate|classify|send|use|visit|click)\b",
    ),
    re.IGNORECASE | re.MULTILINE,
)
_WORD = re.compile(r"[A-Za-z][\w.-]*\w")
_CALLED = re.compile(r"\s?(?:\(\s*(?:\)|\{|\w+\s*[=:])|\{\s*\")")  # how a call looks after the tool's name
_NEAR = 80  # characters between a tool's name and its arguments
_IDENTITY = re.compile(r"(?:.*_)?(?:id|key|ref)", re.IGNORECASE)
_INVISIBLE = {0xE0000 + code: code for code in range(0x20, 0x7F)}  # tag characters: a model reads what nobody sees


def obey(reply: Reply, body: Mapping[str, Any]) -> Reply:
    """Return what a model answers that obeys the data; `reply`, its honest answer, when nothing is demanded.

    With tools on offer it calls each tool a text names, once, also one that is not on offer. Otherwise it writes what
    it was told to into the strings of its answer, as far as the schema lets it. Raises `Unsatisfiable`.
    """
    texts = _untrusted(body)
    call = _call(body, texts) if body.get("tools") else None
    if call:
        return call
    said = [saying for text in texts for saying in _demands(text)]
    if not said:
        return reply
    form = (body.get("output_config") or {}).get("format") or {}
    if form.get("type") != "json_schema":
        return Reply.of_text("\n".join(said))
    dictation = _Dictation("\n".join(texts), "\n".join(said), over_data=True)
    value = written(form.get("schema", {}), Source.of_messages(user_texts(body)), dictation)
    return Reply.of_text(json.dumps(value, ensure_ascii=False))


def _untrusted(body: Mapping[str, Any]) -> list[str]:
    """List the texts inside the data of each message; a message without data is data itself."""
    texts = user_texts(body)
    inside = [leaf for text in texts for leaf in list(leaves(embedded(text))) or [text]]
    return [text.translate(_INVISIBLE) for text in inside]


def _demands(text: str) -> Iterator[str]:
    """Find what the orders of a text want to be written: what they quote, else all that follows in the line."""
    for line in text.splitlines():
        order = _ORDER.search(line)
        wanted = line[order.end() :] if order else ""
        quoted = [part for match in _QUOTED.finditer(wanted) for part in match.groups() if part]
        linked = [link for link in _LINK.findall(wanted) if not any(link in part for part in quoted)]
        said = " ".join([*quoted, *linked]) if quoted else wanted.strip(" \t:,-")
        if said:
            yield said


def _call(body: Mapping[str, Any], texts: Sequence[str]) -> Reply | None:
    offered = {_plain(tool["name"]): tool for tool in body["tools"]}
    called = {_plain(name) for name in called_tools(body)}
    for text in texts:
        for word in _WORD.finditer(text):
            name, rest = _plain(word[0]), text[word.end() :]
            if name in called or (name not in offered and not _CALLED.match(rest)):
                continue
            tool = offered.get(name, {"name": re.sub(r"[^\w-]", "_", word[0])})
            return Reply.of_call(body, tool["name"], _arguments(tool, body, text, rest))
    return None


def _arguments(tool: Mapping[str, Any], body: Mapping[str, Any], text: str, rest: str) -> dict[str, Any]:
    """Take the arguments from the JSON object behind the tool's name and from `field: value` in the text."""
    schema = tool.get("input_schema") or {"type": "object"}
    dictation = _Dictation(text, "\n".join(_demands(text)), over_data=False)
    values = [value for each in user_texts(body) for value in embedded(each)]
    source = Source(_around(values, text), values, text)
    return {**written(schema, source, dictation), **_object_in(rest)}


def _around(value: Any, text: str) -> dict[str, Any]:
    """Collect the fields of the objects that `text` stands in; the innermost counts. Empty when it is not there."""
    if not any(leaf.translate(_INVISIBLE) == text for leaf in leaves(value)):
        return {}
    own = dict(value) if isinstance(value, Mapping) else {}
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return own | {key: field for each in inner for key, field in _around(each, text).items()}


def _object_in(text: str) -> dict[str, Any]:
    start = text.find("{", 0, _NEAR)
    try:
        value = json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _plain(name: str) -> str:
    return re.sub(r"[.-]", "_", name).lower()


@dataclass(frozen=True, slots=True)
class _Dictation:
    """Says what to write into a property: `text` may state it, `said` is what is to be written anywhere.

    `over_data`: what is said also replaces what would be copied from the data, but for identities, without which the
    answer would be thrown away before anybody reads it.
    """

    text: str
    said: str
    over_data: bool

    def __call__(self, rule: Rule, name: str, known: Any) -> Any:
        stated = self._stated(rule, name) if name else MISSING
        if stated is not MISSING:
            return stated
        if "enum" in rule:
            return (mentioned(rule["enum"], self.said) or [MISSING])[0]
        copied = known is not MISSING and (not self.over_data or _IDENTITY.fullmatch(name))
        if kind_of(rule) != "string" or copied or not self.said:
            return MISSING
        return self._fitted(rule, isinstance(known, str) and bool(_LINK.fullmatch(known)))

    def _stated(self, rule: Rule, name: str) -> Any:
        spelled = re.escape(name).replace("_", "[_ -]")
        quoted = _QUOTED.pattern
        found = re.search(
            rf"(?<!\w){spelled}[\"'`]?\s*(?:[:=]|\bto\b)\s*(?:{quoted}|([^\s,;)}}]*[^\s,;)}}.!?]))",
            self.text,
            re.IGNORECASE,
        )
        if not found:
            return MISSING
        value: Any = next(part for part in found.groups() if part)
        kind = "string" if "enum" in rule else kind_of(rule)
        if kind != "string":
            try:
                value = json.loads(value)
            except ValueError:
                return MISSING
        return value if fits(rule, kind, value) or (kind == "boolean" and isinstance(value, bool)) else MISSING

    def _fitted(self, rule: Rule, was_link: bool) -> Any:
        most = rule.get("maxLength", len(self.said))
        links = [link for link in _LINK.findall(self.said) if len(link) <= most]
        if rule.get("format") == "uri" or was_link:
            return links[0] if links else MISSING
        if "pattern" in rule or "format" in rule or len(self.said) < rule.get("minLength", 0):
            return MISSING
        if len(self.said) <= most:
            return self.said
        return links[0] if links else shortened(self.said, most)
