"""Scripted faults of the fake model, as the real SDK meets them."""

import asyncio
import json
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import anthropic
import pytest
from aiohttp import ClientPayloadError, ClientSession
from anthropic import AsyncAnthropic, DefaultAioHttpClient

from overnight.errors import ConfigError
from overnight.fake_model import serve
from overnight.fake_model.script import Match
from tests.faking import faulty

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False}
KEY = {"x-api-key": "sham"}
QUESTION: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "Hello there, model."}],
}


async def ask(client: AsyncAnthropic, key: str = "t-1", **options: Any) -> anthropic.types.Message:
    data = json.dumps(json.dumps([{"id": key, "body": f"The task {key} is about a bridge."}]))
    content = f'<untrusted-77 source="task">\n{data}\n</untrusted-77>'
    request: dict[str, Any] = {"model": "claude-haiku-5-5", "max_tokens": 300}
    request["messages"] = [{"role": "user", "content": content}]
    request["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer: anthropic.types.Message = await client.messages.create(**request | options)
    return answer


@pytest.mark.parametrize("wait", ["120", "Sun, 22 Nov 2026 03:00:00 GMT", "soon"])
async def test_a_scripted_429_carries_retry_after_as_written_and_is_not_billed(wait: str) -> None:
    rule = {"fault": {"kind": "status", "code": 429, "retry_after": wait}, "times": 1}
    async with faulty(rule) as (fake, client):
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask(client)
        assert caught.value.response.headers["retry-after"] == wait
        assert fake.bill() == []
        await ask(client)
        assert fake.requests() == {"/v1/messages": {"429": 1, "200": 1}}


@pytest.mark.parametrize(
    ("wait", "name", "sent"),
    [
        ({"retry_after": 7}, "retry-after", "7"),
        ({"retry_after": float("nan")}, "retry-after", "nan"),
        ({"retry_after": 4_294_967_296}, "retry-after", "4294967296"),
        ({"retry_after_ms": 1500}, "retry-after-ms", "1500"),
        ({"retry_after_ms": "soon"}, "retry-after-ms", "soon"),
    ],
)
async def test_retry_after_takes_any_form(wait: dict[str, Any], name: str, sent: str) -> None:
    async with faulty({"fault": {"kind": "status", "code": 529, **wait}}) as (_, client):
        with pytest.raises(anthropic.InternalServerError) as caught:
            await ask(client)
    assert caught.value.response.headers[name] == sent


async def test_retry_after_as_a_date_lies_as_far_ahead_as_the_script_says() -> None:
    async with faulty({"fault": {"kind": "status", "code": 429, "retry_after_date": 90}}) as (_, client):
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask(client)
    headers = caught.value.response.headers
    ahead = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
    assert ahead.total_seconds() == 90


@pytest.mark.parametrize(
    "fault",
    [{"kind": "spend_limit"}, {"kind": "status", "code": 429, "error_code": "enforced_spend_limit_reached"}],
)
async def test_a_spending_limit_has_its_error_code(fault: dict[str, Any]) -> None:
    async with faulty({"fault": fault}) as (_, client):
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask(client)
    assert caught.value.error_code == "enforced_spend_limit_reached"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
async def test_each_status_becomes_its_exception(code: int, error: type[anthropic.APIStatusError]) -> None:
    async with faulty({"fault": {"kind": "status", "code": code}}) as (_, client):
        with pytest.raises(error) as caught:
            await ask(client)
    assert caught.value.status_code == code


async def test_a_request_dropped_after_it_was_accepted_is_billed_once() -> None:
    async with faulty({"fault": {"kind": "drop_after_accept"}, "times": 1}) as (fake, client):
        with pytest.raises(anthropic.APIConnectionError):
            await ask(client)
        await ask(client)
        assert [entry["delivered"] for entry in fake.bill()] == [False, True]
        assert fake.requests() == {"/v1/messages": {"dropped": 1, "200": 1}}


async def test_a_request_dropped_before_it_was_accepted_costs_nothing() -> None:
    async with faulty({"fault": {"kind": "drop_before_accept"}}) as (fake, client):
        with pytest.raises(anthropic.APIConnectionError):
            await ask(client)
        assert fake.bill() == []


async def test_a_caller_who_does_not_wait_for_a_hanging_answer_pays_for_it() -> None:
    async with faulty({"fault": {"kind": "hang", "seconds": 60}}) as (fake, client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(client)
        assert [entry["delivered"] for entry in fake.bill()] == [False]


async def test_a_short_hang_only_delays_the_answer() -> None:
    async with faulty({"fault": {"kind": "hang", "seconds": 0.01}}) as (fake, client):
        await ask(client)
        assert [entry["delivered"] for entry in fake.bill()] == [True]


async def test_a_refusal_is_a_success_without_text() -> None:
    async with faulty({"fault": {"kind": "refusal"}}) as (fake, client):
        answer = await ask(client)
        assert len(fake.bill()) == 1
    assert (answer.stop_reason, answer.content, answer.usage.output_tokens) == ("refusal", [], 0)


async def test_a_truncated_answer_is_no_json() -> None:
    async with faulty({"fault": {"kind": "max_tokens"}}) as (_, client):
        answer = await ask(client)
    assert answer.stop_reason == "max_tokens"
    assert answer.content[0].type == "text"
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content[0].text)


async def test_a_schema_violation_is_json_of_another_kind() -> None:
    async with faulty({"fault": {"kind": "schema_violation"}}) as (_, client):
        answer = await ask(client)
    assert answer.content[0].type == "text"
    assert isinstance(json.loads(answer.content[0].text), list)


async def test_a_body_cut_in_the_middle_is_billed_and_cannot_be_read() -> None:
    async with faulty({"fault": {"kind": "bad_json"}}) as (fake, client):
        with pytest.raises(json.JSONDecodeError):
            await ask(client)
        assert len(fake.bill()) == 1


async def test_a_login_page_is_html_with_status_200() -> None:
    async with faulty({"fault": {"kind": "html"}}) as (fake, client):
        page: object = await ask(client)
        assert len(fake.bill()) == 1
    assert isinstance(page, str)
    assert page.startswith("<!doctype html>")


async def test_another_json_object_becomes_a_message_of_nothing() -> None:
    async with faulty({"fault": {"kind": "wrong_schema"}}) as (fake, client):
        answer = await ask(client)
        assert len(fake.bill()) == 1
    assert answer.to_dict() == {"hello": "world"}
    assert (answer.content, answer.usage, answer.stop_reason) == (None, None, None)


async def test_a_connection_lost_within_the_body_is_billed_but_not_delivered() -> None:
    async with faulty({"fault": {"kind": "drop_body"}, "times": 1}) as (fake, client):
        with pytest.raises(anthropic.APIConnectionError):
            await ask(client)
        await ask(client)
        assert [entry["delivered"] for entry in fake.bill()] == [False, True]
        assert fake.requests() == {"/v1/messages": {"dropped": 1, "200": 1}}


async def test_half_of_the_body_arrives_before_the_connection_is_lost() -> None:
    async with (
        faulty({"fault": {"kind": "drop_body"}}) as (fake, _),
        ClientSession(fake.url, headers=KEY) as session,
        session.post("/v1/messages", json=QUESTION) as response,
    ):
        half = await response.content.readexactly(int(response.headers["content-length"]) // 2)
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert half.startswith(b'{"id": "msg_')


async def test_a_body_that_hangs_has_sent_its_headers() -> None:
    async with faulty({"fault": {"kind": "hang_body"}}) as (fake, _), ClientSession(fake.url, headers=KEY) as session:
        async with session.post("/v1/messages", json=QUESTION) as response:
            assert (response.status, response.headers["request-id"]) == (200, fake.bill()[0]["request_id"])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await response.content.readany()
        assert [entry["delivered"] for entry in fake.bill()] == [False]


async def test_the_sdk_gives_up_on_a_body_that_hangs_by_its_timeout_per_read() -> None:
    async with faulty({"fault": {"kind": "hang_body"}}) as (fake, client):
        with pytest.raises(anthropic.APITimeoutError):
            await client.with_options(timeout=0.1).messages.create(**QUESTION)
        assert len(fake.bill()) == 1


async def test_a_trickle_outlasts_the_timeout_per_read_but_not_one_in_total() -> None:
    async with faulty({"fault": {"kind": "trickle", "seconds": 0.4}}) as (fake, client):
        impatient = client.with_options(timeout=0.2)
        answer = await impatient.messages.create(**QUESTION)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await impatient.messages.create(**QUESTION)
        assert answer.stop_reason == "end_turn"
        assert [entry["delivered"] for entry in fake.bill()] == [True, False]


async def test_a_tool_loop_never_ends_and_never_changes() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    tools: Any = [{"name": "look", "input_schema": schema}, {"name": "leave", "input_schema": schema}]
    turns: Any = [{"role": "user", "content": json.dumps({"id": "t-1"})}]
    calls = []
    async with faulty({"fault": {"kind": "tool_loop"}}) as (_, client):
        for _ in range(4):
            answer = await ask(client, messages=turns, tools=tools)
            (call,) = answer.content
            assert call.type == "tool_use"
            calls.append(call)
            result = {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps({"id": "t-2"})}
            turns += [{"role": "assistant", "content": [call.to_dict()]}, {"role": "user", "content": [result]}]
        assert (await ask(client)).stop_reason == "end_turn", "without tools there is nothing to call"
    assert {(call.name, call.input["id"]) for call in calls} == {("look", "t-1")}
    assert len({call.id for call in calls}) == 4


async def test_dice_with_a_seed_fall_the_same_each_time_and_as_often_as_asked() -> None:
    async def hits(**match: Any) -> list[bool]:
        async with faulty({"match": match, "fault": {"kind": "refusal"}}) as (_, client):
            return [(await ask(client)).stop_reason == "refusal" for _ in range(20)]

    first = await hits(prob=0.3, seed=7)
    assert first == await hits(prob=0.3, seed=7) != await hits(prob=0.3, seed=8)
    assert not any(await hits(prob=0))


def test_dice_are_fair_and_rules_with_one_seed_do_not_move_together() -> None:
    match = Match(prob=0.2, seed=7)
    first, second = ([match.chosen(count, place) for count in range(1, 5001)] for place in (0, 1))
    assert 900 < sum(first) < 1100
    assert 140 < sum(a and b for a, b in zip(first, second, strict=True)) < 260


async def test_a_mix_of_faults_bills_every_request_it_accepted_and_no_other() -> None:
    mix = [
        {"match": {"prob": 0.2, "seed": 3}, "fault": {"kind": kind}}
        for kind in ("status", "drop_before_accept", "drop_after_accept", "drop_body", "bad_json")
    ]
    async with faulty(*mix) as (fake, client):
        results = await asyncio.gather(*(ask(client, f"t-{number}") for number in range(60)), return_exceptions=True)
        bill = fake.bill()
        counts = fake.requests()["/v1/messages"]
    answered = [result._request_id for result in results if isinstance(result, anthropic.types.Message)]
    garbled = [result for result in results if isinstance(result, json.JSONDecodeError)]
    assert set(answered) < {entry["request_id"] for entry in bill}
    assert sum(entry["delivered"] for entry in bill) == len(answered) + len(garbled) == counts["200"]
    assert len(bill) < 60 == sum(counts.values())


async def test_contains_finds_text_inside_the_untrusted_json_string() -> None:
    async with faulty({"match": {"contains": 'bridge "Nord"'}, "fault": {"kind": "refusal"}}) as (_, client):
        data = json.dumps(json.dumps({"id": "t-2", "body": 'The bridge "Nord" is closed.'}))
        hit = await ask(client, messages=[{"role": "user", "content": data}])
        missed = await ask(client)
    assert (hit.stop_reason, missed.stop_reason) == ("refusal", "end_turn")


async def test_rules_pick_by_model_path_and_count() -> None:
    rules = (
        {"match": {"model": "claude-opus-5-5"}, "fault": {"kind": "refusal"}},
        {"match": {"path": "/v1/messages/count_tokens"}, "fault": {"kind": "status"}},
        {"match": {"contains": "t-1", "nth": 2}, "fault": {"kind": "refusal"}},
        {"match": {"contains": "t-2", "every": 3}, "fault": {"kind": "refusal"}},
    )
    async with faulty(*rules) as (_, client):
        assert (await ask(client, "t-9", model="claude-opus-5-5")).stop_reason == "refusal"
        with pytest.raises(anthropic.InternalServerError):
            await client.messages.count_tokens(model="claude-haiku-5-5", messages=[{"role": "user", "content": "x"}])
        assert [(await ask(client, "t-1")).stop_reason for _ in range(3)] == ["end_turn", "refusal", "end_turn"]
        assert [(await ask(client, "t-2")).stop_reason == "refusal" for _ in range(6)] == [False, False, True] * 2


async def test_the_script_can_be_replaced_while_running() -> None:
    async with faulty({"fault": {"kind": "refusal"}}) as (fake, client), ClientSession(fake.url) as session:
        async with session.post("/_fake/faults", json=[]) as response:
            assert response.status == 200
        assert (await ask(client)).stop_reason == "end_turn"
        async with session.post("/_fake/faults", json=[{"fault": {"kind": "sneeze"}}]) as response:
            assert response.status == 400
            assert "there is no fault 'sneeze'" in await response.text()


async def test_a_script_is_read_from_yaml_or_json(tmp_path: Path) -> None:
    for name, script in (
        ("faults.yaml", "# two\n- match: {contains: t-1}\n  fault: {kind: refusal}\n  times: 1\n"),
        ("faults.json", json.dumps([{"fault": {"kind": "refusal"}}])),
    ):
        (tmp_path / name).write_text(script)
        async with (
            serve(faults=tmp_path / name) as fake,
            AsyncAnthropic(base_url=fake.url, api_key="sham", http_client=DefaultAioHttpClient()) as client,
        ):
            assert (await ask(client)).stop_reason == "refusal"


@pytest.mark.parametrize("script", ["- [", "- fault: {kind: status, cod: 1}\n", "fault: {}\n"])
async def test_a_broken_script_is_refused_with_its_file_name(script: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(script)
    with pytest.raises(ConfigError, match=r"faults\.yaml"):
        async with serve(faults=path):
            pass
