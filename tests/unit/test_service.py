"""The dispatcher, round by round on a clock of the test: what it starts, what it notes, and whom it tells."""

import asyncio
import dataclasses
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Connection, event

from overnight import upkeep
from overnight.alerts import Alarm, firing
from overnight.batch import Picked
from overnight.clock import SystemClock
from overnight.dispatcher import Dispatcher
from overnight.errors import ConfigError, Refused
from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.controls import alert, notice
from overnight.ledger.runs import close_run, held_leases, owed_reports, renew, reports_made
from overnight.ledger.tables import item, lease, occurrence, run
from overnight.ledger.turn import turn
from overnight.liveness import HOST, RENEW_EVERY, slot_lock
from overnight.occurrences import Claim, Decision, claim, pause_listed, set_pause
from overnight.redact import Redactor
from overnight.runner import Request, Result, Workplace, run_slot
from overnight.schedule import Schedule, Watch, load
from overnight.schedule.watch import in_force, keep
from overnight.service import _keep as keep_copy
from overnight.service import serve, tick
from overnight.upkeep import Upkeep
from tests.slots import NOW, SLOT, ManualClock, begin, rows

NIGHT = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
FAR = datetime(2027, 1, 1, tzinfo=UTC)
JOB = "from overnight import job\n\n@job\nasync def {name}(slot, run):\n    pass\n"


@dataclass(slots=True)
class Recorded(Dispatcher):
    """A dispatcher whose runs are over at once; `started` are their arguments."""

    started: list[tuple[str, str]] = field(default_factory=list)
    busy: bool = False

    async def _child(self, job: str, slot: str, arguments: Sequence[str]) -> None:
        del arguments
        self.started.append((job, slot))
        mine = lease.update().where(lease.c.job == job, lease.c.slot == slot)
        if self.busy:  # it goes on and on
            far = mine.values(until=FAR, host="elsewhere")
            await self.work.ledger.write(lambda connection: connection.execute(far))
        else:
            await self.work.ledger.write(
                lambda connection: connection.execute(
                    occurrence.update().where(occurrence.c.job == job, occurrence.c.slot == slot).values(state="ran")
                )
            )
            await self.work.ledger.write(lambda connection: connection.execute(mine.values(until=None)))


@dataclass
class Place:
    """A project whose schedule is edited and looked at."""

    root: Path
    clock: ManualClock
    ledger: Ledger
    dispatcher: Recorded | None = None

    def write(self, *jobs: str, also: str = "") -> None:
        """Write schedule.yaml with these entries, as an operator would, and take it up."""
        text = f"version: 1\ntimezone: UTC\n{also}jobs:\n" + "".join(f"  {entry}\n" for entry in jobs)
        (self.root / "schedule.yaml").write_text(text, encoding="utf-8")
        for entry in jobs:
            name = entry.partition(":")[0]
            (self.root / "jobs" / f"{name}.py").write_text(JOB.format(name=name), encoding="utf-8")
        schedule = load(self.root / "schedule.yaml")
        work = Workplace(self.root, schedule, self.ledger, self.clock, Redactor(frozenset()))
        if self.dispatcher is None:
            self.dispatcher = Recorded(work)
        self.dispatcher.work = work

    async def look(self, at: datetime) -> list[tuple[str, str]]:
        """One round at this time; returns what it started."""
        assert self.dispatcher is not None
        self.clock.at = at
        before = len(self.dispatcher.started)
        await self.dispatcher.look()
        await asyncio.gather(*self.dispatcher.children)
        await self.dispatcher.upkeep.beside.settle()
        return self.dispatcher.started[before:]

    def occurrences(self, job: str) -> list[tuple[str, str]]:
        found = rows(self.ledger, occurrence, job=job)
        return [(row["slot"], row["state"]) for row in sorted(found, key=lambda row: row["scheduled_for"])]

    def alerts(self) -> list[str]:
        return [row["message"] for row in rows(self.ledger, alert)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "jobs").mkdir()
    clock = ManualClock(NIGHT)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    yield Place(tmp_path, clock, ledger)
    ledger.close()


def at(hour: int, minute: int = 0, day: int = 22) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


