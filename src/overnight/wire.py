"""A question and its reply as they travel: what is sent, what it weighs, and what of a 200 is really an answer.

HTTP 200 is not yet an answer: replies are checked field by field.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

from overnight.errors import Invalid, Transient
from overnight.pricing import MOST_SEARCHES, MOST_TOKENS, Usage, plausible

SMALLEST_WINDOW = 200_000  # tokens of input and output together that every priced model takes (genai-prices 0.2.3)
OVERHEAD = 1_000  # tokens the API adds for the format of the answer; a generous bound
TOOL_OVERHEAD = 1_000  # and for tools: the public list says 300 to 600 for a system prompt of theirs


class Lost(Transient):
    """The request may have been carried out and billed, but there is no usable reply."""


@dataclass(frozen=True)
class ModelRequest:
    """What is asked: `messages` are `{"role", "content"}`, a content is a text or a list of blocks.

    `schema` is that of the answer, `tools` those that may be called; `answer_now`: none of them any more.
    """

    model: str
    system: str
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    answer_now: bool = False

    @cached_property
    def size(self) -> int:
        """UTF-8 bytes of all that is sent."""
        contents = [_text_of(message["content"]) for message in self.messages]
        texts = [self.system, *contents, json.dumps(self.schema or ""), json.dumps(self.tools) if self.tools else ""]
        return sum(len(text.encode(errors="surrogatepass")) for text in texts)

    @property
    def input_bound(self) -> int:
        """Tokens the input cannot exceed: a token is at least one byte. About four times too high, but certain."""
        return self.size + OVERHEAD + (TOOL_OVERHEAD if self.tools else 0)

    @property
    def surely_fits(self) -> bool:
        """Whether no model can find it too long. The API has no code for that: it answers a bare 400."""
        return self.input_bound + self.max_tokens <= SMALLEST_WINDOW

    @property
    def input_estimate(self) -> int:
        """Tokens the input will have, roughly: for rate limits, which are corrected by real usage afterwards."""
        return self.size // 3 + 1


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A reply that was billed, whatever it is worth: settle `usage` first, then ask for the `answer()`."""

    text: str
    stop_reason: str
    usage: Usage
    model: str
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: tuple[Mapping[str, Any], ...] = ()

    @property
    def calls(self) -> tuple[Mapping[str, Any], ...]:
        """The blocks in which the model calls tools; none of a reply that was cut off: the last may be half a one."""
        if self.stop_reason != "tool_use":
            return ()
        return tuple(block for block in self.content if block.get("type") == "tool_use")

    @property
    def kept(self) -> str:
        """The reply as the journal keeps it: its text, or the blocks of one that calls tools."""
        return json.dumps(self.content, ensure_ascii=False) if self.stop_reason == "tool_use" else self.text

    @classmethod
    def remembered(cls, kept: str, stop_reason: str, model: str) -> "ModelReply":
        """The reply that was `kept`; it costs nothing more."""
        blocks = tuple(json.loads(kept)) if stop_reason == "tool_use" else ()
        text = words(kept, stop_reason)
        return cls(text, stop_reason, Usage(), model, "", content=blocks)

    def answer(self) -> str:
        """Return the text. Raises Invalid for a refusal, a reply that was cut off, and an empty one."""
        if self.stop_reason == "refusal":
            raise Invalid(f"{self.model} refused to answer", code="refusal")
        if self.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            raise Invalid(
                f"the answer of {self.model} was cut off ({self.stop_reason}); raise max_tokens of the role or give "
                "it less data",
                code="truncated",
            )
        if not self.text.strip():
            raise Invalid(f"{self.model} answered with nothing ({self.stop_reason})", code="empty")
        return self.text


def words(kept: str, stop_reason: str) -> str:
    """What a model has said in words, between its calls of tools if it made any: of a reply as the journal keeps it."""
    return "".join(map(_text, json.loads(kept))) if stop_reason == "tool_use" else kept


_HALVES = re.compile(r"\\u[dD][89a-fA-F]")  # of letters beyond 16 bits; alone they are no text, and cannot be stored
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")


def _storable(escape: re.Match[str]) -> str:
    return r"\ufffd" if len(escape[0]) == 6 else escape[0]  # half a pair; a whole one has 12


def _finite(number: str) -> float | None:
    """A number, None for one such as 1e400 or NaN: it could not be sent back in the next turn of a talk."""
    value = float(number)
    return value if isfinite(value) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def garbled(what: str) -> Lost:
    """The error for a 200 that is no message."""
    return Lost(f"the model's API answered 200, but not with a message: {what}", code="garbled")


def parsed(body: bytes) -> Any:
    """The body as JSON. The SDK would make objects of it, at a third of a call's CPU, and checks nothing."""
    try:
        text = body.decode("utf-8-sig")
        return _DECODER.decode(_ESCAPE.sub(_storable, text) if _HALVES.search(text) else text)
    except (ValueError, RecursionError) as error:
        raise garbled("no JSON, or not all of it") from error


def checked(reply: Any, headers: Mapping[str, str]) -> ModelReply:
    """Return the reply as ours; anything may come with a status of 200: a login page, other JSON, half a message."""
    if not isinstance(reply, dict):
        raise garbled(type(reply).__name__)
    usage, content, stop_reason = _usage(reply.get("usage")), reply.get("content"), reply.get("stop_reason")
    if usage is None or not isinstance(content, list) or not isinstance(stop_reason, str):
        raise garbled("fields are missing")
    request_id = headers.get("request-id") or reply.get("id")
    text, blocks = "".join(map(_text, content)), tuple(filter(None, map(_block, content)))
    return ModelReply(text, stop_reason, usage, str(reply.get("model")), str(request_id), headers, blocks)


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _block(block: Any) -> Mapping[str, Any] | None:
    """A text or a call of a tool, with the fields that are sent back; whatever else is left out."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        return {"type": "text", "text": _text(block)} if _text(block) else None
    if kind != "tool_use":
        return None
    called = {name: block.get(name) for name in ("type", "id", "name", "input")}
    if not all(isinstance(called[name], str) for name in ("id", "name")) or not isinstance(called["input"], dict):
        return None
    return called


def _text(block: Any) -> str:
    text = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else None
    return text if isinstance(text, str) else ""


def _usage(billed: Any) -> Usage | None:
    if not isinstance(billed, dict):
        return None
    counts = [billed.get("input_tokens"), billed.get("output_tokens")]
    counts += [billed.get(name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    whole = [count for count in counts if plausible(count, MOST_TOKENS)]
    searches = _count(billed.get("server_tool_use"), "web_search_requests")
    if len(whole) < len(counts) or not plausible(searches, MOST_SEARCHES):
        return None
    fresh, output, read, written = whole
    short = _count(billed.get("cache_creation"), "ephemeral_5m_input_tokens")
    return Usage(
        fresh,
        output,
        read,
        written,
        cache_write_1h_tokens=max(0, written - short),  # what is not said to be kept for 5 minutes is the dearest
        web_searches=searches,
        service_tier=str(billed.get("service_tier") or "standard"),
        speed=str(billed.get("speed") or "standard"),
        inference_geo=str(billed.get("inference_geo") or ""),
    )


def _count(part: Any, name: str) -> int:
    value = part.get(name) if isinstance(part, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
