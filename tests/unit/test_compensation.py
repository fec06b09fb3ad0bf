"""Effects of a job's own: done once, undone in reverse when a later step refuses, named when nobody knows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from overnight import Downstream, Permanent, Run, Transient, job
from overnight.alerts import Alarm, of_run
from overnight.alerts.book import note_all
from overnight.alerts.rules import standing
from overnight.batch import Batch, Picked
from overnight.closing import settle_item
from overnight.jobs import Job, Options
from overnight.ledger import Ledger
from overnight.ledger.controls import alert
from overnight.ledger.tables import effect, item
from overnight.ledger.tables import run as run_table
from overnight.schedule import loads
from tests.slots import ManualClock, begin, open_ledger, rows, run_in


class Killed(BaseException):
    """The process is gone at this point."""


@dataclass
class Desk:
    """The other side: what stands there, and what it was asked."""

    standing: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    breaks_at: str = ""
    error: BaseException = field(default_factory=RuntimeError)

    async def open(self, name: str) -> str:
        self._ask(f"open {name}")
        self.standing.append(name)
        return f"id of {name}"

    async def close(self, value: str) -> None:
        self._ask(f"close {value}")
        self.standing.remove(value.removeprefix("id of "))

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self.breaks_at:
            raise self.error


@dataclass
class Slot:
    """A slot with one item, worked on as often as a test likes."""

    ledger: Ledger
    root: Path
    run: Run | None = None

    async def work(self, work: Job[Any, Any], on_unknown: Literal["park", "resend", "reconcile"] = "park") -> str:
        """One run over the slot; returns the state of the item."""
        self.run = run_in(self.ledger, begin(self.ledger), self.root, on_unknown=on_unknown)
        options = Options().override(work.options)
        batch = Batch(work, self.run, options, expires_at=self.ledger.clock.now() + timedelta(days=1))
        await batch.plan()
        await batch.work(Picked("again"))
        [row] = rows(self.ledger, item)
        return str(row["state"])

    def effects(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in rows(self.ledger, effect)}

    def leave_at(self, state: str) -> None:
        """What a kill between the effect and its commit leaves behind."""
        with self.ledger.engine.begin() as connection:
            connection.execute(effect.update().values(state=state, done_at=None))
            connection.execute(item.update().values(state="pending"))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Slot]:
    ledger = open_ledger(tmp_path, ManualClock())
    yield Slot(ledger, tmp_path)
    ledger.close()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def booking(desk: Desk, last: BaseException | None = None, find: str | None = None) -> Job[Any, Any]:
    """Two effects, then whatever comes last."""

    async def found() -> str | None:
        desk.asked.append("find")
        return find

    @job
    async def book(slot: str, run: Run) -> list[str]:
        async def desk_open(name: str) -> str:
            return await run.effect(name, lambda: desk.open(name), undo=desk.close, find=found)

        values = [await desk_open("room"), await desk_open("car")]
        if last is not None:
            raise last
        return values

    return book


async def test_effects_are_done_once_also_when_the_item_is_tried_again(here: Slot, desk: Desk) -> None:
    assert await here.work(booking(desk, Transient("later"))) == "retry"
    assert await here.work(booking(desk)) == "ok"
    assert desk.asked == ["open room", "open car"]
    assert rows(here.ledger, item)[0]["result"] == '["id of room","id of car"]'


async def test_when_a_later_step_refuses_all_is_undone_the_last_first(here: Slot, desk: Desk) -> None:
    assert await here.work(booking(desk, Downstream("no money"))) == "failed"
    assert desk.asked == ["open room", "open car", "close id of car", "close id of room"]
    assert desk.standing == []
    assert here.effects() == {"room": "undone", "car": "undone"}
    assert rows(here.ledger, item)[0]["error_class"] == "downstream"


async def test_what_was_undone_is_done_again_by_a_retry(here: Slot, desk: Desk) -> None:
    await here.work(booking(desk, Downstream("no money")))
    assert await here.work(booking(desk)) == "ok"
    assert desk.standing == ["room", "car"]


async def test_a_permanent_error_undoes_nothing(here: Slot, desk: Desk) -> None:
    assert await here.work(booking(desk, Permanent("no"))) == "failed"
    assert desk.standing == ["room", "car"]


async def test_a_compensation_that_fails_is_told_and_the_others_are_done_all_the_same(here: Slot, desk: Desk) -> None:
    desk.breaks_at, desk.error = "close id of car", ConnectionError("desk closed")
    assert await here.work(booking(desk, Downstream("no money"))) == "failed"
    assert desk.standing == ["car"]
    assert here.effects() == {"room": "undone", "car": "stuck"}
    assert here.run is not None
    assert here.run.notices == {
        "not_undone": ["car of greet/2026-11-22/2026-11-22 still stands: ConnectionError: desk closed"]
    }


def told(here: Slot, *found: Alarm) -> dict[str, str]:
    """What operators are told by one look at the alerts, after what a run has found."""
    schedule, now = loads('version: 1\njobs: { greet: { at: "06:00" } }\n', {}), here.ledger.clock.now()
    alarms = [*here.ledger.reading(standing, schedule, now), *found]
    return dict(here.ledger.writing(lambda connection: note_all(connection, alarms, now, timedelta(days=1))))


async def test_what_still_stands_outside_is_not_told_as_over_before_somebody_has_settled_it(
    here: Slot, desk: Desk
) -> None:
    desk.breaks_at, desk.error = "close id of car", ConnectionError("desk closed")
    await here.work(booking(desk, Downstream("no money")))
    assert here.run is not None
    found = of_run(here.run.scope, [], None, here.run.notices, [])
    assert told(here, *found) == {"not_undone:greet": "new"}
    [row] = [row for row in rows(here.ledger, alert) if row["state"] == "firing"]
    assert "car of greet/2026-11-22/2026-11-22 still stands: ConnectionError: desk closed" in row["message"]
    assert told(here) == {}, "the car still stands"
    [run] = rows(here.ledger, run_table)
    here.ledger.writing(
        lambda connection: settle_item(connection, run, "2026-11-22", "unsent", here.ledger.clock.now())
    )
    assert told(here) == {"not_undone:greet": "over"}


async def test_what_a_retry_has_undone_is_over(here: Slot, desk: Desk) -> None:
    desk.breaks_at = "close id of car"
    await here.work(booking(desk, Downstream("no money")))
    assert told(here) == {"not_undone:greet": "new"}, "also when the process died before it could tell"
    desk.breaks_at = ""
    assert await here.work(booking(desk)) == "ok"
    assert told(here) == {"not_undone:greet": "over"}


async def test_what_is_stuck_is_undone_by_a_retry_before_it_is_done_anew(here: Slot, desk: Desk) -> None:
    desk.breaks_at = "close id of car"
    await here.work(booking(desk, Downstream("no money")))
    desk.breaks_at, desk.asked = "", []
    assert await here.work(booking(desk)) == "ok"
    assert desk.asked == ["open room", "close id of car", "open car"]
    assert sorted(desk.standing) == ["car", "room"]


async def test_what_only_an_earlier_attempt_has_done_is_told_and_undone_by_the_next_that_comes_to_it(
    here: Slot, desk: Desk
) -> None:
    async def look() -> str:
        return "seen"

    refused = True

    @job
    async def book(slot: str, run: Run) -> str:
        await run.effect("room", lambda: desk.open("room"), undo=desk.close)
        if desk.standing == ["room", "car"] and refused:  # the price is asked again
            raise Downstream("no money any more")
        await run.steps.seen("price", look)
        await run.effect("note", look)
        await run.effect("car", lambda: desk.open("car"), undo=desk.close)
        raise Transient("the bank is closed", after=7200)

    assert await here.work(book) == "retry"
    assert await here.work(book) == "failed"
    assert desk.standing == ["car"]
    assert here.effects() == {"room": "undone", "price": "done", "note": "done", "car": "stuck"}
    assert here.run is not None
    assert here.run.notices == {
        "not_undone": ["car of greet/2026-11-22/2026-11-22 still stands: an earlier attempt has done it"]
    }
    refused = False
    assert await here.work(book) == "retry"
    assert desk.asked[-2:] == ["close id of car", "open car"]


async def test_an_effect_that_says_it_failed_was_not_done_and_one_that_breaks_is_unknown(
    here: Slot, desk: Desk
) -> None:
    desk.breaks_at, desk.error = "open car", Permanent("no car left")
    assert await here.work(booking(desk)) == "failed"
    assert here.effects()["car"] == "failed"
    desk.error = ConnectionError("reset")
    assert await here.work(booking(desk)) == "failed"
    assert here.effects()["car"] == "unknown"


async def test_an_unknown_effect_is_parked(here: Slot, desk: Desk) -> None:
    await here.work(booking(desk))
    here.leave_at("intent")
    assert await here.work(booking(desk)) == "unknown"
    assert desk.asked == ["open room", "open car"]
    assert here.effects()["room"] == "unknown"


async def test_an_unknown_effect_is_done_again_under_resend(here: Slot, desk: Desk) -> None:
    await here.work(booking(desk))
    here.leave_at("intent")
    assert await here.work(booking(desk), "resend") == "ok"
    assert desk.asked == ["open room", "open car"] * 2


@pytest.mark.parametrize(
    ("find", "asked"), [("id of it", ["find"] * 2), (None, ["find", "open room", "find", "open car"])]
)
async def test_an_unknown_effect_is_looked_up_under_reconcile(
    here: Slot, desk: Desk, find: str | None, asked: list[str]
) -> None:
    await here.work(booking(desk))
    here.leave_at("intent")
    desk.asked = []
    assert await here.work(booking(desk, find=find), "reconcile") == "ok"
    assert desk.asked == asked


async def test_an_undoing_that_was_cut_off_is_done_again(here: Slot, desk: Desk) -> None:
    await here.work(booking(desk))
    here.leave_at("undoing")
    desk.asked = []
    assert await here.work(booking(desk)) == "ok"
    assert desk.asked == ["close id of room", "open room", "close id of car", "open car"]


async def test_who_has_lost_the_slot_neither_does_nor_undoes(here: Slot, desk: Desk) -> None:
    @job
    async def superseded(slot: str, run: Run) -> None:
        await run.effect("room", lambda: desk.open("room"), undo=desk.close)
        begin(here.ledger)
        raise Downstream("too late")

    assert await here.work(superseded) == "pending"
    assert desk.standing == ["room"], "that is its successor's to decide"


async def test_a_rehearsal_does_nothing_outside(here: Slot, desk: Desk) -> None:
    run = run_in(here.ledger, begin(here.ledger), here.root, rehearsal=True)
    batch = Batch(booking(desk), run, Options(), expires_at=here.ledger.clock.now() + timedelta(days=1))
    await batch.plan()
    await batch.work(Picked())
    [row] = rows(here.ledger, item)
    assert (row["state"], row["reason"], desk.asked) == ("skipped", "a rehearsal does not do room", [])


async def test_an_effect_outside_of_an_item_is_a_mistake(here: Slot, desk: Desk) -> None:
    run = run_in(here.ledger, begin(here.ledger), here.root)
    with pytest.raises(RuntimeError, match="belongs into the function of an item"):
        await run.effect("room", lambda: desk.open("room"))


async def test_a_value_is_the_same_at_once_and_later(here: Slot, desk: Desk) -> None:
    seen: list[Any] = []

    @job
    async def once(slot: str, run: Run) -> None:
        seen.append(await run.effect("room", partial(desk.open, "room"), undo=desk.close))
        seen.append(await run.effect("tuple", pair))
        raise Transient("later")

    async def pair() -> Any:
        return ("a", 1)

    assert await here.work(once) == "retry"
    assert await here.work(once) == "retry"
    assert seen == ["id of room", ["a", 1]] * (len(seen) // 2)
    assert desk.asked == ["open room"]


async def test_what_cannot_be_stored_was_done_all_the_same(here: Slot, desk: Desk) -> None:
    async def strange() -> Any:
        desk.asked.append("strange")
        return object()

    @job
    async def once(slot: str, run: Run) -> None:
        await run.effect("room", strange)

    assert await here.work(once) == "failed"
    assert here.effects() == {"room": "done"}
    assert await here.work(once) == "ok"
    assert desk.asked == ["strange"]
