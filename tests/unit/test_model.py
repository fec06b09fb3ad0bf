"""The model port over the wire: what is sent, and what becomes of every kind of failure."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Invalid, OvernightError, Permanent, Stop, TooLong, Transient
from overnight.model import Lost, Model, ModelRequest, forbid_real
from overnight.pricing import Usage
from overnight.wire import parsed

KEY = "sk-sham-key"
REQUEST = ModelRequest("claude-haiku-5-5", "Be brief.", ({"role": "user", "content": "Hello"},), 50)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": '{"n": 3}'}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": 2},
}
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(answer: Answering, **options: Any) -> AsyncIterator[tuple[Model, list[dict[str, Any]]]]:
    """A model at a server of our own, and what that server was sent."""
    posts: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        posts.append({"key": request.headers["authorization"].removeprefix("Bearer "), **await request.json()})
        return await answer(request)

    application = web.Application()
    application.router.add_post("/v1/messages", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    model = Model.open({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}, **options)
    try:
        yield model, posts
    finally:
        await model.close()
        await runner.cleanup()


def replying(body: Any = MESSAGE, status: int = 200, headers: Mapping[str, str] | None = None) -> Answering:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers={"request-id": "req_7", **(headers or {})})

    return answer


def failing(status: int, code: str | None = None, headers: Mapping[str, str] | None = None) -> Answering:
    details = {"error_code": code} if code else None
    error = {"type": "api_error", "message": "no", **({"details": details} if details else {})}
    return replying({"type": "error", "error": error}, status, headers)


async def test_a_reply_carries_text_usage_and_request_id() -> None:
    async with served(replying()) as (model, posts):
        reply = await model.create(REQUEST)
    assert (reply.answer(), reply.stop_reason, reply.request_id) == ('{"n": 3}', "end_turn", "req_7")
    assert reply.usage == Usage(12, 5, 2, 0)
    assert posts == [
        {
            "key": KEY,
            "model": "claude-haiku-5-5",
            "max_tokens": 50,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Hello"}],
        }
    ]


@pytest.mark.parametrize(
    ("billed", "usage"),
    [
        ({"cache_creation_input_tokens": 9}, Usage(12, 5, 2, 9, cache_write_1h_tokens=9)),  # the dearest
        (
            {
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 3},
            },
            Usage(12, 5, 2, 9, cache_write_1h_tokens=3),
        ),
        (
            {"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 6}},
            Usage(12, 5, 2, 1),
        ),
        ({"cache_creation": "much"}, Usage(12, 5, 2)),
        ({"service_tier": "batch"}, Usage(12, 5, 2, service_tier="batch")),
        (
            {"service_tier": None, "speed": "fast", "inference_geo": "us"},
            Usage(12, 5, 2, speed="fast", inference_geo="us"),
        ),
        (
            {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}},
            Usage(12, 5, 2, web_searches=2),
        ),
    ],
)
async def test_what_decides_about_the_price_is_taken_from_the_reply(billed: dict[str, Any], usage: Usage) -> None:
    async with served(replying(MESSAGE | {"usage": MESSAGE["usage"] | billed})) as (model, _):
        assert (await model.create(REQUEST)).usage == usage


async def test_a_schema_is_sent_as_the_api_wants_it() -> None:
    async with served(replying()) as (model, posts):
        await model.create(ModelRequest("claude-haiku-5-5", "", REQUEST.messages, 50, SCHEMA))
    sent = posts[0]["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert "minimum" not in sent["schema"]["properties"]["n"]
    assert "system" not in posts[0]


@pytest.mark.parametrize(
    ("status", "code", "kind", "our_code"),
    [
        (400, None, Permanent, "http_400"),
        (401, None, Stop, "http_401"),
        (402, None, Stop, "http_402"),
        (402, "contract_spend_limit_reached", Stop, "contract_spend_limit_reached"),
        (403, None, Stop, "http_403"),
        (404, None, Stop, "http_404"),
        (408, None, Transient, "http_408"),
        (409, None, Transient, "http_409"),
        (413, None, TooLong, "http_413"),
        (422, None, Permanent, "http_422"),
        (429, None, Transient, "http_429"),
        (429, "ramp_limit_exceeded", Transient, "ramp_limit_exceeded"),
        (429, "enforced_spend_limit_reached", Stop, "enforced_spend_limit_reached"),
        (500, None, Transient, "http_500"),
        (503, None, Transient, "http_503"),
        (504, None, Lost, "http_504"),
        (529, None, Transient, "http_529"),
    ],
)
async def test_each_refusal_has_its_class_and_is_asked_once(
    status: int, code: str | None, kind: type[OvernightError], our_code: str
) -> None:
    async with served(failing(status, code)) as (model, posts):
        with pytest.raises(OvernightError, match="request req_7") as caught:
            await model.create(REQUEST)
    assert (type(caught.value), caught.value.code, len(posts)) == (kind, our_code, 1)
    assert KEY not in str(caught.value)


async def test_what_the_api_asks_us_to_wait_is_passed_on() -> None:
    async with served(failing(429, headers={"retry-after": "17"})) as (model, _):
        with pytest.raises(Transient) as caught:
            await model.create(REQUEST)
    assert caught.value.after == 17


async def html(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<h1>Welcome</h1>", content_type="text/html")


async def cut_json(_: web.Request) -> web.StreamResponse:
    return web.Response(text=json.dumps(MESSAGE)[:60], content_type="application/json")


async def dropped(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "500", "content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"id": ')
    assert request.transport is not None
    request.transport.close()
    return response


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (html, "garbled"),
        (cut_json, "garbled"),
        (replying({"hello": "world"}), "garbled"),
        (replying({**MESSAGE, "usage": None}), "garbled"),
        (replying({**MESSAGE, "content": None}), "garbled"),
        (replying([1, 2]), "garbled"),
        (dropped, "connection_lost"),
        (cut_off, "connection_lost"),
        (trickle, "timeout"),
    ],
    ids=["html", "cut json", "other json", "no usage", "no content", "list", "dropped", "cut off", "trickle"],
)
async def test_what_may_have_been_billed_is_marked_as_lost_and_not_repeated_here(answer: Answering, code: str) -> None:
    async with served(answer, deadline=0.3) as (model, posts):
        with pytest.raises(Lost) as caught:
            await model.create(REQUEST)
    assert (caught.value.code, len(posts)) == (code, 1)


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    model = Model.open({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"})
    with pytest.raises(Transient, match=r"cannot connect to the model at 127\.0\.0\.1:1") as caught:
        await model.create(REQUEST)
    await model.close()
    assert not isinstance(caught.value, Lost)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"stop_reason": "refusal", "content": []}, "refusal"),
        ({"stop_reason": "max_tokens"}, "truncated"),
        ({"stop_reason": "model_context_window_exceeded"}, "truncated"),
        ({"content": [{"type": "text", "text": "  "}]}, "empty"),
    ],
)
async def test_a_reply_without_a_usable_answer_keeps_its_usage(change: dict[str, Any], code: str) -> None:
    async with served(replying({**MESSAGE, **change})) as (model, _):
        reply = await model.create(REQUEST)
    assert reply.usage.output_tokens == 5
    with pytest.raises(Invalid) as caught:
        reply.answer()
    assert caught.value.code == code


async def test_a_missing_key_stops_with_a_remedy() -> None:
    with pytest.raises(Stop, match=r"set ANTHROPIC_API_KEY in \.env, or try `overnight demo`"):
        await Model.open({}).create(REQUEST)


async def test_a_key_pasted_with_quotes_and_newline_works_and_a_broken_one_is_not_shown() -> None:
    async with served(replying()) as (model, posts):
        url = model._url
        pasted = Model.open({"ANTHROPIC_API_KEY": f' "{KEY}"\n', "ANTHROPIC_BASE_URL": url})
        await pasted.create(REQUEST)
        await pasted.close()
    assert posts[0]["key"] == KEY
    with pytest.raises(Stop) as caught:
        await Model.open({"ANTHROPIC_API_KEY": f"{KEY}\n{KEY}"}).create(REQUEST)
    assert KEY not in str(caught.value)


async def test_the_fuse_lets_only_loopback_through() -> None:
    with forbid_real():
        with pytest.raises(Stop, match="a test would have asked the real model"):
            await Model.open({"ANTHROPIC_API_KEY": KEY}).create(REQUEST)
        async with served(replying()) as (model, _):
            assert (await model.create(REQUEST)).answer()


def test_the_input_bound_holds_for_every_script() -> None:
    request = ModelRequest("claude-haiku-5-5", "é", ({"role": "user", "content": "日本"},), 50, SCHEMA)
    assert request.input_bound >= 2 + 6 + len(json.dumps(SCHEMA))
    assert request.input_estimate < request.input_bound


HALVES = st.text(st.characters(categories=["Cs"]) | st.sampled_from('\\ud8"\n\U0001f600é'), max_size=8)


@given(HALVES)
def test_half_a_letter_in_a_reply_becomes_one_that_can_be_kept(text: str) -> None:
    """Python reads them and cannot write them: neither into the ledger nor into the next question."""
    read = parsed(json.dumps({"text": text}).encode())["text"]
    read.encode()
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read == whole


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_cannot_hold_is_read_as_none(number: str) -> None:
    assert parsed(f'{{"a": [{number}, 1.5, 2]}}'.encode()) == {"a": [None, 1.5, 2]}
