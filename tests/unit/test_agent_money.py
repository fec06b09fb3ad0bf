"""What an agent's questions cost: charged at most once, at their worst until it is known, never over a budget."""

import asyncio
import dataclasses
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from overnight.breaker import Permit
from overnight.budget import Budgets, Caps, RoleCaps
from overnight.errors import Deferred, Fenced, OvernightError, Skip, Stop
from overnight.ledger import Ledger
from overnight.ledger.tables import lease
from overnight.model import Model
from overnight.pricing import NANO
from overnight.retry import Retry
from tests.agents import HAIKU, PLAIN, SONNET, STORIES, Clock, Edition, Killed, opened, status


@pytest.mark.parametrize("kind", ["drop_after_accept", "bad_json", "html"])
async def test_what_may_have_been_billed_stays_charged_at_its_worst_case(tmp_path: Path, kind: str) -> None:
    async with opened(tmp_path, {"match": {"nth": 1}, "fault": {"kind": kind}}) as bench:
        answer = await bench.ask()
        lost, kept = bench.rows()
        billed = sum(entry["cost_nano"] for entry in bench.fake.bill())
        assert (lost["status"], kept["status"], len(bench.fake.bill())) == ("unknown", "ok", 2)
        assert lost["cost_nano"] > kept["cost_nano"]
        assert bench.day() == (lost["cost_nano"] + kept["cost_nano"], 0)
        assert bench.costs() == {answer.cost_nano} == {bench.day()[0]}
        assert bench.day()[0] >= billed


async def test_a_cancelled_request_stays_charged(tmp_path: Path) -> None:
    async with opened(tmp_path, {"fault": {"kind": "hang", "seconds": 60}}) as bench:
        task = asyncio.create_task(bench.ask(fallback=PLAIN))
        while not bench.fake.bill():  # noqa: ASYNC110  the server has no event to wait for
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        [row] = bench.rows()
        assert (row["status"], row["error_code"]) == ("unknown", "cancellederror")
        assert bench.costs() == {bench.day()[0]} == {row["cost_nano"]}
        assert bench.day()[1] == 0


async def test_a_request_on_its_way_when_the_process_dies_is_in_the_books(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        task = asyncio.create_task(bench.ask(bench.agent(model=Killed())))
        while not bench.rows():  # noqa: ASYNC110  nor has the ledger
            await asyncio.sleep(0.01)
        [row] = bench.rows()
        settled, reserved = bench.day()
        assert (row["status"], row["error_code"]) == ("unknown", "in_flight")
        assert (settled, reserved) == (0, row["cost_nano"])
        assert bench.costs() == {row["cost_nano"]}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_spent_budget_skips_the_item_without_a_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.caps = Caps(per_day=1_000)
        with pytest.raises(Skip, match=r"^budget$"):
            await bench.ask()
        assert (await bench.ask(fallback=PLAIN)).source == "fallback"
        assert (bench.posts, bench.rows()) == (0, [])


async def test_the_budget_of_a_role_holds_for_each_task(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.caps = Caps(roles={"editor": RoleCaps(per_task=NANO // 1000)})
        agent = bench.agent()
        assert (await bench.ask(agent)).source == "model"
        with pytest.raises(Skip):
            await bench.ask(agent, data={"text": "long " * 4_000})


async def test_many_items_of_two_processes_stay_below_the_cap_and_agree_with_the_bill(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.caps = Caps(per_day=2_000_000)
        other = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
        agents = [
            bench.agent(),
            bench.agent(ledger=other, budgets=Budgets(other, Clock(), ZoneInfo("UTC"), bench.caps)),
        ]

        async def one(number: int) -> str:
            scope = dataclasses.replace(bench.scope, key=f"k{number}")
            try:
                answer = await agents[number % 2].ask(scope, "editor", data=STORIES, output=Edition)
            except (Skip, Deferred) as error:
                return error.code
            return answer.source

        results = await asyncio.gather(*(one(number) for number in range(60)))
        billed = sum(entry["cost_nano"] for entry in bench.fake.bill())
        assert bench.day() == (billed, 0)
        assert billed <= bench.caps.per_day
        assert set(results) == {"model", "budget"}
        other.close()


async def test_who_has_lost_the_slot_spends_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.ledger.writing(lambda connection: connection.execute(lease.update().values(fence=99)))
        with pytest.raises(Fenced):
            await bench.ask(fallback=PLAIN)
        assert bench.posts == 0


async def test_a_warning_is_given_once_when_the_budget_is_nearly_spent(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.caps = Caps(per_day=700_000)
        agent = bench.agent()
        for number in range(12):
            await bench.ask(agent, data={"n": number}, fallback=PLAIN)
        assert agent.warnings == ["the budget of 2026-11-22 is nearly spent"]


async def test_an_unknown_model_stops_before_anything_is_reserved(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        bench.models = ("claude-nonesuch",)
        with pytest.raises(OvernightError, match="no price is known"):
            await bench.ask()
        assert bench.posts == 0


@pytest.mark.parametrize(("status", "source"), [("unknown", None), ("ok", "model")], ids=["lost", "answered"])
async def test_a_breaker_that_cannot_be_written_changes_nothing_of_what_a_call_cost(
    tmp_path: Path, status: str, source: str | None
) -> None:
    faults = [{"fault": {"kind": "hang", "seconds": 60}}] if source is None else []
    async with opened(tmp_path, *faults) as bench:
        environ = {"ANTHROPIC_API_KEY": bench.key, "ANTHROPIC_BASE_URL": bench.fake.url}
        agent = bench.agent(model=Model.open(environ, clock=bench.clock, deadline=0.4), retry=Retry(attempts=1))

        async def broken(permit: Permit, success: bool | None) -> None:
            raise Stop("the disk is full", code="ledger")

        agent.api.breaker_of(HAIKU).report = broken  # type: ignore[method-assign]
        if source is None:
            with pytest.raises(Deferred) as caught:
                await bench.ask(agent)
            assert caught.value.code == "timeout"
        else:
            assert (await bench.ask(agent)).source == source
        [row] = bench.rows()
        assert row["status"] == status
        assert row["cost_nano"] >= sum(entry["cost_nano"] for entry in bench.fake.bill()) > 0
        assert bench.day() == (row["cost_nano"], 0)


async def test_an_answer_that_is_not_valid_is_paid_once_however_often_the_item_is_tried(tmp_path: Path) -> None:
    wrong = {"match": {"nth": 1}, "fault": {"kind": "schema_violation"}}
    async with opened(tmp_path, wrong, status(529)) as bench:
        with pytest.raises(Deferred):
            await bench.ask()
        assert len(bench.fake.bill()) == 1
        bench.fake.set_faults([])
        assert (await bench.ask()).source == "repaired"
        assert len(bench.fake.bill()) == 2


async def test_a_model_whose_two_answers_were_not_valid_is_not_asked_again(tmp_path: Path) -> None:
    wrong = {"match": {"model": HAIKU}, "fault": {"kind": "schema_violation"}}
    overloaded = {"match": {"model": SONNET}, "fault": {"kind": "status", "code": 529}}
    async with opened(tmp_path, wrong, overloaded) as bench:
        bench.models = (HAIKU, SONNET)
        with pytest.raises(Deferred):
            await bench.ask()
        bench.fake.set_faults([])
        assert (await bench.ask()).model == SONNET
        assert [entry["model"] for entry in bench.fake.bill()] == [HAIKU, HAIKU, SONNET]