async def test_a_job_runs_once_however_often_one_looks(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    assert await place.look(at(0)) == []
    assert await place.look(at(7)) == [("daily", "2026-11-22")]
    assert [await place.look(at(7, minute)) for minute in range(1, 5)] == [[], [], [], []]
    assert place.occurrences("daily") == [("2026-11-22", "ran")]


async def test_a_machine_that_slept_catches_up_with_the_latest_and_names_the_rest(place: Place) -> None:
    place.write('daily: { at: "07:00", max_age: 6h }')
    await place.look(at(0))
    assert await place.look(at(9, day=25)) == [("daily", "2026-11-25")]
    assert place.occurrences("daily") == [
        ("2026-11-22", "missed"), ("2026-11-23", "missed"), ("2026-11-24", "missed"), ("2026-11-25", "ran"),
    ]  # fmt: skip
    assert ["overnight run daily --slot 2026-11-2" in message for message in place.alerts()] == [True]


async def test_a_clock_stepped_back_runs_nothing_twice(place: Place) -> None:
    place.write('daily: { at: "07:00" }', "often: { every: 1h }")
    await place.look(at(6, 30))
    assert len(await place.look(at(7))) == 2
    assert await place.look(at(4)) == []
    hours = [await place.look(at(hour)) for hour in (5, 6, 7)]
    assert hours == [[("often", "2026-11-22T05:00Z")], [("often", "2026-11-22T06:00Z")], []]
    assert await place.look(at(8)) == [("often", "2026-11-22T08:00Z")]


async def test_a_clock_stepped_forth_and_back_loses_no_later_day(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert await place.look(at(7, 1, day=24)) == [("daily", "2026-11-24")]
    days = [await place.look(at(7, day=day)) for day in (22, 23, 24)]
    assert days == [[("daily", "2026-11-22")], [("daily", "2026-11-23")], []], "what was run is not run again"
    assert await place.look(at(7, day=25)) == [("daily", "2026-11-25")]
    assert place.occurrences("daily") == [(f"2026-11-{day}", "ran") for day in (22, 23, 24, 25)]


async def test_a_job_that_was_added_while_the_clock_was_ahead_counts_from_when_it_is_right(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(datetime(2027, 11, 22, tzinfo=UTC))
    assert await place.look(at(8)) == [], "no back-dated mail"
    assert any("it counted only from 2027-11-22T00:00:00" in message for message in place.alerts())
    assert await place.look(at(7, day=23)) == [("daily", "2026-11-23")]


async def test_what_was_left_out_or_waited_while_the_clock_was_ahead_is_decided_anew(place: Place) -> None:
    place.write('daily: { at: "07:00", max_age: 3h }', "often: { every: 6h, overlap: queue }")
    await place.look(at(1))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    assert await place.look(at(6)) == [("often", "2026-11-22T06:00Z")]
    assert await place.look(at(13)) == []
    assert (place.occurrences("daily"), waiting(place, "often")) == ([("2026-11-22", "missed")], ["2026-11-22T12:00Z"])
    assert await place.look(at(9)) == [("daily", "2026-11-22")]
    assert place.occurrences("often") == [("2026-11-22T06:00Z", "claimed")]
    assert any("what was left out then is decided anew (1)" in message for message in place.alerts())


class Set(ManualClock):
    """A wall clock that somebody sets; by the other one minutes pass."""

    passed = 0.0

    def monotonic(self) -> float:
        self.passed += 60
        return self.passed


async def test_who_was_run_for_a_time_that_is_still_to_come_is_an_alert_until_then(place: Place) -> None:
    def state() -> list[str]:
        return [row["state"] for row in rows(place.ledger, alert) if row["rule"] == "ahead"]

    place.clock = Set(NIGHT)
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert await place.look(at(8, day=25)) == [("daily", "2026-11-25")]
    assert [(await place.look(at(7, 30, day=day)), state()) for day in (22, 23)] == [
        ([("daily", "2026-11-22")], ["firing"]), ([("daily", "2026-11-23")], ["firing"]),
    ]  # fmt: skip
    assert any("daily of 2026-11-25 was run while the clock was ahead" in message for message in place.alerts())
    await place.look(at(7, 30, day=24))
    assert (await place.look(at(7, 30, day=25)), state()) == ([], ["resolved"])


async def test_clocks_that_differ_by_a_minute_change_nothing_that_was_decided(place: Place) -> None:
    place.write('daily: { at: "07:00", catch_up: none }')
    await place.look(at(0))
    await place.look(at(7, 3))
    assert place.occurrences("daily") == [("2026-11-22", "missed")]
    assert await place.look(at(7, 1)) == []
    assert place.occurrences("daily") == [("2026-11-22", "missed")]


async def test_an_edited_entry_sends_no_back_dated_mail(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    await place.look(at(7))
    place.write('daily: { at: "06:00" }')
    assert await place.look(at(8)) == []
    assert await place.look(at(6, day=23)) == [("daily", "2026-11-23")]


async def test_an_entry_moved_to_later_on_the_same_day_does_not_run_the_day_twice(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    await place.look(at(7))
    place.write('daily: { at: "09:00" }')
    assert await place.look(at(8)) == []
    await place.look(at(9))
    assert [slot for slot, state in place.occurrences("daily") if state == "ran"].count("2026-11-22") <= 2
    assert len(rows(place.ledger, occurrence, job="daily")) <= 2


async def test_an_entry_that_was_off_is_not_made_up_for(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    place.write('daily: { at: "07:00", enabled: false }')
    assert await place.look(at(7)) == []
    place.write('daily: { at: "07:00" }')
    assert await place.look(at(8)) == []
    assert await place.look(at(7, day=23)) == [("daily", "2026-11-23")]


async def test_after_waits_for_the_other_job_of_the_same_day(place: Place) -> None:
    place.write('nightly: { at: "02:00" }', 'digest: { at: "08:00", after: nightly }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    assert await place.look(at(2)) == [("nightly", "2026-11-22")]
    assert await place.look(at(8)) == []
    place.ledger.writing(lambda connection: connection.execute(occurrence.update().values(state="ran")))
    assert await place.look(at(8, 30)) == [("digest", "2026-11-22")]


async def test_after_waits_also_for_one_that_comes_later_that_day(place: Place) -> None:
    place.write('nightly: { at: "09:00" }', 'digest: { at: "08:00", after: nightly }')
    await place.look(at(0))
    assert await place.look(at(8)) == []
    started = [*await place.look(at(9)), *await place.look(at(9, 1))]
    assert started == [("nightly", "2026-11-22"), ("digest", "2026-11-22")]


async def test_after_does_not_wait_on_a_day_on_which_the_other_job_has_no_occurrence(place: Place) -> None:
    place.write('nightly: { cron: "0 9 * * 1" }', 'digest: { at: "08:00", after: nightly }')
    await place.look(at(0))
    assert at(0).strftime("%A") == "Sunday"
    assert await place.look(at(8)) == [("digest", "2026-11-22")]
    assert await place.look(at(8, day=23)) == []


async def test_after_does_not_wait_for_a_job_that_is_off(place: Place) -> None:
    place.write('nightly: { at: "09:00", enabled: false }', 'digest: { at: "08:00", after: nightly }')
    await place.look(at(0))
    assert await place.look(at(8)) == [("digest", "2026-11-22")]


async def test_who_comes_after_one_that_waits_itself_waits_for_it_too(place: Place) -> None:
    place.write('c: { at: "01:00" }', 'b: { at: "02:00", after: c }', 'a: { at: "03:00", after: b, max_age: 2h }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    assert await place.look(at(1)) == [("c", "2026-11-22")]
    assert [await place.look(at(hour)) for hour in (2, 3)] == [[], []]
    place.ledger.writing(lambda connection: connection.execute(occurrence.update().values(state="ran")))
    assert await place.look(at(4)) == [("b", "2026-11-22")]
    assert await place.look(at(4, 1)) == []
    assert await place.look(at(5, 1)) == []
    [row] = rows(place.ledger, occurrence, job="a")
    assert (row["state"], row["reason"]) == ("missed", "b was not over within max_age (2:00:00)")


async def test_who_waited_too_long_is_missed_and_says_for_whom(place: Place) -> None:
    place.write('nightly: { at: "02:00" }', 'digest: { at: "08:00", after: nightly, max_age: 1h }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(2))
    assert [await place.look(at(8, minute)) for minute in (0, 30)] == [[], []]
    assert await place.look(at(9, 1)) == []
    assert place.occurrences("digest") == [("2026-11-22", "missed")]
    assert any("nightly was not over within max_age (1:00:00)" in message for message in place.alerts())


async def test_what_was_due_before_an_edit_and_nobody_saw_has_a_row_a_reason_and_an_alert(place: Place) -> None:
    place.write('daily: { at: "02:00" }')
    await place.look(at(0))
    place.write('daily: { at: "20:00" }')
    assert await place.look(at(9)) == []
    assert place.occurrences("daily") == [("2026-11-22", "missed")]
    assert any("due by `cron UTC 0 2 * * *`, and the entry was edited before anybody" in one for one in place.alerts())
    assert await place.look(at(20)) == [("daily", "2026-11-22")]


@pytest.mark.parametrize("after", ["other: { every: 1d }", 'daily: { at: "02:00", enabled: false }'])
async def test_what_was_due_before_its_job_was_taken_out_has_a_row_too(place: Place, after: str) -> None:
    place.write('daily: { at: "02:00" }')
    await place.look(at(0))
    place.write(after)
    assert await place.look(at(9)) == []
    assert place.occurrences("daily") == [("2026-11-22", "skipped")]
    assert await place.look(at(10)) == []
    assert place.occurrences("daily") == [("2026-11-22", "skipped")]


async def test_a_run_for_some_items_between_an_interrupted_one_and_its_rest_changes_nothing(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(6))
    scope = begin(place.ledger, "daily", scheduled_for=at(7))
    claimed = {"job": "daily", "slot": "2026-11-22", "id": "o", "scheduled_for": at(7), "noted_at": at(7)}
    row = occurrence.insert().values(state="claimed", run_id=scope.run_id, **claimed)
    await place.ledger.write(lambda connection: connection.execute(row))
    await place.ledger.write(lambda connection: close_run(connection, scope, "interrupted", None, at(7)))
    for status in ("ok", "interrupted"):
        some = begin(place.ledger, "daily", partial=True, scheduled_for=at(7))
        await place.ledger.write(lambda c, some=some, status=status: close_run(c, some, status, None, at(7)))
        assert place.occurrences("daily") == [("2026-11-22", "claimed")]
    assert await place.look(at(7, 1)) == [("daily", "2026-11-22")]
    assert place.occurrences("daily") == [("2026-11-22", "ran")]


async def test_a_run_whose_end_cannot_be_noted_is_over_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        pid, returncode = 1, 2

        async def wait(self) -> int:
            return 2

    async def process(*_command: str, **_settings: Any) -> Ended:
        return Ended()

    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    monkeypatch.setattr(asyncio, "create_subprocess_exec", process)
    dispatcher = Dispatcher(place.dispatcher.work)
    place.ledger.faults.found = LedgerFault("full", "the disk is full")
    dispatcher.start("daily", "2026-11-22")
    assert await dispatcher.settle() == [2]


class Begun:
    """A process that has ended well."""

    pid, returncode = 1, 0

    async def wait(self) -> int:
        return 0


def begins(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[tuple[str, ...]]:
    """Let processes begin, or fail to; returns the commands."""
    commands: list[tuple[str, ...]] = []

    async def process(*command: str, **_settings: Any) -> Begun:
        commands.append(command)
        if error is not None:
            raise error
        return Begun()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", process)
    return commands


BROKEN = [OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.ENOMEM, errno.ENOENT)]


@pytest.mark.parametrize("error", [*BROKEN, RuntimeError("can't start new thread")], ids=lambda one: str(one.args[-1]))
async def test_a_run_whose_process_cannot_be_begun_is_told_and_tried_again_but_not_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert place.dispatcher is not None
    dispatcher, place.clock.at = Dispatcher(place.dispatcher.work), at(7)
    commands, why = begins(monkeypatch, error), str(error.args[-1])
    await dispatcher.look()
    assert await dispatcher.settle() == [1]
    for _ in range(3):  # as the end of each wakes it
        await dispatcher.look()
        await dispatcher.settle()
    assert len(commands) == 1
    [row] = rows(place.ledger, run)
    assert (row["status"], row["reason"]) == ("interrupted", f"its process could not be begun: {why}")
    [told] = [one for one in rows(place.ledger, alert) if one["rule"] == "unbegun"]
    assert (told["state"], why in told["message"]) == ("firing", True)
    assert place.occurrences("daily") == [("2026-11-22", "claimed")]
    for minute in range(1, 6):  # the machine is in trouble for longer than a crash loop would be borne
        place.clock.at = at(7, minute)
        await dispatcher.look()
        await dispatcher.settle()
    assert len(commands) == 6
    commands = begins(monkeypatch, None)
    place.clock.at = at(7, 6)
    await dispatcher.look()
    assert await dispatcher.settle() == [0]
    assert [command[-4:] for command in commands] == [("--slot", "2026-11-22", "--sweep", "rest")]


async def test_what_cannot_be_begun_within_max_age_is_given_up_with_an_alert(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write('daily: { at: "07:00", max_age: 3h }')
    await place.look(at(0))
    assert place.dispatcher is not None
    dispatcher, place.clock.at = Dispatcher(place.dispatcher.work), at(7)
    monkeypatch.setattr(sys, "executable", "/gone/python")
    for hour in (7, 9, 11):
        place.clock.at = at(hour)
        await dispatcher.look()
        await dispatcher.settle()
    assert place.occurrences("daily") == [("2026-11-22", "ran")]
    assert any("the rest of daily 2026-11-22 is older than max_age" in message for message in place.alerts())


async def test_a_run_that_was_asked_for_at_the_page_and_cannot_be_begun_is_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    monkeypatch.setattr(sys, "executable", "/gone/python")
    dispatcher = Dispatcher(place.dispatcher.work)
    assert await dispatcher.start("daily", "2026-11-22", "--slot", "2026-11-22", "--as", "r_1") == 1
    assert any("see to /gone/python: install overnight there again" in message for message in place.alerts())


TAKEN_OUT, PAUSED = "the job was taken out of schedule.yaml", "the job is paused: holiday"
DISABLED = "the job has enabled: false"


async def _left_by(place: Place, how: str, *, died: bool = True) -> None:
    """A run of `often` has begun and died, or was interrupted, and its job is then taken out or paused."""
    _with_report(place)
    place.write("often: { every: 6h }", 'daily: { at: "07:00" }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    assert await place.look(at(6)) == [("often", "2026-11-22T06:00Z")]
    if how == PAUSED:
        place.ledger.writing(lambda connection: set_pause(connection, "often", at(6), "holiday", at(6)))
    else:
        rest = ["often: { every: 6h, enabled: false }"] if how == DISABLED else []
        place.write(*rest, 'daily: { at: "07:00" }')
    until = NIGHT if died else None
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=until)))
    if not died:
        place.ledger.writing(lambda connection: connection.execute(run.update().values(status="interrupted")))


@pytest.mark.parametrize("why", [TAKEN_OUT, DISABLED, PAUSED])
async def test_a_dead_run_of_a_job_gone_disabled_or_paused_is_closed_reported_and_told(place: Place, why: str) -> None:
    await _left_by(place, why)
    assert await place.look(at(6, 1)) == []
    [row] = rows(place.ledger, run, job="often")
    assert (row["status"], row["reason"]) == ("interrupted", f"its process died, and {why}")
    [of] = rows(place.ledger, occurrence, job="often")
    assert (of["state"], of["reason"]) == ("ran", f"nobody goes on with it: {why}")
    assert place.ledger.reading(held_leases) == []
    made = place.root / "var/reports/report=slots/date=2026-11-22/slots-2026-11-22.csv"
    assert "often,2026-11-22T06:00Z" in made.read_text(encoding="utf-8")
    told = left(place)
    assert told == [("firing", "often/2026-11-22T06:00Z", 1)]
    assert any(f"{why}; to go on with it: overnight resume {row['id']}" in message for message in place.alerts())
    for minute in (2, 3, 4):
        await place.look(at(6, minute))
    assert left(place) == told, "once, also when alerts of jobs that are gone end"


@pytest.mark.parametrize("ends", ["it is taken up", "a day passes"])
async def test_the_alert_of_what_was_left_is_over_when_it_is_taken_up_or_after_a_day(place: Place, ends: str) -> None:
    await _left_by(place, TAKEN_OUT)
    await place.look(at(6, 1))
    if ends == "it is taken up":
        begin(place.ledger, "often", "2026-11-22T06:00Z", host=HOST, pid=os.getpid())
    await place.look(at(6, 1) + (timedelta(seconds=30) if ends == "it is taken up" else timedelta(days=1)))
    assert [state for state, _, _ in left(place)] == ["resolved"]


async def test_what_was_interrupted_is_left_when_its_job_is_gone_and_waits_for_the_end_of_a_pause(place: Place) -> None:
    await _left_by(place, PAUSED, died=False)
    assert await place.look(at(6, 1)) == []
    assert (place.occurrences("often"), left(place)) == ([("2026-11-22T06:00Z", "claimed")], [])
    place.write('daily: { at: "07:00" }')
    assert await place.look(at(6, 2)) == []
    assert place.occurrences("often") == [("2026-11-22T06:00Z", "ran")]
    assert left(place) == [("firing", "often/2026-11-22T06:00Z", 1)]


async def test_a_rehearsal_that_died_is_closed_without_a_word(place: Place) -> None:
    place.write("often: { every: 6h }")
    await place.look(at(0))
    begin(place.ledger, "often", f"{SLOT}~abc", host=HOST, rehearsal=True)
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=NIGHT)))
    await place.look(at(1))
    [row] = rows(place.ledger, run)
    assert (row["status"], row["reason"]) == ("interrupted", "its process died, and it was a rehearsal")
    assert place.alerts() == []


def left(place: Place) -> list[tuple[str, str, int]]:
    """State, scope and times of each alert about what nobody goes on with."""
    return [(row["state"], row["scope"], row["times"]) for row in rows(place.ledger, alert) if row["rule"] == "left"]


async def test_a_look_reads_only_what_is_open_however_much_there_is(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert place.dispatcher is not None
    await place.dispatcher.settle()  # what is done once a day may read more
    asked: dict[str, Any] = {}
    engine = place.ledger.engine
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, values, *_: asked.setdefault(sql, values))
    await place.look(at(1))
    with closing(engine.raw_connection()) as connection:
        plans = {
            sql: [row[3] for row in connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            for sql, values in asked.items()
            if sql.startswith("SELECT")
        }
    growing = tuple(f"SCAN {table}" for table in ("item", "call", "effect", "occurrence", "lease", "run", "slot"))
    open_only = ("occurrence_unsettled", "item_due", "effect_unknown", "effect_stuck", "slot_in_doubt")
    read = {line: sql for sql, lines in plans.items() for line in lines if line.startswith(growing)}
    assert len(plans) > 5
    assert {line: sql for line, sql in read.items() if not line.endswith(open_only)} == {}


async def test_schedulers_that_look_at_different_times_see_every_minute_once(place: Place) -> None:
    place.write("often: { every: 1m, catch_up: all, max_age: 1d }")
    await place.look(at(0))
    times = [at(0) + timedelta(minutes=minutes) for minutes in (1, 2, 2, 7, 5, 9, 8, 30)]
    for each in times:
        await place.look(each)
    assert place.dispatcher is not None
    while await place.dispatcher.take_queued():
        await place.dispatcher.settle()
    started = place.dispatcher.started
    assert len(started) == len(set(started)) == 30


REPORT = """from pandas import DataFrame
from overnight.report import report

@report({"job": "text", "slot": "text"})
def slots(day):
    return day.query("SELECT job, slot FROM slot WHERE day = :day")
"""


def _with_report(place: Place) -> None:
    (place.root / "reports").mkdir()
    (place.root / "reports" / "__init__.py").touch()
    (place.root / "reports" / "slots.py").write_text(REPORT, encoding="utf-8")


async def _owing(place: Place) -> None:
    """A project with one report, and a process that has closed a run and died."""
    _with_report(place)
    place.write('daily: { at: "07:00" }')
    scope = begin(place.ledger, "daily")
    await place.ledger.write(lambda connection: close_run(connection, scope, "ok", None, NIGHT))


async def test_reports_that_a_dead_process_owed_are_made_up_for_once(place: Place) -> None:
    await _owing(place)
    made = place.root / "var/reports/report=slots/date=2026-11-22/slots-2026-11-22.csv"
    await place.look(at(3))
    assert made.read_text(encoding="utf-8") == "job,slot\ndaily,2026-11-22\n"
    made.unlink()
    await place.look(at(4))
    assert not made.exists()


async def test_a_report_for_which_the_disk_has_no_room_stays_owed(place: Place) -> None:
    await _owing(place)
    spool = place.root / "var/spool"
    spool.mkdir(parents=True)
    (spool / ".adding").mkdir()  # a spool that takes nothing, also for root
    await place.look(at(3))
    (spool / ".adding").rmdir()
    await place.look(at(3, 11))
    assert (place.root / "var/reports/latest/slots.csv").exists()


@pytest.mark.parametrize("bug", ["1 / 0\n", REPORT.replace("return day", "return 1 / 0 or day")])
async def test_a_report_that_cannot_be_made_is_told_and_made_once_it_is_mended(place: Place, bug: str) -> None:
    await _owing(place)
    other = place.root / "reports" / "other.py"
    other.write_text(bug.replace("slots(", "other("), encoding="utf-8")
    await place.look(at(3))
    [told] = [row["message"] for row in place.ledger.reading(firing) if row["rule"] == "reports"]
    assert told.startswith("reports could not be made: other")
    assert "ZeroDivisionError" in told
    made = place.root / "var/reports/latest"
    assert [path.name for path in made.iterdir()] == ["slots.csv"], "one that is broken stops only itself"
    other.write_text(REPORT.replace("slots(", "other("), encoding="utf-8")
    await place.look(at(3, 1))
    assert not (made / "other.csv").exists(), "not each minute: a bug lasts, and everything is made anew"
    await place.look(at(3, 11))
    assert (made / "other.csv").exists()
    assert not [row for row in place.ledger.reading(firing) if row["rule"] == "reports"]


async def test_what_is_owed_once_more_while_it_is_made_stays_owed(place: Place) -> None:
    scope = begin(place.ledger, "daily")
    close = lambda connection: close_run(connection, scope, "ok", None, NIGHT)  # noqa: E731
    await place.ledger.write(close)
    owed = await place.ledger.read(owed_reports)
    await place.ledger.write(close)
    await place.ledger.write(lambda connection: reports_made(connection, owed))
    assert list(await place.ledger.read(owed_reports)) == ["2026-11-22"]


async def test_what_another_scheduler_is_sweeping_is_left_to_it(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    scope = begin(place.ledger, "daily")  # its lease is held
    later = {"seq": 1, "key": "k", "state": "retry", "payload": "0", "next_at": at(0), "expires_at": FAR}
    await place.ledger.write(
        lambda connection: connection.execute(item.insert().values(job="daily", slot=scope.slot, **later))
    )
    await place.ledger.write(lambda connection: connection.execute(lease.update().values(host="elsewhere", until=FAR)))
    assert await place.look(at(1)) == []
    await place.ledger.write(lambda connection: connection.execute(lease.update().values(until=None)))
    assert await place.look(at(2)) == [("daily", scope.slot)]


async def test_deferred_items_of_a_disabled_job_wait_until_it_is_enabled_again(place: Place) -> None:
    scope = begin(place.ledger, "daily")
    later = {"seq": 1, "key": "k", "state": "retry", "payload": "0", "next_at": at(0), "expires_at": FAR}
    await place.ledger.write(
        lambda connection: connection.execute(item.insert().values(job="daily", slot=scope.slot, **later))
    )
    await place.ledger.write(lambda connection: connection.execute(lease.update().values(until=None)))
    place.write('daily: { at: "07:00", enabled: false }')
    assert await place.look(at(1)) == []
    place.write('daily: { at: "07:00" }')
    assert await place.look(at(2)) == [("daily", scope.slot)]


def waiting(place: Place, job: str) -> list[str]:
    return [slot for slot, state in place.occurrences(job) if state == "queued"]


async def test_a_job_taken_out_while_it_runs_ends_and_nothing_more_of_it_is_started(place: Place) -> None:
    entry = "often: { every: 1h, overlap: queue }"
    place.write(entry, 'daily: { at: "07:00" }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    assert await place.look(at(1)) == [("often", "2026-11-22T01:00Z")]
    assert await place.look(at(2)) == []
    assert waiting(place, "often") == ["2026-11-22T02:00Z"]
    place.write('daily: { at: "07:00" }')
    assert await place.look(at(3)) == []
    states = dict(place.occurrences("often"))
    assert states == {"2026-11-22T01:00Z": "claimed"} | {f"2026-11-22T0{hour}:00Z": "skipped" for hour in (2, 3)}
    [row] = rows(place.ledger, occurrence, job="often", slot="2026-11-22T02:00Z")
    assert row["reason"] == "the job was taken out of schedule.yaml while it waited"
    place.write(entry, 'daily: { at: "07:00" }')
    assert await place.look(at(3, 30)) == [], "what waited then is not run when it comes back"


async def test_a_job_that_is_switched_off_gives_up_what_waits(place: Place) -> None:
    place.write("often: { every: 1h, overlap: queue }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    await place.look(at(2))
    place.write("often: { every: 1h, overlap: queue, enabled: false }")
    place.dispatcher.busy = False
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=None)))
    assert ("often", "2026-11-22T02:00Z") not in await place.look(at(3))
    assert waiting(place, "often") == []


@pytest.mark.parametrize("reason", [None, "replaced by 2026-11-22T02:00Z", "cancelled by hand"])
async def test_a_run_that_died_after_it_was_replaced_or_cancelled_is_not_gone_on_with(
    place: Place, reason: str | None
) -> None:
    place.write("often: { every: 1h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    state = "ran" if reason else "claimed"
    place.ledger.writing(lambda connection: connection.execute(occurrence.update().values(state=state, reason=reason)))
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=NIGHT)))
    gone_on = await place.look(at(1, 1))
    assert gone_on == ([] if reason else [("often", "2026-11-22T01:00Z")])


async def test_a_dispatcher_that_is_asked_to_end_takes_nothing_more(place: Place) -> None:
    place.write('daily: { at: "07:00" }', "often: { every: 1h, overlap: queue }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.stop()
    assert await place.look(at(7)) == []
    assert not await place.dispatcher.take_queued()
    assert (place.occurrences("daily"), place.occurrences("often")) == ([], []), "the next start finds them due"
    assert rows(place.ledger, run) == []


async def test_after_a_long_absence_runs_that_live_have_time_to_say_so(place: Place) -> None:
    place.write("often: { every: 1h }")
    await place.look(at(0))
    await place.look(at(0, 1))
    assert place.clock.slept == []
    await place.look(at(8))
    assert place.clock.slept == [RENEW_EVERY], "the machine was asleep: no lease could be renewed"
    await place.look(at(5))
    await place.look(at(5, 1))
    assert place.clock.slept == [RENEW_EVERY], "a clock set back makes no lease look old"


async def test_a_child_that_let_its_lease_run_out_is_ended_and_one_that_keeps_it_is_not(place: Place) -> None:
    place.write("often: { every: 1h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    child = await asyncio.create_subprocess_exec("sleep", "60")
    place.dispatcher.processes.of[child] = ("often", "2026-11-22T01:00Z")

    async def look_with(until: datetime) -> None:
        values = {"until": until, "pid": child.pid, "host": HOST}
        await place.ledger.write(lambda connection: connection.execute(lease.update().values(values)))
        await place.look(at(1, 1))

    await look_with(at(1, 2))
    assert child.returncode is None
    await look_with(at(1, 1))
    assert await child.wait() == -signal.SIGKILL


STOPS_IN_A_TRANSACTION = """import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


async def test_a_run_that_was_stopped_while_it_wrote_is_ended_alone_and_the_other_jobs_are_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("often: { every: 1h }", "other: { every: 1h }", "late: { every: 2h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    monkeypatch.setattr("overnight.ledger.BUSY_SECONDS", 2)
    place.ledger.engine.dispose()  # its next connection waits no longer than that
    slots = {"often": "2026-11-22T01:00Z", "other": "2026-11-22T01:00Z"}
    file, piped = str(place.ledger.engine.url.database), asyncio.subprocess.PIPE
    waits = await asyncio.create_subprocess_exec("sleep", "60")
    for_lock = lease.update().where(lease.c.job == "other").values(until=at(2), pid=waits.pid, host=HOST)
    stopped = await asyncio.create_subprocess_exec(sys.executable, "-c", STOPS_IN_A_TRANSACTION, file, stdout=piped)
    held = lease.update().where(lease.c.job == "often").values(until=at(2), pid=stopped.pid, host=HOST)
    place.ledger.writing(lambda connection: [connection.execute(one) for one in (held, for_lock)])
    assert stopped.stdout is not None
    assert await stopped.stdout.readline() == b"locked\n"
    await asyncio.to_thread(os.waitid, os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)

    class Renewed(ManualClock):
        async def sleep(self, seconds: float) -> None:
            renewing = lease.update().where(lease.c.job == "other").values(until=FAR)
            await place.ledger.write(lambda connection: connection.execute(renewing))
            await ManualClock.sleep(self, seconds)

    for child, job in ((stopped, "often"), (waits, "other")):
        place.dispatcher.processes.of[child] = (job, slots[job])
    place.dispatcher.work = dataclasses.replace(place.dispatcher.work, clock=Renewed(at(2)))
    place.dispatcher.looked_at = at(1, 59)
    await place.dispatcher.look()
    assert await stopped.wait() == -signal.SIGKILL
    assert waits.returncode is None, "it could not renew its lease while the other one kept the lock"
    assert ("late", "2026-11-22T02:00Z") in place.dispatcher.started
    waits.kill()
    await waits.wait()


ENDED = """import os
from overnight import job

@job(items=lambda run: ["a", "b"], concurrency=1)
async def daily(item: str, run) -> None:
    os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_run_by_hand_that_its_machine_has_ended_is_gone_on_with_and_one_that_a_person_has_is_not(
    place: Place, number: signal.Signals
) -> None:
    place.write('daily: { at: "07:00", max_age: 2d }')
    await place.look(at(0))
    assert place.dispatcher is not None
    (place.root / "jobs" / "daily.py").write_text(ENDED.format(number=int(number)), encoding="utf-8")
    place.clock.at = at(6)
    result = await run_slot(place.dispatcher.work, Request("daily", "2026-11-21"))
    assert (result.status, result.slot_items["pending"]) == ("interrupted", 1)
    gone_on = [] if number == signal.SIGINT else [("daily", "2026-11-21")]
    assert await place.look(at(6, 1)) == gone_on
    assert await place.look(at(7)) == [("daily", "2026-11-22")]


@pytest.mark.parametrize("only", [frozenset(), frozenset("a")], ids=["all of it", "one item"])
async def test_a_person_who_ends_a_run_of_an_occurrence_ends_the_occurrence_unless_it_was_for_some_items(
    place: Place, only: frozenset[str]
) -> None:
    place.write('daily: { at: "07:00", max_age: 2d }')
    await place.look(at(0))
    assert place.dispatcher is not None
    place.clock.at = at(6)
    asked = 'int((run.root / "number").read_text())'
    (place.root / "jobs" / "daily.py").write_text(ENDED.format(number=asked), encoding="utf-8")
    for number in (signal.SIGTERM, signal.SIGINT):
        (place.root / "number").write_text(str(int(number)))
        if number == signal.SIGINT:
            place.ledger.writing(lambda c: c.execute(item.update().values(state="pending")))
        picked = Picked(only=only if number == signal.SIGINT else frozenset())
        result = await run_slot(place.dispatcher.work, Request("daily", "2026-11-21", picked=picked))
        assert result.status == "interrupted"
    assert place.occurrences("daily") == [("2026-11-21", "claimed" if only else "ran")]
    assert await place.look(at(6, 1)) == ([("daily", "2026-11-21")] if only else [])


async def test_what_a_scheduler_has_given_up_and_a_person_has_begun_is_gone_on_with(place: Place) -> None:
    place.write('daily: { at: "07:00", max_age: 2d }')
    await place.look(at(0))
    assert place.dispatcher is not None
    (place.root / "jobs" / "daily.py").write_text(ENDED.format(number=int(signal.SIGTERM)), encoding="utf-8")
    row = {"job": "daily", "slot": "2026-11-21", "id": "o", "scheduled_for": at(7, day=21), "noted_at": at(0)}
    place.ledger.writing(lambda c: c.execute(occurrence.insert().values(state="missed", reason="why", **row)))
    place.clock.at = at(6)
    assert (await run_slot(place.dispatcher.work, Request("daily", "2026-11-21"))).status == "interrupted"
    assert place.occurrences("daily") == [("2026-11-21", "claimed")]
    assert await place.look(at(6, 1)) == [("daily", "2026-11-21")]


async def test_an_audience_of_nobody_is_a_run_like_any_other(tmp_path: Path) -> None:
    result = await run_in(tmp_path, "items=lambda run: []", "pass")
    assert (result.status, result.items["total"], sum(result.slot_items.values())) == ("ok", 0, 0)


class Stepped(ManualClock):
    """A wall clock that somebody sets; the other one goes on."""

    def monotonic(self) -> float:
        return 1000.0


@pytest.mark.parametrize("hours", [-3, 3, -24, 24])
async def test_a_clock_that_is_set_during_a_run_changes_no_duration_and_no_slot(tmp_path: Path, hours: int) -> None:
    clock = Stepped(NIGHT + timedelta(hours=7))
    body = f"run.clock.move({hours} * 3600) if item == 'b' else None"
    result = await run_in(tmp_path, "items=lambda run: ['a', 'b', 'c'], concurrency=1", body, clock)
    assert (result.status, result.slot, result.items["ok"], result.duration_s) == ("ok", "2026-11-22", 3, 0)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    assert {row["duration_ms"] for row in rows(ledger, item)} == {0}
    assert [(row["day"], row["status"]) for row in rows(ledger, run)] == [("2026-11-22", "ok")]
    assert [row["until"] for row in rows(ledger, lease)] == [None]
    ledger.close()


@pytest.mark.parametrize(
    ("begins", "slot"),
    [
        (datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC), "2026-12-31"),
        (datetime(2028, 2, 28, 23, 59, 30, tzinfo=UTC), "2028-02-28"),
        (datetime(2028, 2, 29, 23, 59, 30, tzinfo=UTC), "2028-02-29"),
    ],
    ids=["new year", "into the leap day", "out of the leap day"],
)
async def test_a_run_over_midnight_stays_in_the_slot_it_began_in(tmp_path: Path, begins: datetime, slot: str) -> None:
    clock = ManualClock(begins)
    result = await run_in(tmp_path, "items=lambda run: ['a', 'b'], concurrency=1", "await run.clock.sleep(60)", clock)
    assert (result.status, result.slot, result.items["ok"]) == ("ok", slot, 2)
    assert result.duration_s >= 120
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock)
    assert [row["day"] for row in rows(ledger, run)] == [slot]
    ledger.close()


async def run_in(root: Path, options: str, body: str, clock: ManualClock | None = None) -> Result:
    """Run a job of one function in a project of its own."""
    clock = clock or ManualClock(NIGHT + timedelta(hours=7))
    (root / "jobs").mkdir()
    code = f"from overnight import job\n\n@job({options})\nasync def probe(item: str, run) -> None:\n    {body}\n"
    (root / "jobs" / "probe.py").write_text(code, encoding="utf-8")
    (root / "schedule.yaml").write_text('version: 1\njobs:\n  probe: { at: "07:00" }\n', encoding="utf-8")
    ledger = Ledger.open(f"sqlite:///{root}/ledger.db", clock=clock)
    work = Workplace(root, load(root / "schedule.yaml"), ledger, clock, Redactor(frozenset()))
    try:
        return await run_slot(work, Request("probe"))
    finally:
        ledger.close()


JOBS = "version: 1\njobs:\n"
FIRST, SECOND = '  one: { at: "01:00" }\n', '  two: { at: "02:00" }\n'


def test_a_changed_schedule_counts_once_nobody_writes_it_any_more(tmp_path: Path) -> None:
    file, clock = tmp_path / "schedule.yaml", ManualClock()
    file.write_text(JOBS + FIRST + SECOND)
    watch = Watch(file, clock, file.read_text())
    assert (watch.changed(), watch.unsettled) == (None, False)
    file.write_text(JOBS + FIRST)  # half of it: valid, and without the second job
    assert (watch.changed(), watch.unsettled) == (None, True)
    clock.move(0.5)
    file.write_text(JOBS + FIRST + SECOND + '  three: { at: "03:00" }\n')
    assert (watch.changed(), watch.unsettled) == (None, True)
    clock.move(0.9)
    assert watch.changed() is None, "it was written to less than a second ago"
    clock.move(0.2)
    schedule = watch.changed()
    assert schedule is not None
    assert list(schedule.jobs) == ["one", "two", "three"]
    assert (watch.changed(), watch.unsettled, watch.problem) == (None, False, None)


@pytest.mark.parametrize("broken", ["jobs: [", JOBS + "  one: { att: 1 }\n", "", None], ids=repr)
def test_a_broken_schedule_leaves_the_one_before_in_force_until_it_is_mended(
    tmp_path: Path, broken: str | None
) -> None:
    file, clock = tmp_path / "schedule.yaml", ManualClock()
    file.write_text(JOBS + FIRST)
    watch = Watch(file, clock, JOBS + FIRST)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    for _ in range(3):
        assert watch.changed() is None
        clock.move(2)
    assert watch.problem
    file.write_text(JOBS + FIRST + SECOND)
    watch.changed()
    clock.move(2)
    schedule = watch.changed()
    assert schedule is not None
    assert (list(schedule.jobs), watch.problem) == (["one", "two"], None)


def test_runs_work_by_the_schedule_that_was_kept_while_the_file_is_broken_or_gone(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(JOBS + FIRST + '      \nchannels: { chat: { webhook: "${CHAT}" } }\n')
    (tmp_path / ".env").write_text("CHAT=http://127.0.0.1/one\n")
    keep(file, load(file).text)
    file.write_text("jobs: [")
    (tmp_path / ".env").write_text("CHAT=http://127.0.0.1/two\n")
    kept = in_force(file)
    assert list(kept.jobs) == ["one"]
    assert kept.channels["chat"].webhook == "http://127.0.0.1/two", "a new secret counts at once"
    file.unlink()
    assert in_force(file).config_hash == kept.config_hash
    file.write_text(JOBS + SECOND)
    assert list(in_force(file).jobs) == ["two"], "a valid file is always the one in force"


def test_a_schedule_that_meets_a_bug_of_ours_ends_neither_the_scheduler_nor_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: Path) -> None:
        raise ZeroDivisionError("division by zero")

    file, clock = tmp_path / "schedule.yaml", ManualClock()
    file.write_text(JOBS + FIRST)
    keep(file, JOBS + FIRST)
    watch = Watch(file, clock, JOBS + FIRST)
    monkeypatch.setattr("overnight.schedule.watch.load", broken)
    file.write_text(JOBS + SECOND)
    assert watch.changed() is None
    clock.move(2)
    assert watch.changed() is None
    assert watch.problem == "schedule.yaml meets a bug in overnight: ZeroDivisionError: division by zero"
    assert list(in_force(file).jobs) == ["one"]


def test_what_is_kept_is_what_was_validated_and_not_what_somebody_has_written_since(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    file = place.dispatcher.work.file
    file.write_text("jobs: [")
    keep_copy(place.dispatcher.work)
    assert list(in_force(file).jobs) == ["daily"]


async def test_what_serve_keeps_and_how_long_it_waits_at_its_end_is_of_the_schedule_in_force(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patience(work: Workplace) -> float:
        waited.append(work.schedule.drain)
        return 5.0

    def renew_logs(schedule: Schedule) -> None:
        if schedule.drain == timedelta(seconds=7):
            read.set()

    waited: list[timedelta] = []
    read = asyncio.Event()
    monkeypatch.setattr("overnight.service._patience", patience)
    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    work = dataclasses.replace(place.dispatcher.work, clock=SystemClock())
    async with asyncio.timeout(30):
        serving = asyncio.create_task(serve(work, "127.0.0.1", 0, renew_logs))
        work.file.write_text(f"drain: 7s\n{work.schedule.text}", encoding="utf-8")
        await read.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert waited == [timedelta(seconds=7)]
    work.file.write_text("jobs: [")
    assert in_force(work.file).drain == timedelta(seconds=7)


def test_an_edit_between_the_first_reading_and_the_first_look_is_seen(tmp_path: Path) -> None:
    file, clock = tmp_path / "schedule.yaml", ManualClock()
    file.write_text(JOBS + FIRST)
    text = load(file).text
    file.write_text(JOBS + FIRST + SECOND)
    watch = Watch(file, clock, text)
    assert (watch.changed(), watch.unsettled) == (None, True)
    clock.move(2)
    schedule = watch.changed()
    assert schedule is not None
    assert list(schedule.jobs) == ["one", "two"]


def test_without_a_kept_one_a_broken_schedule_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text("jobs: [")
    with pytest.raises(ConfigError, match=r"schedule\.yaml"):
        in_force(file)


async def test_a_run_that_dies_again_and_again_is_given_a_minute_and_then_left_alone(place: Place) -> None:
    place.write("often: { every: 6h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True

    async def dies(moment: datetime) -> list[tuple[str, str]]:
        """Look at a time when whoever had the slot is gone; a run that is started opens, and dies as well."""
        place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=NIGHT)))
        started = await place.look(moment)
        if started:
            place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=NIGHT)))
            begin(place.ledger, "often", started[0][1], host=HOST)
        return started

    started = [("often", "2026-11-22T06:00Z")]
    assert await place.look(at(6)) == started
    assert await dies(at(6, 1)) == started, "once may be an accident"
    assert await dies(at(6, 1) + timedelta(seconds=1)) == [], "what killed it twice may be over in a minute"
    assert await dies(at(6, 2)) == started
    assert [await dies(at(6, minute)) for minute in (3, 4)] == [[], []]
    assert sum("it is left alone" in message for message in place.alerts()) == 1
    assert {row["status"] for row in rows(place.ledger, run)} == {"interrupted"}, "digest and reports tell of it"


@pytest.mark.parametrize("asked", ["all", "some"])
async def test_a_dead_run_that_nobody_goes_on_with_is_closed_and_told_once(place: Place, asked: str) -> None:
    place.write("often: { every: 6h, max_age: 3h }")
    await place.look(at(0))
    begin(place.ledger, "often", SLOT, host=HOST, partial=asked == "some")
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=at(1))))
    assert await place.look(NOW + timedelta(hours=4)) == []
    [row] = rows(place.ledger, run)
    assert (row["status"], row["noted_at"], place.ledger.reading(held_leases)) == ("interrupted", place.clock.at, [])
    told = [alarm for alarm in rows(place.ledger, alert) if "the rest" in alarm["message"]]
    assert len(told) == (asked == "all")
    await place.look(place.clock.at + timedelta(minutes=2))
    assert [alarm for alarm in rows(place.ledger, alert) if "the rest" in alarm["message"]] == told, "no word more"


