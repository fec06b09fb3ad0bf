"""How batches end and go on: stopped, drained, replaced, or with a ledger that fails; nothing is repeated."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from overnight import Run, job
from overnight.batch import Batch, Picked
from overnight.errors import (
    Downstream,
    Fenced,
    Permanent,
    Stop,
)
from tests.slots import begin
from tests.unit.batch.conftest import Slot, counting, raising


async def test_after_a_stop_items_in_flight_finish(here: Slot) -> None:
    both, stopped = asyncio.Barrier(2), asyncio.Event()

    @job(items=lambda _run: ["stops", "in flight", "not begun"])
    async def greet(name: str, run: Run) -> str:
        await both.wait()
        if name == "stops":
            stopped.set()
            raise Stop("the template is broken")
        await stopped.wait()
        await asyncio.sleep(0.01)
        return name

    batch = await here.work(greet, concurrency=2)
    assert here.states == {"stops": "pending", "in flight": "ok", "not begun": "pending"}
    assert batch.counts == {"ok": 1}


async def test_a_drained_batch_finishes_what_is_in_flight_and_leaves_the_rest_pending(here: Slot) -> None:
    batches: list[Batch] = []

    @job(items=counting(30))
    async def greet(name: str, run: Run) -> None:
        if name == "k0003":
            batches[0].drain()
        await asyncio.sleep(0)

    batches.append(here.batch(greet, concurrency=2))
    planning = asyncio.create_task(batches[0].plan())
    await batches[0].work(Picked(), planning)
    assert await planning == 30
    found = list(here.states.values())
    done = found.count("ok")
    assert 4 <= done <= 6
    assert found == ["ok"] * done + ["pending"] * (30 - done)
    await here.work(greet, plan=False)
    assert set(here.states.values()) == {"ok"}


async def test_a_drained_batch_ends_while_its_plan_goes_on_and_on(here: Slot) -> None:
    async def dripping(_run: Run) -> AsyncIterator[str]:
        yield "first"
        await asyncio.Event().wait()

    @job(items=dripping)
    async def greet(name: str, run: Run) -> None:
        """Nothing."""

    batch = here.batch(greet, concurrency=2)
    planning = asyncio.create_task(batch.plan())
    working = asyncio.create_task(batch.work(Picked(), planning))
    await asyncio.sleep(0.02)
    assert not working.done()
    batch.drain()
    async with asyncio.timeout(10):
        await working
    planning.cancel()


async def test_an_owner_that_was_replaced_stops_writing(here: Slot) -> None:
    @job(items=counting(20))
    async def greet(name: str, run: Run) -> None:
        if name == "k0005":
            begin(here.ledger)

    batch = here.batch(greet, concurrency=1)
    await batch.plan()
    await batch.work(Picked())
    assert isinstance(batch.fenced, Fenced)
    assert list(here.states.values()) == ["ok"] * 5 + ["pending"] * 15


async def test_never_more_items_at_a_time_than_asked(here: Slot) -> None:
    now, most = 0, 0

    @job(items=counting(200))
    async def greet(name: str, run: Run) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    await here.work(greet, concurrency=7)
    assert most == 7
    assert here.told[0].state == "ok"
    assert len(here.told) == 200


async def test_a_second_run_repeats_nothing_that_is_finished(here: Slot) -> None:
    done: list[str] = []

    @job(items=counting(5))
    async def greet(name: str, run: Run) -> None:
        done.append(name)
        if name == "k0002":
            raise Permanent("no")

    await here.work(greet)
    await here.work(greet)
    assert sorted(done) == [f"k{n:04}" for n in range(5)]
    await here.work(greet, Picked("again"))
    assert sorted(done) == sorted([f"k{n:04}" for n in range(5)] + ["k0002"])


async def test_a_ledger_that_cannot_be_written_stops_the_run(here: Slot) -> None:
    @job(items=counting(50))
    async def greet(name: str, run: Run) -> None:
        if name == "k0004":
            with here.ledger.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE histogram")

    batch = await here.work(greet, concurrency=1)
    assert batch.stopped is not None
    assert "the ledger cannot be written" in str(batch.stopped)
    assert list(here.states.values()) == ["ok"] * 4 + ["pending"] * 46


async def test_a_ledger_that_fails_under_an_item_leaves_it_pending_and_stops_the_run(here: Slot) -> None:
    @job(items=counting(3))
    async def greet(name: str, run: Run) -> None:
        if name == "k0001":
            await run.ledger.write(lambda connection: connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)"))

    batch = await here.work(greet, concurrency=1)
    assert (str(batch.stopped and batch.stopped.code), batch.bugs) == ("ledger", [])
    assert list(here.states.values()) == ["ok", "pending", "pending"]


async def test_a_ledger_that_cannot_be_read_stops_the_run_in_order(here: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = here.batch(raising())
    await batch.plan()

    def broken(*_arguments: Any, **_more: Any) -> None:
        raise Stop("the ledger is locked")

    monkeypatch.setattr("overnight.batch.page", broken)
    await batch.work(Picked())
    assert str(batch.stopped) == "the ledger is locked"
    assert here.states == {"well": "pending"}


async def test_a_compensation_that_cannot_be_written_down_stops_the_run_in_order(
    here: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = here.batch(raising(refused=Downstream("no")), concurrency=1)
    await batch.plan()

    async def broken(_steps: Any) -> list[str]:
        raise Stop("the disk is full")

    monkeypatch.setattr("overnight.compensation.Steps.undo", broken)
    await batch.work(Picked())
    assert str(batch.stopped) == "the disk is full"
    assert here.states["refused"] == "pending"
