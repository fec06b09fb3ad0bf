"""Models that fail: asked as often as configured, handed on to the next, or the item is deferred, failed or stopped."""

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from overnight.clock import SystemClock
from overnight.deadline import deadline
from overnight.dependency import Dependencies
from overnight.errors import Deferred, Permanent, Stop
from overnight.model import Model
from overnight.retry import Retry
from overnight.roles import Role, Roles
from overnight.schedule import Rate
from tests.agents import HAIKU, PLAIN, SONNET, STORIES, Clock, Edition, opened, status


@pytest.mark.parametrize("code", [503, 500, 408])
async def test_a_failing_request_is_sent_exactly_as_often_as_configured(tmp_path: Path, code: int) -> None:
    async with opened(tmp_path, status(code)) as bench:
        bench.models = (HAIKU, SONNET)
        with pytest.raises(Deferred) as caught:
            await bench.ask()
        assert (bench.posts, caught.value.after, caught.value.code) == (3, 300, f"http_{code}")
        assert [row["status"] for row in bench.rows()] == ["failed"] * 3
        assert (bench.costs(), bench.day()) == ({0}, (0, 0))


async def test_an_overloaded_model_hands_over_to_the_next(tmp_path: Path) -> None:
    fault = {"match": {"model": HAIKU}, "fault": {"kind": "status", "code": 529}}
    async with opened(tmp_path, fault) as bench:
        bench.models = (HAIKU, SONNET)
        answer = await bench.ask()
        assert (answer.model, answer.source, bench.posts) == (SONNET, "model", 4)


async def test_retry_after_is_honoured_and_pauses_everybody(tmp_path: Path) -> None:
    async with opened(tmp_path, {**status(429, retry_after=20), "times": 1}) as bench:
        answer = await bench.ask()
        assert answer.source == "model"
        assert 20 <= sum(bench.clock.slept) <= 22


async def test_a_long_retry_after_defers_the_item(tmp_path: Path) -> None:
    async with opened(tmp_path, status(429, retry_after=600)) as bench:
        with pytest.raises(Deferred) as caught:
            await bench.ask()
        assert bench.posts == 1
        assert caught.value.after is not None
        assert 600 <= caught.value.after <= 660


async def test_a_fallback_wins_over_every_failure_and_is_noted(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    async with opened(tmp_path, status(401)) as bench:
        agent = bench.agent(on_fallback=lambda _, role, error: told.append((role, error.code)))
        for _ in range(3):
            answer = await bench.ask(agent, fallback=PLAIN)
            assert (answer.value, answer.source, answer.model) == (PLAIN, "fallback", None)
        assert agent.fallbacks == {"editor": 3}
        assert told == [("editor", "http_401")] * 3
        assert len(agent.notices) == 1
        assert bench.posts == 1  # a wrong key is wrong for everybody


async def test_a_refused_key_stops_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, status(401)) as bench:
        with pytest.raises(Stop, match="check ANTHROPIC_API_KEY"):
            await bench.ask()
        assert bench.posts == 1


async def test_who_waits_for_a_request_hears_at_once_that_the_key_is_wrong(tmp_path: Path) -> None:
    async with opened(tmp_path, {**status(401), "times": 1}) as bench:
        limited = Dependencies({"anthropic": {"requests": Rate(3, 60)}}, SystemClock())  # one, and the next in 20 s
        agent = bench.agent(api=limited.of("anthropic"))
        scopes = [dataclasses.replace(bench.scope, key=f"k{number}") for number in range(3)]
        asked = [agent.ask(scope, "editor", data=STORIES, output=Edition) for scope in scopes]
        stopped = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        assert {getattr(each, "code", each) for each in stopped} == {"http_401"}
        assert {type(each) for each in stopped} == {Stop}
        assert bench.posts == 1
        assert [row["error_code"] for row in bench.rows()] == ["http_401"]
        assert (bench.costs(), bench.day()) == ({0}, (0, 0))


