"""The batch: every item has an outcome of its own, whatever the others do."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from overnight import Run, job
from overnight.batch import BACKOFF, CHUNK, Batch, Picked, outcome_of
from overnight.deadline import off_the_clock
from overnight.errors import (
    ConfigError,
    Deferred,
    Downstream,
    Fenced,
    Invalid,
    Permanent,
    Refused,
    Skip,
    Stop,
    Transient,
    Unknown,
)
from overnight.jobs import Job, Options
from overnight.ledger import Ledger
from overnight.ledger.tables import item, slot
from overnight.outcome import Outcome, Scope
from overnight.runner import DEFERRED_FOR, term
from overnight.schedule import loads
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, rows, run_in

DAY = timedelta(days=1)


@dataclass
class Slot:
    """A slot of a job, worked on as often as a test likes."""

    ledger: Ledger
    clock: ManualClock
    root: Path
    told: list[Outcome] = field(default_factory=list)

    async def work(
        self,
        job: Job[Any, Any],
        picked: Picked | None = None,
        *,
        plan: bool = True,
        expires: timedelta = DAY,
        **options: Any,
    ) -> Batch:
        """One run over the slot, plan and all."""
        batch = self.batch(job, expires=expires, **options)
        if plan:
            await batch.plan()
        await batch.work(picked or Picked())
        return batch

    def batch(self, job: Job[Any, Any], *, expires: timedelta = DAY, **options: Any) -> Batch:
        """A batch that has not begun."""
        run = run_in(self.ledger, begin(self.ledger), self.root)
        chosen = Options().override(job.options).override(options)
        return Batch(job, run, chosen, expires_at=self.clock.now() + expires, on_outcome=self.told.append)

    @property
    def states(self) -> dict[str, str]:
        return {row["key"]: row["state"] for row in sorted(rows(self.ledger, item), key=lambda row: row["seq"])}

    def one(self, key: str) -> dict[str, Any]:
        [row] = rows(self.ledger, item, key=key)
        return row


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Slot]:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    yield Slot(ledger, clock, tmp_path)
    ledger.close()


def raising(**errors: BaseException | Callable[[], BaseException]) -> Job[str, str]:
    """A job of items by these names, each of which raises its error, and of one that is well."""

    @job(items=lambda _run: [*errors, "well"], key=str)
    async def greet(name: str, run: Run) -> str:
        await asyncio.sleep(0)
        if name in errors:
            error = errors[name]
            raise error if isinstance(error, BaseException) else error()
        return f"hello {name}"

    return greet


def counting(n: int) -> Any:
    return lambda _run: [f"k{i:04}" for i in range(n)]


class Odd(BaseException):
    """What a library keeps out of Exception."""


@pytest.mark.parametrize(
    ("error", "state", "error_class", "code"),
    [
        (Skip("no news"), "skipped", None, None),
        (Transient("503", code="http_503"), "retry", "transient", "http_503"),
        (Deferred("later", after=7200), "retry", "transient", "deferred"),
        (Deferred("tomorrow", after=100_000), "failed", "transient", "deferred"),
        (TimeoutError(), "retry", "transient", "timeout"),
        (Permanent("no such user", code="smtp_550"), "failed", "permanent", "smtp_550"),
        (Invalid("not the shape"), "failed", "invalid", "invalid"),
        (Downstream("the CRM refused"), "failed", "downstream", "downstream"),
        (Unknown("lost after DATA"), "unknown", None, "unknown"),
        (ValueError("oops"), "failed", "bug", "ValueError"),
        (KeyError("name"), "failed", "bug", "KeyError"),
        (MemoryError(), "failed", "bug", "MemoryError"),
        (RecursionError("deep"), "failed", "bug", "RecursionError"),
        (StopIteration(), "failed", "bug", "RuntimeError"),
        (asyncio.CancelledError(), "failed", "bug", "CancelledError"),
        (SystemExit(1), "failed", "bug", "SystemExit"),
        (Odd("strange"), "failed", "bug", "Odd"),
        (ExceptionGroup("two", [ValueError(), OSError()]), "failed", "bug", "ExceptionGroup"),
        (OSError(28, "No space left on device"), "failed", "bug", "OSError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else value,
)
async def test_what_an_item_raises_decides_what_becomes_of_it_and_of_it_alone(
    here: Slot, error: BaseException, state: str, error_class: str | None, code: str | None
) -> None:
    batch = await here.work(raising(ill=error))
    assert here.states == {"ill": state, "well": "ok"}
    ill = here.one("ill")
    assert (ill["error_class"], ill["error_code"]) == (error_class, code)
    assert [bug.key for bug in batch.bugs] == (["ill"] if error_class == "bug" else [])
    assert batch.stopped is None
    assert here.one("well")["result"] == '"hello well"'


@pytest.mark.parametrize(
    "error", [Stop("the key is refused"), ConfigError("no such role"), Refused("the budget is spent")]
)
async def test_what_concerns_the_whole_run_leaves_the_rest_pending(here: Slot, error: BaseException) -> None:
    batch = await here.work(raising(first=error, second=error), concurrency=1)
    assert here.states == dict.fromkeys(["first", "second", "well"], "pending")
    assert str(batch.stopped) == str(error)
    assert here.told == []


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


async def test_a_result_that_is_no_json_is_a_bug_of_its_item(here: Slot) -> None:
    @job(items=lambda _run: ["ill", "well"])
    async def greet(name: str, run: Run) -> Any:
        return object() if name == "ill" else name

    await here.work(greet)
    assert here.states == {"ill": "failed", "well": "ok"}
    assert here.one("ill")["error_class"] == "bug"


async def test_two_items_with_one_key_are_one_item(here: Slot) -> None:
    @job(items=lambda _run: ["Ann", "ann", "Bob"], key=str.lower)
    async def greet(name: str, run: Run) -> str:
        return name

    batch = here.batch(greet)
    assert await batch.plan() == 3
    await batch.work(Picked())
    assert here.states == {"ann": "ok", "bob": "ok"}
    assert here.one("ann")["result"] == '"Ann"'


async def test_an_item_that_works_too_long_is_deferred_and_waiting_its_turn_is_not_work(here: Slot) -> None:
    @job(items=lambda _run: ["hangs", "waits"])
    async def greet(name: str, run: Run) -> None:
        if name == "hangs":
            await asyncio.sleep(10)
        async with off_the_clock():
            await asyncio.sleep(0.15)

    await here.work(greet, item_timeout=0.05)
    assert here.states == {"hangs": "retry", "waits": "ok"}
    hangs = here.one("hangs")
    assert hangs["error"] == "the item took longer than its item_timeout"
    assert (hangs["next_at"], hangs["expires_at"]) == (NOW + timedelta(minutes=5), NOW + DAY)


async def test_a_transient_error_is_tried_again_at_once_and_then_deferred(here: Slot) -> None:
    tries: list[str] = []

    @job(items=lambda _run: ["recovers", "stays down"])
    async def greet(name: str, run: Run) -> None:
        tries.append(name)
        if name == "stays down" or tries.count(name) < 3:
            raise Transient("503")

    await here.work(greet, concurrency=1, attempts=3)
    assert tries == ["recovers"] * 3 + ["stays down"] * 3
    assert here.states == {"recovers": "ok", "stays down": "retry"}
    assert here.one("recovers")["attempts"] == here.one("stays down")["attempts"] == 3


async def test_a_deferred_item_waits_for_its_time_and_expires(here: Slot) -> None:
    tries = 0

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        nonlocal tries
        tries += 1
        raise Deferred("greylisted", code="smtp_451")

    due: list[float] = []
    started = here.clock.now()
    await here.work(greet, expires=timedelta(hours=3))
    while here.one("ann")["state"] == "retry":
        due.append((here.one("ann")["next_at"] - here.clock.now()).total_seconds())
        assert (await here.work(greet, plan=False)).counts == {}, "its time has not come"
        here.clock.at = here.one("ann")["next_at"]
        await here.work(greet, plan=False, expires=timedelta(days=9))
    assert due == [300, 900, 3600, 3600]
    assert tries == 5, "the fifth would have been due after three hours"
    assert here.one("ann")["error_code"] == "smtp_451"
    assert here.clock.now() - started < timedelta(hours=3)


@pytest.mark.parametrize(
    ("timing", "lasts"),
    [
        ("every: 5m", timedelta(hours=1)),
        ("every: 6h", timedelta(hours=5)),
        ('cron: "0 8 * * 6"', DEFERRED_FOR),
        ('cron: "0 8 * * 6", max_age: 2d', timedelta(days=2)),
    ],
)
def test_a_deferred_item_waits_for_the_next_slot_but_not_for_days(timing: str, lasts: timedelta) -> None:
    settings = loads(f"version: 1\njobs: {{ greet: {{ {timing} }} }}\n", {}).jobs["greet"]
    assert term(settings, NOW) == NOW + lasts


async def test_a_mail_is_worth_a_day_though_its_item_was_given_a_week_before(here: Slot) -> None:
    reasons = [Deferred("the model is away"), Deferred("greylisted", within=86_400), Deferred("still", within=86_400)]

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        raise reasons.pop(0)

    await here.work(greet, expires=timedelta(days=7))
    assert here.one("ann")["expires_at"] == NOW + timedelta(days=7)
    for plan in (False, False):
        here.clock.at = here.one("ann")["next_at"]
        await here.work(greet, plan=plan, expires=timedelta(days=7))
        assert here.one("ann")["expires_at"] == NOW + timedelta(minutes=5) + DAY


async def test_an_item_nobody_took_up_in_time_fails_as_expired_and_a_person_may_try_it_again(here: Slot) -> None:
    well = False

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        if not well:
            raise Deferred("greylisted")

    await here.work(greet, expires=timedelta(hours=1))
    here.clock.move(7200)
    await here.work(greet, plan=False)
    assert here.states == {"ann": "failed"}
    assert here.one("ann")["error_code"] == "expired"
    well = True
    await here.work(greet, plan=False)
    assert here.states == {"ann": "failed"}, "a sweep leaves it alone"
    await here.work(greet, Picked("again"), plan=False)
    assert here.states == {"ann": "ok"}


async def test_a_person_need_not_wait_until_an_expired_item_was_swept(here: Slot) -> None:
    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        if here.clock.now() == NOW:
            raise Deferred("greylisted")

    await here.work(greet, expires=timedelta(hours=1))
    here.clock.move(7200)
    await here.work(greet, Picked("again"), plan=False)
    assert here.states == {"ann": "ok"}


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


async def test_secrets_in_errors_do_not_reach_the_ledger(here: Slot) -> None:
    batch = here.batch(raising(ill=ValueError("key sk-123 refused")))
    batch.redact = lambda text: text.replace("sk-123", "[secret]")
    await batch.plan()
    await batch.work(Picked())
    assert here.one("ill")["error"] == "ValueError: key [secret] refused"


@pytest.mark.parametrize(
    ("retries", "after", "left", "waits"),
    [
        (0, None, 9e9, BACKOFF[0]),
        (1, None, 9e9, BACKOFF[1]),
        (2, None, 9e9, BACKOFF[2]),
        (40, None, 9e9, BACKOFF[2]),
        (0, 700.0, 9e9, 700),
        (0, None, 301, 300),
        (0, None, 300, None),
        (3, 1e9, 3600, None),
    ],
)
def test_the_pause_of_a_deferred_item_and_where_it_ends(
    retries: int, after: float | None, left: float, waits: float | None
) -> None:
    error = Deferred("later", after=after)
    expires_at = NOW + timedelta(seconds=left)
    outcome = outcome_of("ann", error, retries=retries, now=NOW, expires_at=expires_at)
    if waits is None:
        assert (outcome.state, outcome.next_at) == ("failed", None)
    else:
        assert (outcome.state, outcome.next_at, outcome.expires_at) == (
            "retry",
            NOW + timedelta(seconds=waits),
            expires_at,
        )


def test_a_scope_names_its_task() -> None:
    assert Scope("greet", "2026-11-22", "ann", "r_1").task_id == "greet/2026-11-22/ann"


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
