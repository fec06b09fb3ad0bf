"""The fake model over the wire, spoken to by the real SDK."""

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anthropic
import pytest
from aiohttp import ClientSession
from anthropic import AsyncAnthropic, DefaultAioHttpClient
from pydantic import BaseModel, Field

from overnight.fake_model import Limits, read_bill, serve
from tests.faking import fake_and_client

PRICES = {"claude-haiku-5-5": (100, 500), "claude-sonnet-5-5": (2_000, 10_000), "claude-opus-5-5": (4_000, 20_000)}
STORIES = [
    {"id": "s-9", "title": "Rain", "body": "Rain fell on the market for three days. People were angry about it."},
    {"id": "s-2", "title": "Cat", "body": "A calm cat was found on the town hall. It is well."},
    {"id": "s-5", "title": "Vote", "body": "The council voted on the new bridge. Nobody was against it."},
]
HELLO = [{"role": "user", "content": "Hello."}]
CALLING = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}]}


class Line(BaseModel):
    """One line of an edition."""

    id: str
    summary: str = Field(max_length=80)
    mood: Literal["angry", "calm"]
    score: int = Field(ge=1, le=5)
    note: str | None


class Edition(BaseModel):
    """What a caller could ask for."""

    subject: str = Field(max_length=60)
    stories: list[Line]


def fenced(data: Any) -> str:
    return f'Summarise.\n<untrusted-0f3a source="data">\n{json.dumps(json.dumps(data))}\n</untrusted-0f3a>\nBe short.'


async def ask(client: AsyncAnthropic, data: Any = STORIES, **options: Any) -> anthropic.types.Message:
    request: dict[str, Any] = {"model": "claude-haiku-5-5", "max_tokens": 1000}
    request["messages"] = [{"role": "user", "content": fenced(data)}]
    answer: anthropic.types.Message = await client.messages.create(**request | options)
    return answer


def shaped(model: type[BaseModel]) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": model.model_json_schema()}}


def text(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


async def test_a_list_in_the_schema_is_mapped_over_the_data_in_order() -> None:
    async with fake_and_client() as (_, client):
        edition = Edition.model_validate_json(text(await ask(client, output_config=shaped(Edition))))
    assert [line.id for line in edition.stories] == ["s-9", "s-2", "s-5"]
    assert edition.stories[0].summary == "Rain fell on the market for three days."
    assert [line.mood for line in edition.stories[:2]] == ["angry", "calm"]


async def test_bounds_that_the_sdk_moves_into_descriptions_are_kept_too() -> None:
    schema = anthropic.transform_schema(Edition)
    assert "maxLength" not in schema["properties"]["subject"]
    long = [{"id": "a", "body": "word " * 60}]
    async with fake_and_client() as (_, client):
        answer = await ask(client, long, output_config={"format": {"type": "json_schema", "schema": schema}})
    edition = Edition.model_validate_json(text(answer))
    assert len(edition.subject) <= 60


async def test_without_a_schema_the_answer_quotes_the_data() -> None:
    async with fake_and_client() as (_, client):
        answer = await ask(client)
    assert text(answer).startswith("Rain fell on the market for three days.")
    assert answer.stop_reason == "end_turn"


async def test_the_same_request_gets_the_same_answer_on_another_server() -> None:
    answers = set()
    for _ in range(2):
        async with fake_and_client() as (_, client):
            answers.add(text(await ask(client, output_config=shaped(Edition))))
    assert len(answers) == 1


async def test_the_bill_is_usage_times_price_to_the_nano_dollar() -> None:
    async with fake_and_client() as (fake, client):
        answers = [await ask(client, STORIES[:count], model=model) for model in PRICES for count in (1, 3)]
        bill = fake.bill()
    expected = [
        answer.usage.input_tokens * PRICES[answer.model][0] + answer.usage.output_tokens * PRICES[answer.model][1]
        for answer in answers
    ]
    assert [entry["cost_nano"] for entry in bill] == expected
    assert [entry["request_id"] for entry in bill] == [answer._request_id for answer in answers]
    assert all(entry["delivered"] for entry in bill)


async def test_a_long_prompt_to_haiku_costs_five_times_as_much() -> None:
    async with fake_and_client() as (fake, client):
        answer = await ask(client, [{"body": "Long words. " * 32_000}])
        (entry,) = fake.bill()
    assert answer.usage.input_tokens > 100_000
    assert entry["cost_nano"] == answer.usage.input_tokens * 500 + answer.usage.output_tokens * 2_500


async def test_an_answer_longer_than_max_tokens_is_cut_and_says_so() -> None:
    async with fake_and_client() as (_, client):
        answer = await ask(client, max_tokens=10, output_config=shaped(Edition))
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 10)
    with pytest.raises(ValueError, match="EOF"):
        Edition.model_validate_json(text(answer))


