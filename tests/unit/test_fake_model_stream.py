"""Streamed answers of the fake model, read by the real SDK."""

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import RawMessageStreamEvent

from tests.faking import faulty

TEXT = "The bridge over the river was closed on Monday. Nobody was told about it beforehand, and many came late."
QUESTION: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": json.dumps({"id": "t-1", "body": TEXT})}],
}
TOOLS: Any = [{"name": "look", "input_schema": {"type": "object", "properties": {"id": {"type": "string"}}}}]


async def events(client: AsyncAnthropic, **options: Any) -> list[RawMessageStreamEvent]:
    return [event async for event in await client.messages.create(**QUESTION, stream=True, **options)]


async def note(kinds: list[str], client: AsyncAnthropic) -> None:
    async for event in await client.messages.create(**QUESTION, stream=True):
        kinds += [event.type]


async def final(client: AsyncAnthropic, **options: Any) -> anthropic.types.Message:
    async with client.messages.stream(**QUESTION, **options) as stream:
        return await stream.get_final_message()


async def test_a_streamed_answer_comes_in_the_events_of_the_api() -> None:
    async with faulty() as (fake, client):
        kinds = [event.type for event in await events(client)]
        assert [entry["delivered"] for entry in fake.bill()] == [True]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1
    block = ["content_block_start", *["content_block_delta"] * deltas, "content_block_stop"]
    assert kinds == ["message_start", *block, "message_delta", "message_stop"]


async def test_a_streamed_answer_adds_up_to_the_one_in_one_piece() -> None:
    async with faulty() as (fake, client):
        streamed, whole = await final(client), await client.messages.create(**QUESTION)
        for part in ("content", "model", "role", "stop_reason", "usage"):
            assert streamed.to_dict()[part] == whole.to_dict()[part]
        assert streamed.id != whole.id
        assert fake.bill()[0]["cost_nano"] == fake.bill()[1]["cost_nano"] > 0
        assert fake.bill()[0]["request_id"] == streamed.id.replace("msg_", "req_")


async def test_a_tool_call_is_streamed_with_its_arguments() -> None:
    async with faulty({"fault": {"kind": "tool_loop"}}) as (_, client):
        answer = await final(client, tools=TOOLS)
    (call,) = answer.content
    assert call.type == "tool_use"
    assert (call.name, call.input, answer.stop_reason) == ("look", {"id": "t-1"}, "tool_use")


async def test_an_overload_within_a_stream_is_an_error_after_status_200_and_is_billed() -> None:
    async with faulty({"fault": {"kind": "sse_overload"}, "times": 1}) as (fake, client):
        seen: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            await note(seen, client)
        assert (caught.value.type, caught.value.response.status_code) == ("overloaded_error", 200)
        assert seen[0] == "message_start"
        assert "content_block_delta" in seen
        assert "message_stop" not in seen
        assert len(fake.bill()) == 1
        assert (await final(client)).stop_reason == "end_turn"


async def test_an_overload_in_one_piece_is_an_error_envelope_with_status_200() -> None:
    async with faulty({"fault": {"kind": "sse_overload"}}) as (fake, client):
        answer: Any = await client.messages.create(**QUESTION)
        assert len(fake.bill()) == 1
    assert (answer.type, answer.error["type"], answer.content) == ("error", "overloaded_error", None)


async def test_a_stream_that_is_cut_is_billed_and_not_complete() -> None:
    async with faulty({"fault": {"kind": "drop_body"}}) as (fake, client):
        with pytest.raises(httpx2.ReadError):  # the SDK lets it through as it is
            await final(client)
        assert [entry["delivered"] for entry in fake.bill()] == [False]


async def test_a_trickled_stream_is_read_byte_by_byte() -> None:
    async with faulty({"fault": {"kind": "trickle", "seconds": 0.01}}) as (_, client):
        assert (await final(client)).stop_reason == "end_turn"


async def test_a_refusal_is_streamed_without_a_block() -> None:
    async with faulty({"fault": {"kind": "refusal"}}) as (_, client):
        assert [event.type for event in await events(client)] == ["message_start", "message_delta", "message_stop"]