async def test_what_was_interrupted_is_gone_on_with_after_the_next_occurrence_and_not_for_ever(place: Place) -> None:
    place.write("often: { every: 1h, max_age: 3h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    first = ("often", "2026-11-22T01:00Z")
    assert await place.look(at(1)) == [first]
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=None)))
    assert await place.look(at(2)) == [("often", "2026-11-22T02:00Z")], "and not two at once"
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=None)))
    assert await place.look(at(2, 1)) == [first]
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=None)))
    assert first not in await place.look(at(4, 1))
    [row] = rows(place.ledger, occurrence, slot=first[1])
    assert (row["state"], row["reason"]) == ("ran", "the rest is older than max_age")
    assert any("the rest of often 2026-11-22T01:00Z is older than max_age" in message for message in place.alerts())


class Slow(Recorded):
    """A dispatcher whose runs do not open before they may `go` on."""

    go: asyncio.Event

    async def _child(self, job: str, slot: str, arguments: Sequence[str]) -> None:
        await self.go.wait()
        await super()._child(job, slot, arguments)


async def test_what_is_left_of_several_slots_of_a_job_is_done_one_after_the_other(place: Place) -> None:
    place.write("often: { every: 6h, max_age: 12h }")
    await place.look(at(0))
    slots = [f"2026-11-22T0{hour}:00Z" for hour in (1, 2, 3)]
    for slot in slots:
        begin(place.ledger, "often", slot, host=HOST, pid=NOBODY)
    assert [await place.look(at(4, minute)) for minute in range(4)] == [*([("often", slot)] for slot in slots), []]