async def test_counting_tokens_is_free_and_agrees_with_the_usage() -> None:
    async with fake_and_client() as (fake, client):
        answer = await ask(client)
        messages: Any = [{"role": "user", "content": fenced(STORIES)}]
        count = await client.messages.count_tokens(model="claude-haiku-5-5", messages=messages)
        assert len(fake.bill()) == 1
    assert count.input_tokens == answer.usage.input_tokens


async def test_an_unknown_model_is_not_found() -> None:
    async with fake_and_client() as (fake, client):
        with pytest.raises(anthropic.NotFoundError) as caught:
            await ask(client, model="claude-nothing-1")
        assert fake.bill() == []
    assert (caught.value.type, str(caught.value.request_id)[:4]) == ("not_found_error", "req_")


async def test_a_request_without_a_key_is_unauthorised() -> None:
    async with serve() as fake, ClientSession() as session:
        async with session.post(f"{fake.url}/v1/messages", json={}) as response:
            body = await response.json()
        assert fake.requests() == {"/v1/messages": {"401": 1}}
    assert (response.status, body["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("request_body", "word"),
    [
        ({"max_tokens": 5}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}, "model"),
        ({"messages": [{"role": "user", "content": "x"}], "model": "claude-haiku-5-5"}, "max_tokens"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [5]}]}, "blocks"),
        ({"messages": HELLO, "model": "claude-haiku-5-5", "max_tokens": 5, "tools": [{"name": "a.b"}]}, "tools"),
        ({"messages": HELLO, "model": "claude-haiku-5-5", "max_tokens": 5, "tool_choice": "any"}, "tool_choice"),
        ({"messages": [*HELLO, CALLING, *HELLO]}, "tool_use without a tool_result: toolu_1"),
        ([], "dict"),
    ],
)
async def test_an_invalid_request_says_what_is_wrong(request_body: Any, word: str) -> None:
    async with (
        serve() as fake,
        ClientSession(fake.url, headers={"x-api-key": "sham"}) as session,
        session.post("/v1/messages", json=request_body) as response,
    ):
        body = await response.json()
    assert response.status == 400
    assert word in body["error"]["message"]


async def test_a_schema_that_refers_to_nothing_is_an_invalid_request() -> None:
    output = {"format": {"type": "json_schema", "schema": {"$ref": "#/$defs/Nothing"}}}
    async with fake_and_client() as (fake, client):
        with pytest.raises(anthropic.BadRequestError, match="leads nowhere"):
            await ask(client, output_config=output)
        assert fake.bill() == []


async def test_an_unknown_path_is_answered_in_the_error_envelope() -> None:
    async with fake_and_client() as (_, client):
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.batches.retrieve("msgbatch_1")


async def test_the_listed_models_are_those_that_answer() -> None:
    async with fake_and_client() as (_, client):
        models = [model.id async for model in client.models.list()]
        for model in models:
            await ask(client, model=model)
    assert set(PRICES) < set(models)


async def test_rate_headers_count_down_and_the_next_one_is_told_to_wait() -> None:
    clock = StoppedClock()
    async with fake_and_client(limits=Limits(requests_per_minute=2), clock=clock) as (fake, client):
        raw = await client.messages.with_raw_response.create(
            model="claude-haiku-5-5", max_tokens=50, messages=[{"role": "user", "content": "Hello there, model."}]
        )
        assert raw.headers["anthropic-ratelimit-requests-remaining"] == "1"
        assert raw.headers["anthropic-ratelimit-requests-reset"] == "2026-11-22T03:00:30Z"
        await ask(client)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask(client)
        assert caught.value.response.headers["retry-after"] == "30"
        clock.seconds += 30
        await ask(client)
        assert fake.requests() == {"/v1/messages": {"200": 3, "429": 1}}


async def test_output_tokens_run_out_as_well() -> None:
    async with fake_and_client(limits=Limits(output_tokens_per_minute=5), clock=StoppedClock()) as (_, client):
        await ask(client)
        with pytest.raises(anthropic.RateLimitError, match="output-tokens"):
            await ask(client)
        await ask(client, model="claude-sonnet-5-5")


