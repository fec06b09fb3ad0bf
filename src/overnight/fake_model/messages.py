"""A request for a message: what makes it valid, what it weighs, and the message that answers it."""

import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from overnight.fake_model.answers import answer, user_texts, written
from overnight.fake_model.bill import MODELS
from overnight.fake_model.envelope import ApiError
from overnight.fake_model.material import Source, leaves

MOST_OUTPUT = 128_000  # tokens

_BYTES_PER_TOKEN = 3.6
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(slots=True)
class Reply:
    """An answer on its way: the content blocks and why the model stopped."""

    content: list[dict[str, Any]]
    stop_reason: str = "end_turn"

    @property
    def text(self) -> str:
        """The text of the first block, which is what faults spoil; empty for a tool call."""
        return str(self.content[0].get("text", "")) if self.content else ""

    @classmethod
    def of_text(cls, text: str) -> "Reply":
        """Answer with one text."""
        return cls([{"type": "text", "text": text}])

    @classmethod
    def of_call(cls, body: Mapping[str, Any], name: str, arguments: Mapping[str, Any]) -> "Reply":
        """Answer with one call of a tool; its id is new in each turn, and the same for the same request."""
        identity = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([name, len(body["messages"])])).hex
        return cls(
            [{"type": "tool_use", "id": f"toolu_{identity[:24]}", "name": name, "input": dict(arguments)}], "tool_use"
        )


def check(body: Mapping[str, Any], *, limited: bool) -> None:
    """Raise `ApiError` 400 or 404 for a request the API would refuse; `limited`: it needs `max_tokens`."""
    _check_messages(body.get("messages"))
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "model: a string is required.")
    if body["model"] not in MODELS:
        raise ApiError(404, f"model: {body['model']}")
    most = body.get("max_tokens")
    if limited and (isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= MOST_OUTPUT):
        raise ApiError(400, f"max_tokens: a whole number from 0 to {MOST_OUTPUT} is required, not {most!r}.")
    choice = body.get("tool_choice") or {"type": "auto"}
    if not isinstance(choice, dict) or "type" not in choice:
        raise ApiError(400, "tool_choice: an object with a type is required.")
    for tool in body.get("tools") or ():
        if not isinstance(tool, dict) or not _TOOL_NAME.fullmatch(str(tool.get("name", ""))):
            raise ApiError(400, f"tools: each needs a name of the form {_TOOL_NAME.pattern}.")


def reply(body: Mapping[str, Any]) -> Reply:
    """Answer a request. Raises `Unsatisfiable` for a schema no value can be made for."""
    return _tool_call(body) or Reply.of_text(answer(body))


def called_tools(body: Mapping[str, Any]) -> set[str]:
    """Name the tools that were called earlier in this conversation."""
    blocks = [block for message in body["messages"] if message["role"] == "assistant" for block in _blocks(message)]
    return {str(block.get("name")) for block in blocks if block.get("type") == "tool_use"}


def input_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the tokens of everything that is read."""
    texts = [*leaves([body.get("system", ""), body["messages"]])]
    return _tokens(
        "".join(texts) + "".join(json.dumps(body[part]) for part in ("tools", "output_config") if part in body)
    )


def within(reply: Reply, max_tokens: int) -> tuple[Reply, int]:
    """Cut the reply to `max_tokens` and count its tokens; an argument of a tool is never cut in the middle."""
    text = reply.text or "".join(json.dumps(block["input"]) for block in reply.content)
    needed = _tokens(text)
    if needed <= max_tokens:
        return reply, needed
    kept = reply.text.encode(errors="replace")[: math.floor(max_tokens * _BYTES_PER_TOKEN)].decode(errors="ignore")
    return Reply([{"type": "text", "text": kept}] if kept else [], "max_tokens"), max_tokens


def message(request_id: str, model: str, reply: Reply, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Put a reply into the form the API sends."""
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
    return {
        "id": request_id.replace("req_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": reply.content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "messages: a list of at least one message is required.")
    unanswered: set[str] = set()
    for place, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            raise ApiError(400, f"messages.{place}.role: user or assistant is required, not {message.get('role')!r}.")
        blocks = _blocks(message)
        if not all(isinstance(block, dict) for block in blocks):
            raise ApiError(400, f"messages.{place}.content: a string or a list of blocks is required.")
        missing = unanswered - {block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"}
        if missing:
            raise ApiError(400, f"messages.{place}: tool_use without a tool_result: {', '.join(sorted(missing))}.")
        unanswered = {str(block.get("id")) for block in blocks if block.get("type") == "tool_use"}


def _blocks(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if isinstance(content, str) else [content]


def _tool_call(body: Mapping[str, Any]) -> Reply | None:
    """Call an offered tool: the one demanded, or one the user names that was not called before."""
    choice = body.get("tool_choice") or {"type": "auto"}
    texts = user_texts(body)
    called = called_tools(body)
    for tool in body.get("tools") or ():
        demanded = choice["type"] == "any" or choice.get("name") == tool["name"]
        named = choice["type"] == "auto" and tool["name"] not in called and any(tool["name"] in text for text in texts)
        if demanded or named:
            return Reply.of_call(body, tool["name"], arguments(tool, texts))
    return None


def arguments(tool: Mapping[str, Any], texts: list[str]) -> dict[str, Any]:
    """Write arguments a tool accepts, out of the texts. Raises `Unsatisfiable`."""
    return dict(written(tool.get("input_schema") or {"type": "object"}, Source.of_messages(texts)))


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode(errors="replace")) / _BYTES_PER_TOKEN)
