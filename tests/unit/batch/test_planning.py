"""The audience of a batch: read once, in chunks, typed, named by its keys, and not all of it when somebody says so."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from overnight import Run, job
from overnight.batch import CHUNK, Batch, Picked
from overnight.errors import (
    Stop,
)
from overnight.jobs import Options
from overnight.ledger.tables import item, slot
from tests.slots import NOW, SLOT, begin, rows, run_in
from tests.unit.batch.conftest import Slot, counting

DAY = timedelta(days=1)


async def test_workers_begin_before_the_plan_is_complete_and_memory_does_not_hold_it(here: Slot) -> None:
    first_done = asyncio.Event()
    drawn = 0

    async def endless(_run: Run) -> AsyncIterator[str]:
        nonlocal drawn
        while not (drawn >= 3 * CHUNK and first_done.is_set()):
            yield f"k{drawn:06}"
            drawn += 1
            await asyncio.sleep(0)
            if drawn > 200 * CHUNK:
                raise AssertionError("nobody began")

    @job(items=endless)
    async def greet(name: str, run: Run) -> None:
        first_done.set()

    batch = here.batch(greet, concurrency=50)
    planning = asyncio.create_task(batch.plan())
    await batch.work(Picked(), planning)
    assert await planning == batch.counts["ok"] == drawn >= 3 * CHUNK


async def test_items_may_come_from_a_database_cursor_that_belongs_to_its_thread(here: Slot) -> None:
    def people(run: Run) -> Iterator[str]:
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE TABLE person (name TEXT)")
            database.executemany("INSERT INTO person VALUES (?)", [(f"p{n:04}",) for n in range(CHUNK + 1)])
            for (name,) in database.execute("SELECT name FROM person ORDER BY name"):
                yield name
        database.close()

    @job(items=people)
    async def greet(name: str, run: Run) -> str:
        return name

    await here.work(greet)
    assert list(here.states) == [f"p{n:04}" for n in range(CHUNK + 1)]
    assert set(here.states.values()) == {"ok"}


async def test_a_job_without_items_has_one_item_the_slot(here: Slot) -> None:
    @job
    async def close_the_books(slot: str, run: Run) -> str:
        return f"books of {slot}"

    await here.work(close_the_books)
    assert here.states == {"2026-11-22": "ok"}
    assert here.one("2026-11-22")["result"] == '"books of 2026-11-22"'


async def test_items_travel_through_the_ledger_as_typed_values(here: Slot) -> None:
    @dataclass(frozen=True)
    class Person:
        name: str
        born: tuple[int, int]

    async def greet(person: Person, run: Run) -> Person:
        assert isinstance(person, Person)
        return person

    greet.__annotations__ = {"person": Person, "run": Run, "return": Person}
    ann = Person("Ann", (1815, 12))
    await here.work(job(items=lambda _run: [ann], key=lambda one: one.name)(greet))
    assert here.one("Ann")["result"] == '{"name":"Ann","born":[1815,12]}'


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (lambda _run: ["fine", object()], "<object object at"),
        (lambda _run: iter([1, 2]), "1 cannot be planned"),
        (lambda _run: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda _run: None, "TypeError: 'NoneType' object is not iterable"),
    ],
    ids=["not JSON", "wrong type", "broken", "nothing"],
)
async def test_items_that_cannot_be_planned_stop_the_run_and_are_named(here: Slot, items: Any, said: str) -> None:
    @job(items=items)
    async def greet(name: str, run: Run) -> None: ...

    with pytest.raises(Stop, match="items of greet: ") as stop:
        await here.batch(greet).plan()
    assert said in str(stop.value)
    assert rows(here.ledger, slot)[0]["planned_at"] is None


async def test_two_items_with_one_key_are_one_item(here: Slot) -> None:
    @job(items=lambda _run: ["Ann", "ann", "Bob"], key=str.lower)
    async def greet(name: str, run: Run) -> str:
        return name

    batch = here.batch(greet)
    assert await batch.plan() == 3
    await batch.work(Picked())
    assert here.states == {"ann": "ok", "bob": "ok"}
    assert here.one("ann")["result"] == '"Ann"'


async def test_limit_and_only_choose_items_and_leave_the_rest_pending(here: Slot) -> None:
    @job(items=counting(CHUNK + 20))
    async def greet(name: str, run: Run) -> None: ...

    await here.work(greet, Picked(limit=3))
    assert [key for key, state in here.states.items() if state == "ok"] == ["k0000", "k0001", "k0002"]
    await here.work(greet, Picked(only=frozenset(["k0515", "k0001"])), plan=False)
    assert [key for key, state in here.states.items() if state == "ok"] == ["k0000", "k0001", "k0002", "k0515"]


async def test_a_rehearsal_plans_what_it_is_to_show_and_no_more_of_the_audience(here: Slot) -> None:
    read: list[int] = []

    def everybody(_run: Run) -> Iterator[str]:
        for n in range(CHUNK * 3):
            read.append(n)
            yield f"k{n:04}"

    @job(items=everybody)
    async def greet(name: str, run: Run) -> None: ...

    async def planned(slot: str, picked: Picked) -> list[str]:
        scope = begin(here.ledger, slot=slot)
        run = run_in(here.ledger, scope, here.root, rehearsal=True)
        batch = Batch(greet, run, Options(), expires_at=NOW + DAY)
        await batch.plan(picked)
        await batch.work(picked)
        return [row["key"] for row in rows(here.ledger, item, slot=slot, state="ok")]

    assert await planned(f"{SLOT}~a", Picked(limit=3)) == ["k0000", "k0001", "k0002"]
    assert len(read) == CHUNK, "a page was read"
    assert await planned(f"{SLOT}~b", Picked(only=frozenset(["k0001", "k0777"]))) == ["k0001", "k0777"]
    assert len(rows(here.ledger, item)) == 5
    assert {row["pending"] for row in rows(here.ledger, slot)} == {0}


async def test_a_subscriber_added_between_crash_and_resume_is_not_forgotten(here: Slot) -> None:
    people = ["m", "n"]

    @job(items=lambda _run: list(people))
    async def greet(name: str, run: Run) -> None: ...

    await here.batch(greet).plan()
    people[:] = ["a", "m", "n", "z"]
    await here.work(greet, concurrency=1)
    assert here.states == dict.fromkeys(["m", "n", "a", "z"], "ok")