async def test_a_tool_the_user_names_is_called_once_with_valid_arguments() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}, "line": {"type": "integer"}}}
    tools: Any = [{"name": "add_comment", "input_schema": schema}, {"name": "close", "input_schema": schema}]
    messages: Any = [{"role": "user", "content": "Use add_comment.\n" + json.dumps({"id": "t-3"})}]
    async with fake_and_client() as (_, client):
        first = await ask(client, messages=messages, tools=tools)
        (call,) = first.content
        assert call.type == "tool_use"
        assert (call.name, call.input["id"], first.stop_reason) == ("add_comment", "t-3", "tool_use")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "The comment is there."}
        turns = [{"role": "assistant", "content": [call.to_dict()]}, {"role": "user", "content": [result]}]
        second = await ask(client, messages=messages + turns, tools=tools)
    assert second.stop_reason == "end_turn"


async def test_the_service_pages_show_bill_counts_and_health() -> None:
    async with fake_and_client() as (fake, client), ClientSession(fake.url) as session:
        await ask(client)
        pages = {}
        for page in ("bill", "requests", "health"):
            async with session.get(f"/_fake/{page}") as response:
                pages[page] = await response.json()
        assert pages == {"bill": fake.bill(), "requests": {"/v1/messages": {"200": 1}}, "health": {"status": "ok"}}


async def test_the_bill_file_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "bill.jsonl"
    for round_number in (1, 2):
        async with fake_and_client(bill_file=path) as (fake, client):
            await ask(client)
            assert len(fake.bill()) == round_number
    assert read_bill(path) == fake.bill()
    assert read_bill(tmp_path / "nothing") == []


async def test_errors_report_the_buckets_as_well() -> None:
    prefix = "anthropic-ratelimit-requests"
    overload = {"match": {"nth": 2}, "fault": {"kind": "status", "code": 529}}
    limits = Limits(requests_per_minute=1)
    async with fake_and_client(limits=limits, faults=[overload], clock=StoppedClock()) as (_, client):
        await ask(client)
        for error in (anthropic.InternalServerError, anthropic.RateLimitError):
            with pytest.raises(error) as caught:
                await ask(client)
            assert caught.value.response.headers[f"{prefix}-remaining"] == "0"
            assert caught.value.response.headers[f"{prefix}-reset"] == "2026-11-22T03:01:00Z"
        other = await client.messages.with_raw_response.count_tokens(model="claude-opus-5-5", messages=HELLO)  # type: ignore[arg-type]
    assert other.headers[f"{prefix}-remaining"] == "1"


async def test_a_refused_request_takes_nothing_from_the_buckets_and_is_not_billed() -> None:
    async with fake_and_client(limits=Limits(input_tokens_per_minute=150), clock=StoppedClock()) as (fake, client):
        first = await ask(client)
        with pytest.raises(anthropic.RateLimitError, match="input-tokens"):
            await ask(client)
        assert first.usage.input_tokens < 150
        assert len(fake.bill()) == 1


async def test_a_bill_whose_last_line_is_cut_off_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "bill.jsonl"
    for _ in range(2):
        async with fake_and_client(bill_file=path) as (_, client):
            await ask(client)
        with path.open("a") as file:
            file.write('{"request_id": "req_')
    assert [entry["delivered"] for entry in read_bill(path)] == [True, True]


@pytest.mark.slow
async def test_run_forever_reports_its_url_and_leaves_a_bill_when_killed(tmp_path: Path) -> None:
    path, faults = tmp_path / "bill.jsonl", tmp_path / "faults.json"
    faults.write_text('[{"match": {"contains": "Slow"}, "fault": {"kind": "hang_body"}}]')
    program = (
        "from pathlib import Path; from functools import partial; from overnight.fake_model import run_forever;"
        f"run_forever(0, Path({str(faults)!r}), partial(print, flush=True), bill_file=Path({str(path)!r}))"
    )
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with AsyncAnthropic(
            base_url=url, api_key="sham", max_retries=0, http_client=DefaultAioHttpClient()
        ) as client:
            await ask(client)
            waiting = asyncio.create_task(ask(client, ["Slow is the reading of a long book."]))
            while len(read_bill(path)) % 2:  # noqa: ASYNC110  the file is another process's
                await asyncio.sleep(0.01)
            process.send_signal(number)
            with pytest.raises(anthropic.APIConnectionError):
                await waiting
        code = await process.wait()
    assert code == 0
    assert [entry["delivered"] for entry in read_bill(path)] == [True, False, True, False]


class StoppedClock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 11, 22, 3, 0, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def random(self) -> float:
        return 0.5