async def test_an_occurrence_waits_for_what_is_left_of_an_older_one_that_has_not_opened_yet(place: Place) -> None:
    place.write("often: { every: 6h, max_age: 12h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher = slow = Slow(place.dispatcher.work)
    slow.go = asyncio.Event()
    older, newer = ("often", "2026-11-22T01:00Z"), ("often", "2026-11-22T06:00Z")
    begin(place.ledger, *older, host=HOST, pid=NOBODY)
    for moment in (at(5, 59), at(6)):
        place.clock.at = moment
        await slow.look()
    assert (list(slow.children.values()), place.occurrences("often")) == ([older], [])
    slow.go.set()
    await asyncio.gather(*slow.children)
    assert await place.look(at(6, 1)) == [newer]
    assert slow.started == [older, newer]


async def test_a_tick_goes_on_with_all_that_is_left_each_slot_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("often: { every: 6h, max_age: 12h }")
    await place.look(at(0))
    slots = [f"2026-11-22T0{hour}:00Z" for hour in (1, 2)]
    for slot in slots:
        begin(place.ledger, "often", slot, host=HOST, pid=NOBODY)
    place.clock.at = at(4)
    assert place.dispatcher is not None
    made: list[Refusing] = []

    def dispatcher(work: Workplace) -> Refusing:
        made.append(Refusing(work))
        return made[-1]

    monkeypatch.setattr("overnight.service.Dispatcher", dispatcher)
    async with asyncio.timeout(20):
        await tick(place.dispatcher.work)
    assert made[0].started == [("often", slot) for slot in slots], "who is refused is not asked for ever"


class Refusing(Recorded):
    """A dispatcher whose runs are refused before they have opened."""

    async def _child(self, job: str, slot: str, arguments: Sequence[str]) -> None:
        del arguments
        self.started.append((job, slot))


async def test_what_is_left_of_a_job_waits_for_somebody_elses_run_of_it(place: Place) -> None:
    place.write("often: { every: 6h, max_age: 12h }")
    await place.look(at(0))
    begin(place.ledger, "often", "2026-11-22T01:00Z", host=HOST, pid=NOBODY)
    other = begin(place.ledger, "often", "2026-11-22T02:00Z", host="elsewhere")
    place.ledger.writing(lambda connection: renew(connection, other, at(4)))
    assert await place.look(at(4)) == [], "side by side, two editions would bring the same news"
    place.ledger.writing(lambda connection: close_run(connection, other, "ok", None, at(4)))
    assert await place.look(at(4, 1)) == [("often", "2026-11-22T01:00Z")]


async def test_what_waits_to_replace_a_run_is_replaced_itself_by_what_comes_next(place: Place) -> None:
    place.write("often: { every: 1h, overlap: replace }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    first, second, third = (f"2026-11-22T0{hour}:00Z" for hour in (1, 2, 3))
    assert await place.look(at(1)) == [("often", first)]
    assert [await place.look(at(hour)) for hour in (2, 3)] == [[], []], "the first one is being asked to end"
    assert waiting(place, "often") == [third]
    [row] = rows(place.ledger, occurrence, slot=second)
    assert (row["state"], row["reason"]) == ("skipped", f"replaced by {third}")
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=None)))
    assert await place.look(at(3, 1)) == [("often", third)]


