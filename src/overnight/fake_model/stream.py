"""The bytes of an answer: in one piece, or as the server-sent events of a streamed one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DELTA = 40  # characters of one delta


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, in the pieces it is sent in; several pieces are a stream, whose length is not told beforehand."""

    content_type: str
    pieces: tuple[bytes, ...]

    @property
    def whole(self) -> bytes:
        """All pieces together."""
        return b"".join(self.pieces)


def in_one_piece(value: Any) -> Body:
    """Send a JSON value."""
    return Body("application/json", (json.dumps(value).encode(),))


def streamed(message: Mapping[str, Any]) -> Body:
    """Send a message as the API streams it: start, the deltas of each block, the final usage, stop."""
    return Body("text/event-stream", tuple(event(data) for data in _events(message)))


def event(data: Mapping[str, Any]) -> bytes:
    """Frame one event, named by its type."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def _events(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    stopped = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    final = {key: value for key, value in usage.items() if key.endswith("_tokens")}
    yield {"type": "message_delta", "delta": stopped, "usage": final}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "tool_use":
        begun, kind, key, text = {**block, "input": {}}, "input_json_delta", "partial_json", json.dumps(block["input"])
    else:
        begun, kind, key, text = {**block, "text": ""}, "text_delta", "text", block["text"]
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for start in range(0, len(text), _DELTA):
        delta = {"type": kind, key: text[start : start + _DELTA]}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
