"""Scripted faults: what can go wrong with a request.

A fault acts at one of four moments, and each kind is one function in the table of its moment: instead of accepting the
request (`REFUSALS`), on the answer before it is billed (`EDITS`), on the bytes of the billed answer (`REWRITES`), or on
their way back (`DELIVERIES`).
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, field_validator

from overnight.clock import Clock
from overnight.fake_model.answers import user_texts
from overnight.fake_model.envelope import ApiError, Dropped
from overnight.fake_model.gullible import obey
from overnight.fake_model.messages import Reply, arguments
from overnight.fake_model.stream import Body, event, in_one_piece


class Fault(BaseModel):
    """What happens.

    `code` and `error_code` belong to `status`, `message` and the three forms of `retry-after` to `spend_limit` too,
    `seconds` to `hang`, `hang_body` and `trickle`. `retry_after` and `retry_after_ms` are sent as written, sense or
    nonsense; `retry_after_date` is in seconds from now and sent as an HTTP date.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    code: int = Field(default=500, ge=400, le=599)
    retry_after: int | float | str | None = None
    retry_after_ms: int | float | str | None = None
    retry_after_date: float | None = None
    error_code: str | None = None
    message: str = "A scripted fault."
    seconds: float = Field(default=3600, ge=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no fault {kind!r}; known are {', '.join(sorted(KINDS))}")
        return kind


def refuse(fault: Fault | None, clock: Clock) -> None:
    """Raise `ApiError` or `Dropped` when the fault is not to accept the request."""
    if fault and fault.kind in REFUSALS:
        REFUSALS[fault.kind](fault, clock)


def edited(fault: Fault | None, reply: Reply, body: Mapping[str, Any]) -> Reply:
    """Return what the model answers to a request under this fault. Raises `Unsatisfiable`."""
    return EDITS[fault.kind](reply, body) if fault and fault.kind in EDITS else reply


def rewritten(fault: Fault | None, body: Body) -> Body:
    """Return the bytes of an answer under this fault."""
    return REWRITES[fault.kind](body) if fault and fault.kind in REWRITES else body


def delivery(fault: Fault | None, body: Body, clock: Clock) -> AsyncIterator[bytes]:
    """Give the pieces of an answer when their time has come; the headers go out before the first, even an empty one.

    Raises `Dropped` where the connection is to be cut.
    """
    return DELIVERIES[fault.kind](fault, body, clock) if fault and fault.kind in DELIVERIES else _straight(body)


def _status(fault: Fault, clock: Clock) -> None:
    raise ApiError(fault.code, fault.message, error_code=fault.error_code, headers=_waits(fault, clock))


def _spend_limit(fault: Fault, clock: Clock) -> None:
    raise ApiError(429, fault.message, error_code="enforced_spend_limit_reached", headers=_waits(fault, clock))


def _drop(_: Fault, __: Clock) -> None:
    raise Dropped


def _waits(fault: Fault, clock: Clock) -> dict[str, str]:
    headers = {"retry-after": fault.retry_after, "retry-after-ms": fault.retry_after_ms}
    sent = {name: str(value) for name, value in headers.items() if value is not None}
    if fault.retry_after_date is None:
        return sent
    now = clock.now()
    until = now + timedelta(seconds=fault.retry_after_date)
    return sent | {"date": format_datetime(now, usegmt=True), "retry-after": format_datetime(until, usegmt=True)}


def _refused(_: Reply, __: Mapping[str, Any]) -> Reply:
    return Reply([], "refusal")


def _cut_short(reply: Reply, _: Mapping[str, Any]) -> Reply:
    return Reply([{"type": "text", "text": reply.text[: len(reply.text) // 2]}], "max_tokens")


def _misshapen(reply: Reply, _: Mapping[str, Any]) -> Reply:
    """JSON of another kind than was asked for: whatever the schema says, an object is no array."""
    wrong: Any = {"unexpected": reply.text[:40]} if reply.text.startswith("[") else ["unexpected", reply.text[:40]]
    return Reply.of_text(json.dumps(wrong))


def _same_call(reply: Reply, body: Mapping[str, Any]) -> Reply:
    """Call the first tool with arguments made from the first message alone, so that no result changes them."""
    tools = body.get("tools") or ()
    first = user_texts({"messages": body["messages"][:1]})
    return Reply.of_call(body, tools[0]["name"], arguments(tools[0], first)) if tools else reply


def _cut_json(body: Body) -> Body:
    return Body(body.content_type, (_half(body),))


def _html(_: Body) -> Body:
    page = b"<!doctype html><title>Welcome</title><p>Please sign in to use this network.</p>"
    return Body("text/html", (page,))


def _hello(_: Body) -> Body:
    return in_one_piece({"hello": "world"})


def _overload(body: Body) -> Body:
    """Tell of an overload when status 200 is sent already: half-way in a stream, else in place of the message."""
    error = ApiError(529, "Overloaded").envelope(None)
    if len(body.pieces) == 1:
        return in_one_piece(error)
    return Body(body.content_type, (*body.pieces[: len(body.pieces) // 2], event(error)))


def _half(body: Body) -> bytes:
    return body.whole[: len(body.whole) // 2]


async def _straight(body: Body) -> AsyncIterator[bytes]:
    for piece in body.pieces:
        yield piece


async def _hang(fault: Fault, body: Body, clock: Clock) -> AsyncIterator[bytes]:
    await clock.sleep(fault.seconds)
    for piece in body.pieces:
        yield piece


async def _hang_body(fault: Fault, body: Body, clock: Clock) -> AsyncIterator[bytes]:
    yield b""
    await clock.sleep(fault.seconds)
    for piece in body.pieces:
        yield piece


async def _trickle(fault: Fault, body: Body, clock: Clock) -> AsyncIterator[bytes]:
    pause = fault.seconds / max(1, len(body.whole))
    for byte in body.whole:
        await clock.sleep(pause)
        yield bytes((byte,))


async def _drop_body(_: Fault, body: Body, __: Clock) -> AsyncIterator[bytes]:
    yield _half(body)
    raise Dropped


def _drop_accepted(_: Fault, __: Body, ___: Clock) -> NoReturn:
    raise Dropped


REFUSALS: dict[str, Callable[[Fault, Clock], None]] = {
    "status": _status,
    "spend_limit": _spend_limit,
    "drop_before_accept": _drop,
}
EDITS: dict[str, Callable[[Reply, Mapping[str, Any]], Reply]] = {
    "refusal": _refused,
    "max_tokens": _cut_short,
    "schema_violation": _misshapen,
    "tool_loop": _same_call,
    "obey_injection": obey,
}
REWRITES: dict[str, Callable[[Body], Body]] = {
    "bad_json": _cut_json,
    "html": _html,
    "wrong_schema": _hello,
    "sse_overload": _overload,
}
DELIVERIES: dict[str, Callable[[Fault, Body, Clock], AsyncIterator[bytes]]] = {
    "hang": _hang,
    "hang_body": _hang_body,
    "trickle": _trickle,
    "drop_after_accept": _drop_accepted,
    "drop_body": _drop_body,
}
KINDS = {**REFUSALS, **EDITS, **REWRITES, **DELIVERIES}