async def test_what_waited_for_longer_than_max_age_is_missed(place: Place) -> None:
    place.write("often: { every: 1h, overlap: queue, max_age: 2h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    await place.look(at(2))
    assert waiting(place, "often") == ["2026-11-22T02:00Z"]
    await place.look(at(4, 1))
    [row] = rows(place.ledger, occurrence, slot="2026-11-22T02:00Z")
    assert row["state"] == "missed"
    assert any("02:00Z was not run: it waited for another run" in message for message in place.alerts())


async def test_what_waited_when_its_job_was_paused_is_not_run_after_the_pause(place: Place) -> None:
    place.write("often: { every: 1h, overlap: queue }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.dispatcher.busy = True
    await place.look(at(1))
    await place.look(at(2))
    place.ledger.writing(lambda connection: set_pause(connection, "often", at(2, 1), "holiday", at(2, 1)))
    place.ledger.writing(lambda connection: set_pause(connection, "often", None, None, at(2, 30)))
    [row] = rows(place.ledger, occurrence, slot="2026-11-22T02:00Z")
    assert (row["state"], row["reason"]) == ("skipped", "the job was paused while it waited")


def switch(place: Place, job: str, at: datetime | None, now: datetime) -> list[tuple[str, str]] | None:
    """Pause or resume a job as the command and the page do; returns what was not run, and why."""
    assert place.dispatcher is not None
    listed = place.dispatcher.work.schedule.listed()
    found = place.ledger.writing(lambda c: pause_listed(c, listed, job, at, "holiday" if at else None, now))
    return None if found is None else [(one.slot, one.reason) for one in found]


async def test_what_was_due_in_a_pause_and_nobody_saw_has_a_row_when_the_pause_ends(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert switch(place, "daily", at(6), at(6)) == []
    assert switch(place, "daily", None, at(9)) == [("2026-11-22", "paused: holiday")]
    assert place.occurrences("daily") == [("2026-11-22", "skipped")]
    assert await place.look(at(9, 1)) == []
    assert await place.look(at(7, day=23)) == [("daily", "2026-11-23")]


async def test_to_end_a_pause_that_is_none_keeps_what_is_due_just_now(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    assert switch(place, "daily", None, at(7, 2)) is None
    assert await place.look(at(7, 3)) == [("daily", "2026-11-22")]


async def test_what_an_edit_did_away_with_is_told_also_when_a_pause_sees_it_first(place: Place) -> None:
    place.write('daily: { at: "02:00" }', 'other: { at: "20:00" }')
    await place.look(at(0))
    place.write('daily: { at: "20:00" }', 'other: { at: "20:00" }')
    [(slot, reason)] = switch(place, "other", at(9), at(9)) or []
    assert (slot, "the entry was edited before anybody looked" in reason) == ("2026-11-22", True)


@dataclass(slots=True)
class Hanging(Dispatcher):
    """A dispatcher whose run blocks before it has opened: its lease is still the scheduler's."""

    async def _child(self, job: str, slot: str, arguments: Sequence[str]) -> None:
        del arguments
        process = await asyncio.create_subprocess_exec("sleep", "60")
        self.processes.of[process], self.processes.begun[process] = (job, slot), self.work.clock.monotonic()
        self.codes.append(await process.wait())
        del self.processes.of[process], self.processes.begun[process]


def test_a_copy_of_the_schedule_that_cannot_be_kept_ends_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        asked.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    asked: list[int] = []
    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    monkeypatch.setattr("overnight.service.keep", full)
    keep_copy(place.dispatcher.work)
    assert asked


async def test_who_waits_for_its_runs_ends_one_that_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overnight.dispatcher.LOOK_EVERY", 0.05)
    place.write("often: { every: 1h }")
    await place.look(at(0))
    assert place.dispatcher is not None
    place.clock.at = at(1)
    dispatcher = Hanging(place.dispatcher.work)
    await dispatcher.look()
    settling = asyncio.create_task(dispatcher.settle())
    await asyncio.sleep(0.2)
    assert not settling.done(), "its lease has not run out"
    place.clock.move(60)
    async with asyncio.timeout(20):
        assert await settling == [-signal.SIGKILL]


@pytest.mark.parametrize("lives", [True, False])
async def test_a_run_whose_lease_looks_old_has_time_to_renew_it_before_it_is_taken_over(
    place: Place, lives: bool
) -> None:
    place.write('daily: { at: "07:00" }')
    assert place.dispatcher is not None
    begin(place.ledger, "daily", host=HOST, pid=os.getpid())

    class Waking(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await ManualClock.sleep(self, seconds)
            if lives:
                place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=FAR)))

    clock = Waking(at(9))
    work = dataclasses.replace(place.dispatcher.work, clock=clock)
    with slot_lock(place.root, "daily", "2026-11-22"):
        if lives:
            with pytest.raises(Refused, match="is being run by another process"):
                await run_slot(work, Request("daily", "2026-11-22"))
        else:
            assert (await run_slot(work, Request("daily", "2026-11-22"))).status == "ok"
    assert clock.slept[0] > RENEW_EVERY


@dataclass
class Chat:
    """A webhook on this machine; while it `hangs` it takes a message and says nothing."""

    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    asked: int = 0
    told: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.reached.set()
        text = (await request.json())["text"]
        await self.hangs.wait()
        self.told.put_nowait(text)
        return web.Response()


@asynccontextmanager
async def chat(*, hangs: bool = False) -> AsyncIterator[Chat]:
    it = Chat()
    if not hangs:
        it.hangs.set()
    application = web.Application()
    application.router.add_post("/", it.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield it
    finally:
        it.hangs.set()  # or it would be waited for without end
        await runner.cleanup()


def telling(*chats: Chat) -> str:
    named = ", ".join(f"c{n}: {{ webhook: '{one.url}' }}" for n, one in enumerate(chats))
    return f"channels: {{ {named} }}\nalerts: {{ to: [{', '.join(f'c{n}' for n in range(len(chats)))}] }}\n"


async def test_a_chat_that_hangs_holds_up_no_job_and_no_other_channel_and_gets_one_message_at_a_time(
    place: Place,
) -> None:
    async with asyncio.timeout(15), chat(hangs=True) as slow, chat() as quick:  # a channel has 20 s
        place.write("often: { every: 1h }", also=telling(slow, quick))
        dispatcher = place.dispatcher
        assert dispatcher is not None
        for n in range(3):
            place.clock.at = at(n + 1)
            await dispatcher.work.note([Alarm("bug", f"job{n}", f"bug {n}")])
            await dispatcher.look()
            assert await quick.told.get() == f"Alert: bug {n}"
        assert dispatcher.started == [("often", f"2026-11-22T0{n}:00Z") for n in (2, 3)]
        assert slow.asked == 1
        slow.hangs.set()
        await dispatcher.upkeep.settle(dispatcher.work)
        assert [slow.told.get_nowait() for _ in range(3)] == ["Alert: bug 0", "Alert: bug 1", "Alert: bug 2"]
        assert rows(place.ledger, notice) == []


async def test_what_was_not_told_when_serve_ended_is_told_by_the_next_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "HURRY", 0.1)
    async with asyncio.timeout(15), chat(hangs=True) as slow:
        place.write('daily: { at: "07:00" }', also=telling(slow))
        assert place.dispatcher is not None
        work, first, second = place.dispatcher.work, Upkeep(), Upkeep()
        await work.note([Alarm("bug", "daily", "a bug")])
        await first.tell(work)
        await slow.reached.wait()
        first.stop()
        await first.settle(work)
        assert first.beside.tasks == {}
        slow.hangs.set()
        place.clock.move(61)
        await second.settle(work)
        assert slow.told.get_nowait() == "Alert: a bug"
        assert rows(place.ledger, notice) == []


async def test_a_store_that_hangs_holds_up_no_job(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("overnight.upkeep.drain_spool", hangs)
    monkeypatch.setattr("overnight.upkeep.waiting", lambda _folder: [place.root])
    place.write("often: { every: 1h }")
    assert place.dispatcher is not None
    async with asyncio.timeout(15):
        for hour in (1, 2):
            place.clock.at = at(hour)
            await place.dispatcher.look()
        await asyncio.gather(*place.dispatcher.children)
    assert place.dispatcher.started == [("often", "2026-11-22T02:00Z")]
    assert "reports" in place.dispatcher.upkeep.beside.tasks
    place.dispatcher.upkeep.beside.cancel("reports")
    await place.dispatcher.upkeep.beside.settle()


NOBODY = 2**22 + 1  # beyond the highest number a process can have


@pytest.mark.parametrize("kind", ["retry", "sweep"])
async def test_who_has_the_slot_of_today_holds_up_no_other_job_and_its_own_one_until_it_is_over(
    place: Place, kind: str
) -> None:
    place.write('daily: { at: "07:00" }', 'other: { at: "07:00" }')
    await place.look(at(0))
    scope = begin(place.ledger, "daily", kind=kind, host="elsewhere")
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=FAR)))
    assert await place.look(at(7)) == [("other", "2026-11-22")]
    [row] = rows(place.ledger, occurrence, job="daily")
    assert (row["state"], row["reason"]) == ("queued", f"waits for {scope.run_id} of its own slot")
    assert await place.look(at(7, 1)) == []
    place.ledger.writing(lambda connection: close_run(connection, scope, "ok", None, at(7, 1)))
    assert await place.look(at(7, 2)) == [("daily", "2026-11-22")]