async def test_a_model_that_does_not_exist_says_nothing_about_another(tmp_path: Path) -> None:
    async with opened(tmp_path, {"match": {"model": HAIKU}, "fault": {"kind": "status", "code": 404}}) as bench:
        agent = bench.agent()
        with pytest.raises(Stop, match="names of models"):
            await bench.ask(agent)
        agent.roles = Roles(tmp_path, {"editor": Role("editor", (SONNET,), max_tokens=300)})
        assert (await bench.ask(agent)).model == SONNET


async def test_the_limits_that_come_with_a_refusal_are_obeyed(tmp_path: Path) -> None:
    async with opened(tmp_path, {**status(429), "times": 1}) as bench:
        bench.clock = Clock()
        limited = Dependencies({"anthropic": {"requests": Rate(6_000, 60)}}, bench.clock).of("anthropic")
        observed: list[Mapping[str, str]] = []
        limited.limit.observe = observed.append  # type: ignore[method-assign]
        await bench.ask(bench.agent(api=limited))
        assert ["anthropic-ratelimit-requests-remaining" in headers for headers in observed] == [True, True]


async def test_a_missing_key_stops_with_a_remedy_and_books_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.key = ""
        with pytest.raises(Stop, match="set ANTHROPIC_API_KEY"):
            await bench.ask()
        assert (bench.rows(), bench.posts, bench.clock.slept) == ([], 0, [])


async def test_a_request_the_api_refuses_fails_this_item(tmp_path: Path) -> None:
    async with opened(tmp_path, status(400)) as bench:
        with pytest.raises(Permanent):
            await bench.ask()
        assert bench.posts == 1


async def test_an_api_that_hangs_opens_the_breaker_though_items_have_less_time_than_a_request(tmp_path: Path) -> None:
    async with opened(tmp_path, {"fault": {"kind": "hang", "seconds": 60}}) as bench:
        environ = {"ANTHROPIC_API_KEY": bench.key, "ANTHROPIC_BASE_URL": bench.fake.url}
        hurried = Model.open(environ, clock=bench.clock, deadline=3)
        agent = bench.agent(model=hurried, retry=Retry(attempts=1))

        async def one(number: int) -> str:
            with pytest.raises(Deferred) as caught:
                async with deadline(2):
                    await bench.ask(agent, data={"n": number})
            return caught.value.code

        assert await asyncio.gather(*(one(number) for number in range(5))) == ["timeout"] * 5
        assert await one(5) == "breaker_open"
        assert len(bench.fake.bill()) == 5


async def test_an_overloaded_model_leaves_the_next_one_to_all_items(tmp_path: Path) -> None:
    fault = {"match": {"model": HAIKU}, "fault": {"kind": "status", "code": 529}}
    async with opened(tmp_path, fault) as bench:
        bench.models = (HAIKU, SONNET)
        agent = bench.agent()
        scopes = [dataclasses.replace(bench.scope, key=f"k{number}") for number in range(12)]
        asked = [agent.ask(scope, "editor", data=STORIES, output=Edition) for scope in scopes]
        answers = await asyncio.gather(*asked)
        assert {answer.model for answer in answers} == {SONNET}
        with pytest.raises(Deferred, match=f"anthropic:{HAIKU} has failed too often"):
            await agent.api.breaker_of(HAIKU).check()


@pytest.mark.parametrize("code", [403, 404])
async def test_a_model_that_is_refused_leaves_its_questions_to_the_next(tmp_path: Path, code: int) -> None:
    async with opened(tmp_path, {"match": {"model": HAIKU}, "fault": {"kind": "status", "code": code}}) as bench:
        bench.models = (HAIKU, SONNET)
        agent = bench.agent()
        for number in range(3):
            assert (await bench.ask(agent, data={"n": number})).model == SONNET
        assert bench.posts == 4
        [notice] = agent.notices
        assert f"{HAIKU} is left out" in notice
        bench.models = (HAIKU,)
        with pytest.raises(Stop):
            await bench.ask()
