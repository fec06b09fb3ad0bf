"""Occurrences: every scheduled time gets exactly one decision, and one process to run it."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from overnight.ledger import Ledger
from overnight.ledger.runs import close_run, owed_reports, paused
from overnight.ledger.tables import entry, lease, occurrence, run
from overnight.leftovers import interrupted, leave, let_go
from overnight.occurrences import (
    MOST,
    CatchUp,
    Claim,
    Decision,
    Overlap,
    Timed,
    claim,
    due,
    latest,
    note,
    occurrence_of,
    queued,
    register,
    running,
    set_pause,
    start,
    start_if_free,
    unfinished_on,
)
from overnight.triggers import At, Every
from overnight.triggers import Listed as Known
from tests.slots import NOW, begin, opening, rows

HOUR = timedelta(hours=1)
DAILY = At("07:00", ZoneInfo("UTC"))  # NOW is 07:00


@dataclass(frozen=True)
class Listed:
    """A trigger that fires at the times it is told."""

    times: tuple[datetime, ...]

    def between(self, after: datetime, until: datetime) -> Iterable[datetime]:
        return (t for t in self.times if after < t <= until)

    def slot(self, t: datetime) -> str:
        return f"{t:%Y-%m-%dT%H:%MZ}"


def timed(**changes: Any) -> Timed:
    plain = Timed("greet", Every(3600), NOW - 30 * HOUR, NOW - 3 * HOUR, "latest", 6 * HOUR)
    return replace(plain, **changes)


def told(decisions: list[Decision]) -> list[tuple[int, str]]:
    """Hours before NOW, and what becomes of it."""
    return [(round((NOW - one.scheduled_for) / HOUR), one.action) for one in decisions]


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, [(2, "skipped"), (1, "skipped"), (0, "run")]),
        ({"catch_up": "all"}, [(2, "run"), (1, "run"), (0, "run")]),
        ({"catch_up": "none"}, [(2, "missed"), (1, "missed"), (0, "run")]),
        ({"catch_up": "all", "max_age": HOUR}, [(2, "missed"), (1, "run"), (0, "run")]),
        ({"max_age": HOUR}, [(2, "missed"), (1, "skipped"), (0, "run")]),
        ({"paused": "on holiday"}, [(2, "skipped"), (1, "skipped"), (0, "skipped")]),
        ({"last": NOW}, []),
        ({"since": NOW - HOUR}, [(0, "run")]),
        ({"since": NOW, "last": None}, []),
        ({"since": NOW - HOUR, "last": None}, [(0, "run")]),
        ({"since": NOW + HOUR}, []),
    ],
    ids=str,
)
def test_what_becomes_of_occurrences(job: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    assert told(due(timed(**job), NOW)) == expected


@pytest.mark.parametrize(
    ("late", "catch_up", "action"),
    [
        (0, "none", "run"),
        (120, "none", "run"),
        (121, "none", "missed"),
        (6 * 3600, "latest", "run"),
        (6 * 3600 + 1, "latest", "missed"),
    ],
)
def test_how_late_is_too_late(late: int, catch_up: CatchUp, action: str) -> None:
    daily = timed(trigger=DAILY, since=NOW - 4 * HOUR, last=None, catch_up=catch_up)
    assert [one.action for one in due(daily, NOW + timedelta(seconds=late))] == [action]


def test_reasons_are_for_people() -> None:
    assert [one.reason for one in due(timed(max_age=HOUR), NOW)] == [
        "nobody was there within max_age (1:00:00)",
        "superseded by 2026-11-22T07:00Z (catch_up: latest)",
        "",
    ]
    assert due(timed(paused="on holiday"), NOW)[0].reason == "paused: on holiday"


def test_after_a_long_absence_the_last_occurrences_have_rows_and_the_rest_shares_one() -> None:
    since = NOW - timedelta(days=60)
    decisions = due(timed(trigger=Every(60), since=since, last=None), NOW)
    all_of_them = 60 * 24 * 60
    assert len(decisions) == MOST + 1
    assert decisions[0].action == "missed"
    assert decisions[0].reason == f"and {all_of_them - MOST - 1} earlier ones since 2026-09-23 07:01Z"
    assert [one.action for one in decisions].count("run") == 1


def test_what_is_made_up_for_together_stands_in_one_queue_whatever_was_just_now() -> None:
    together = due(timed(trigger=Every(60), last=NOW - timedelta(minutes=5), catch_up="all"), NOW)
    assert [one.made_up for one in together] == [True] * 5
    [alone] = due(timed(trigger=Every(60), last=NOW - timedelta(minutes=1), catch_up="all"), NOW)
    assert not alone.made_up, "its job says what an overlap means"


times = st.lists(st.integers(1, 5000), unique=True, max_size=30).map(sorted)
modes = st.sampled_from(["latest", "all", "none"])


def at(minute: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


@given(times, st.lists(st.integers(0, 6000), min_size=1, max_size=8).map(sorted), modes, st.integers(1, 3000))
def test_every_time_gets_exactly_one_decision_over_any_sequence_of_looks(
    minutes: list[int], looks: list[int], catch_up: CatchUp, max_age: int
) -> None:
    trigger = Listed(tuple(map(at, minutes)))
    rows: list[Decision] = []
    for look in looks:
        last = rows[-1].scheduled_for if rows else None
        job = Timed("greet", trigger, at(0), last, catch_up, timedelta(minutes=max_age))
        rows += due(job, at(look))
    assert [one.scheduled_for for one in rows] == list(trigger.between(at(0), at(looks[-1])))
    assert all(one.reason for one in rows if one.action != "run")


@given(times, st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 30), st.booleans()), max_size=12), modes)
def test_schedulers_that_die_while_deciding_leave_nothing_undecided(
    minutes: list[int], looks: list[tuple[int, int, bool]], catch_up: CatchUp
) -> None:
    """Each look writes only so many of its rows; some know nothing of the rows written since the look before."""
    trigger, written = Listed(tuple(map(at, minutes))), dict[datetime, str]()
    known = None
    for minute, survives, stale in sorted(looks):
        if not stale:
            known = max(written, default=None)
        decisions = due(Timed("greet", trigger, at(0), known, catch_up, timedelta(days=9)), at(minute))
        for one in decisions[:survives]:
            written.setdefault(one.scheduled_for, one.action)
    last = max(written, default=None)
    for one in due(Timed("greet", trigger, at(0), last, catch_up, timedelta(days=9)), at(6000)):
        assert one.scheduled_for not in written
        written[one.scheduled_for] = one.action
    assert sorted(written) == list(trigger.times)


def registered(ledger: Ledger, now: datetime, **jobs: tuple[str, bool]) -> dict[str, Any]:
    listed = {job: Known(*each) for job, each in jobs.items()}
    return ledger.writing(lambda connection: register(connection, listed, now))


@pytest.mark.parametrize(
    ("before", "after", "counts_anew"),
    [
        (None, ("a", True), True),
        (("a", True), ("a", True), False),
        (("a", True), ("b", True), True),
        (("a", False), ("a", True), True),
        (("a", True), ("a", False), False),
    ],
    ids=["new", "the same", "edited", "enabled again", "disabled"],
)
def test_since_when_an_entry_counts(
    ledger: Ledger, before: tuple[str, bool] | None, after: tuple[str, bool], counts_anew: bool
) -> None:
    if before:
        registered(ledger, NOW, greet=before)
    found = registered(ledger, NOW + HOUR, greet=after)["greet"]
    assert found["effective_since"] == (NOW + HOUR if counts_anew else NOW)
    assert found["enabled"] is after[1]


def test_an_edited_entry_sends_no_back_dated_mail(ledger: Ledger) -> None:
    registered(ledger, NOW - 48 * HOUR, greet=("at 09:00", True))
    edited = registered(ledger, NOW + HOUR, greet=("at 07:00", True))["greet"]
    job = timed(trigger=DAILY, since=edited["effective_since"], last=None)
    assert due(job, NOW + 2 * HOUR) == []
    assert [one.scheduled_for for one in due(job, NOW + 24 * HOUR)] == [NOW + 24 * HOUR]


def test_an_entry_that_is_gone_stops_counting_and_counts_anew_when_it_comes_back(ledger: Ledger) -> None:
    registered(ledger, NOW, greet=("a", True), count=("b", True))
    assert registered(ledger, NOW + HOUR, count=("b", True))["greet"]["enabled"] is False
    assert registered(ledger, NOW + 2 * HOUR, greet=("a", True))["greet"]["effective_since"] == NOW + 2 * HOUR


def test_a_pause_outlives_an_edit_and_what_it_missed_is_not_made_up_for(ledger: Ledger) -> None:
    registered(ledger, NOW, greet=("a", True))
    ledger.writing(lambda connection: set_pause(connection, "greet", NOW, "holiday", NOW))
    assert registered(ledger, NOW + HOUR, greet=("b", True))["greet"]["pause_reason"] == "holiday"
    assert ledger.reading(paused, "greet") == "holiday"
    ledger.writing(lambda connection: set_pause(connection, "greet", None, None, NOW + 2 * HOUR))
    assert ledger.reading(paused, "greet") is None
    assert rows(ledger, entry)[0]["effective_since"] == NOW + 2 * HOUR


def decision(slot: str, job: str = "greet") -> Decision:
    return Decision(job, datetime.fromisoformat(f"{slot}T07:00+00:00"), slot, "run")


def claiming(ledger: Ledger, slot: str, overlap: Overlap = "skip", now: datetime = NOW) -> Claim | None:
    want = opening(slot=slot)
    return ledger.writing(lambda connection: claim(connection, decision(slot), want, now, overlap))


def states(ledger: Ledger) -> dict[str, tuple[str, str | None]]:
    return {row["slot"]: (row["state"], row["reason"]) for row in rows(ledger, occurrence)}


def test_a_claim_is_one_row_one_run_and_one_lease(ledger: Ledger) -> None:
    registered(ledger, NOW, greet=("a", True))
    mine = claiming(ledger, "2026-11-22")
    assert mine is not None
    assert claiming(ledger, "2026-11-22") is None
    assert [row["run_id"] for row in rows(ledger, lease)] == [mine.run_id]
    assert [(row["id"], row["status"]) for row in rows(ledger, run)] == [(mine.run_id, "running")]
    row = ledger.reading(occurrence_of, mine.id)
    assert row is not None
    assert (row["state"], row["run_id"]) == ("claimed", mine.run_id)
    assert ledger.reading(latest, NOW) == {"greet": NOW}


def test_a_noted_occurrence_cannot_be_claimed_nor_a_claimed_one_noted(ledger: Ledger) -> None:
    missed = replace(decision("2026-11-21"), action="missed", reason="nobody was there")
    assert ledger.writing(lambda connection: note(connection, missed, NOW))
    assert not ledger.writing(lambda connection: note(connection, missed, NOW))
    assert claiming(ledger, "2026-11-21") is None
    claiming(ledger, "2026-11-22")
    assert not ledger.writing(lambda c: note(c, replace(decision("2026-11-22"), action="missed", reason="-"), NOW))
    assert states(ledger) == {"2026-11-21": ("missed", "nobody was there"), "2026-11-22": ("claimed", None)}


def test_overlap_skip_leaves_a_row_that_says_why(ledger: Ledger) -> None:
    first = claiming(ledger, "2026-11-22")
    assert first is not None
    refused = claiming(ledger, "2026-11-23", "skip")
    assert refused is not None
    assert refused.run_id == ""
    assert "was still going on" in refused.skipped
    assert states(ledger)["2026-11-23"] == (
        "skipped",
        f"overlap: {first.run_id} of 2026-11-22 was still going on",
    )


def test_overlap_queue_waits_and_is_started_later(ledger: Ledger) -> None:
    claiming(ledger, "2026-11-22")
    second = claiming(ledger, "2026-11-23", "queue")
    assert second == Claim(second.id if second else "", "")
    assert claiming(ledger, "2026-11-23", "queue") is None
    assert [row["slot"] for row in ledger.reading(queued)] == ["2026-11-23"]
    assert ledger.reading(unfinished_on, "greet", "2026-11-23")
    run_id = ledger.writing(lambda c: start(c, second.id, opening(slot="2026-11-23"), NOW))  # type: ignore[union-attr]
    row = ledger.reading(occurrence_of, second.id)  # type: ignore[union-attr]
    assert row is not None
    assert (row["state"], row["run_id"], row["reason"]) == ("claimed", run_id, None)


def test_of_those_that_wait_only_the_oldest_is_started_when_the_run_before_them_ends(ledger: Ledger) -> None:
    first = claiming(ledger, "2026-11-22")
    assert first is not None
    claiming(ledger, "2026-11-23", "queue")
    claiming(ledger, "2026-11-24", "queue")
    scope = begin(ledger, run_id=first.run_id)
    ledger.writing(lambda connection: close_run(connection, scope, "ok", None, NOW))

    def free(row: Any) -> bool:
        return ledger.writing(lambda c: start_if_free(c, row, opening(slot=row["slot"]), NOW, lambda _row: False))

    older, newer = ledger.reading(queued)
    assert [free(newer), free(older), free(newer)] == [False, True, False]
    assert states(ledger)["2026-11-23"][0] == "claimed"


def test_overlap_replace_gives_the_older_one_up(ledger: Ledger) -> None:
    first = claiming(ledger, "2026-11-22")
    assert first is not None
    scope = begin(ledger, run_id=first.run_id)
    claiming(ledger, "2026-11-23", "replace")
    ledger.writing(lambda connection: close_run(connection, scope, "interrupted", None, NOW))
    assert states(ledger)["2026-11-22"] == ("ran", "replaced by 2026-11-23")
    assert ledger.reading(interrupted) == [], "nobody goes on with what was replaced"


def test_who_was_given_up_before_it_began_holds_up_nobody(ledger: Ledger) -> None:
    first = claiming(ledger, "2026-11-22")
    assert first is not None

    def status_after(process: int) -> Any:
        ledger.writing(lambda connection: let_go(connection, "greet", "2026-11-22", ("here", process), NOW))
        [row] = rows(ledger, run, id=first.run_id)
        return row["status"]

    assert status_after(1) == "running", "it was not given up"
    claiming(ledger, "2026-11-23", "replace")
    assert status_after(2) == "running", "that process does not hold it"
    assert status_after(1) == "interrupted"
    assert list(ledger.reading(owed_reports)) == ["2026-11-22"]
    assert ledger.reading(running, "greet", NOW) == []


def test_a_dead_lease_does_not_hold_up_the_next_occurrence_for_more_than_a_minute(ledger: Ledger) -> None:
    claiming(ledger, "2026-11-22")
    later = NOW + timedelta(seconds=60)
    assert ledger.reading(running, "greet", later) == []
    assert claiming(ledger, "2026-11-23", now=later) is not None


def test_an_interrupted_slot_is_gone_on_with_also_when_the_job_has_moved_on(ledger: Ledger) -> None:
    first = claiming(ledger, "2026-11-22")
    assert first is not None
    assert ledger.reading(interrupted) == [], "it is being run"
    scope = begin(ledger, run_id=first.run_id)
    ledger.writing(lambda connection: close_run(connection, scope, "interrupted", None, NOW))
    assert ledger.reading(interrupted) == [("greet", "2026-11-22")]
    claiming(ledger, "2026-11-23")
    assert ledger.reading(interrupted) == [("greet", "2026-11-22")]
    ledger.writing(lambda connection: leave(connection, "greet", "2026-11-22", "too old", NOW, lambda _row: True))
    assert ledger.reading(interrupted) == []
    assert states(ledger)["2026-11-22"] == ("ran", "too old")


def test_a_run_somebody_started_by_hand_is_not_gone_on_with(ledger: Ledger) -> None:
    scope = begin(ledger)
    ledger.writing(lambda connection: close_run(connection, scope, "interrupted", None, NOW))
    assert ledger.reading(interrupted) == []


def test_a_released_lease_is_not_running(ledger: Ledger) -> None:
    claiming(ledger, "2026-11-22")
    ledger.writing(lambda connection: connection.execute(update(lease).values(until=None)))
    assert ledger.reading(running, "greet", NOW) == []


CLAIMING = """
import sys
from datetime import datetime, timedelta
from overnight.ledger import Ledger
from overnight.occurrences import Decision, claim
from tests.slots import NOW, opening

ledger = Ledger.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(200):
    job = f"job-{n}"
    decision, want = Decision(job, NOW, "2026-11-22", "run"), opening(job)
    claimed = ledger.writing(lambda connection: claim(connection, decision, want, NOW, "skip"))
    if claimed is not None:
        print(job, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("schedulers", [2, 5])
def test_schedulers_on_one_ledger_run_each_occurrence_exactly_once(tmp_path: Path, schedulers: int) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMING, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(schedulers)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ran = [job for racer in racers for job in racer.communicate(timeout=120)[0].split()]
    assert Counter(ran) == Counter(f"job-{n}" for n in range(200))
    ledger = Ledger.open(url)
    assert Counter(row["state"] for row in rows(ledger, occurrence)) == {"claimed": 200}
    assert len(rows(ledger, run)) == len(rows(ledger, lease)) == 200
    ledger.close()