@pytest.mark.parametrize("kind", ["retry", "sweep"])
async def test_an_occurrence_takes_its_slot_over_at_once_from_one_that_was_killed(place: Place, kind: str) -> None:
    place.write('daily: { at: "07:00" }', 'other: { at: "07:00" }')
    await place.look(at(0))
    begin(place.ledger, "daily", kind=kind, host=HOST, pid=NOBODY)
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=FAR)))
    assert await place.look(at(7)) == [("daily", "2026-11-22"), ("other", "2026-11-22")]
    assert sorted(row["status"] for row in rows(place.ledger, run, job="daily")) == ["interrupted", "running"]


async def test_one_that_waits_takes_its_slot_over_from_a_retry_that_was_killed(place: Place) -> None:
    place.write('daily: { at: "07:00" }')
    await place.look(at(0))
    begin(place.ledger, "daily", kind="retry", host=HOST, pid=os.getpid())
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=at(7, 2))))
    assert await place.look(at(7)) == []
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(pid=NOBODY)))
    assert await place.look(at(7, 1)) == [("daily", "2026-11-22")]


async def test_a_decision_that_fails_holds_up_no_other_job_and_is_taken_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(connection: Connection, decision: Decision, *more: Any) -> Claim | None:
        if decision.job == "daily":
            raise RuntimeError("a bug")
        return claim(connection, decision, *more)

    place.write('daily: { at: "07:00" }', 'other: { at: "07:00" }')
    await place.look(at(0))
    monkeypatch.setattr("overnight.dispatcher.claim", failing)
    assert await place.look(at(7)) == [("other", "2026-11-22")]
    monkeypatch.undo()
    assert await place.look(at(7, 1)) == [("daily", "2026-11-22")]


async def test_what_keeps_us_from_asking_who_lives_holds_up_no_other_job(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write('daily: { at: "07:00" }', 'other: { at: "07:00" }')
    await place.look(at(0))
    begin(place.ledger, "daily", kind="retry", host=HOST, pid=NOBODY)
    place.ledger.writing(lambda connection: connection.execute(lease.update().values(until=FAR)))
    monkeypatch.setattr("overnight.liveness.TURN_SECONDS", 0.01)
    (place.root / "var" / "locks").mkdir(parents=True)
    with turn(place.root / "var" / "locks" / "turn", 1):  # of a process that is stopped
        assert await place.look(at(7)) == [("other", "2026-11-22")]
    assert await place.look(at(7, 1)) == [("daily", "2026-11-22")]
