"""Runs in the ledger: who holds a slot, what a crash leaves behind, and what closing settles."""

from datetime import timedelta

import pytest

from overnight.errors import Fenced, Refused
from overnight.ledger import Ledger
from overnight.ledger.onces import keep_once, seen_by_others
from overnight.ledger.runs import (
    LEASE,
    close_dead,
    close_run,
    held_leases,
    item_of,
    latest_run,
    lease_of,
    new_run_id,
    open_run,
    owed_reports,
    paused,
    previous_slot,
    recent_runs,
    renew,
    runs_like,
)
from overnight.ledger.tables import lease, occurrence, run
from overnight.occurrences import Claim, Decision, claim, unfinished_on
from tests.slots import NOW, SLOT, ManualClock, begin, opening, rows


def statuses(ledger: Ledger) -> list[str]:
    return [row["status"] for row in rows(ledger, run)]


def claimed(ledger: Ledger, slot: str = SLOT) -> Claim:
    decision = Decision("greet", NOW, slot, "run")
    found = ledger.writing(lambda c: claim(c, decision, opening(slot=slot), NOW, "skip"))
    assert found is not None
    return found


def test_a_slot_held_on_another_machine_is_refused_until_its_lease_runs_out(ledger: Ledger, clock: ManualClock) -> None:
    begin(ledger, host="there", pid=77)
    with pytest.raises(Refused, match=r"greet 2026-11-22 is being run by process 77 on there"):
        begin(ledger, host="here")
    assert statuses(ledger) == ["running"]
    clock.move(LEASE.total_seconds())
    assert begin(ledger, host="here").fence == 2
    assert sorted(statuses(ledger)) == ["interrupted", "running"]


def test_who_has_no_lock_does_not_take_a_living_lease_of_its_own_machine(ledger: Ledger) -> None:
    begin(ledger)
    with pytest.raises(Refused):
        ledger.writing(lambda connection: open_run(connection, opening(), NOW, locked=False))


def test_who_has_the_lock_takes_over_and_the_dead_run_is_marked(ledger: Ledger) -> None:
    first = begin(ledger)
    second = begin(ledger)
    assert (first.fence, second.fence) == (1, 2)
    held = ledger.reading(lease_of, "greet", SLOT)
    assert held is not None
    assert held["fence"] == 2, "the first one is refused by it"
    [dead] = ledger.reading(runs_like, first.run_id)
    assert dead is not None
    assert (dead["status"], dead["reason"], dead["ended_at"]) == ("interrupted", "its process died", NOW)


def test_a_dead_run_has_lasted_until_its_last_sign_of_life(ledger: Ledger, clock: ManualClock) -> None:
    dead = begin(ledger)
    clock.move(15)
    ledger.writing(lambda connection: renew(connection, dead, clock.now()))
    clock.move(3600)
    begin(ledger)
    [row] = ledger.reading(runs_like, dead.run_id)
    assert (row["ended_at"], row["noted_at"]) == (NOW + timedelta(seconds=15), clock.now())


def test_a_dead_run_that_is_closed_owes_its_reports_and_writes_nothing_more(ledger: Ledger, clock: ManualClock) -> None:
    dead = begin(ledger)
    clock.move(3600)
    ledger.writing(lambda connection: close_dead(connection, dead.run_id, clock.now()))
    [row] = ledger.reading(runs_like, dead.run_id)
    assert (row["status"], row["ended_at"], row["noted_at"]) == ("interrupted", NOW, clock.now())
    assert ledger.reading(held_leases) == []
    assert list(ledger.reading(owed_reports)) == [SLOT]
    with pytest.raises(Fenced):  # it was only frozen
        ledger.writing(lambda connection: renew(connection, dead, clock.now()))


def test_a_run_opened_by_a_scheduler_is_continued_by_its_child_under_the_same_id(ledger: Ledger) -> None:
    found = claimed(ledger)
    scope = begin(ledger, run_id=found.run_id, pid=2)
    assert scope.run_id == found.run_id
    assert scope.fence == 2
    assert statuses(ledger) == ["running"]


def test_closing_releases_the_lease_and_the_occurrence(ledger: Ledger) -> None:
    found = claimed(ledger)
    scope = begin(ledger, run_id=found.run_id)
    ledger.writing(lambda connection: close_run(connection, scope, "partial", None, NOW))
    assert statuses(ledger) == ["partial"]
    assert ledger.reading(held_leases) == []
    assert [row["state"] for row in rows(ledger, occurrence)] == ["ran"]


def test_an_occurrence_has_run_when_another_run_has_ended_its_slot(ledger: Ledger) -> None:
    claimed(ledger)
    after_a_crash = begin(ledger)
    assert ledger.reading(unfinished_on, "greet", SLOT)
    ledger.writing(lambda connection: close_run(connection, after_a_crash, "ok", None, NOW))
    assert not ledger.reading(unfinished_on, "greet", SLOT)


def test_an_interrupted_run_leaves_its_occurrence_open(ledger: Ledger) -> None:
    found = claimed(ledger)
    scope = begin(ledger, run_id=found.run_id)
    ledger.writing(lambda connection: close_run(connection, scope, "interrupted", None, NOW))
    assert [row["state"] for row in rows(ledger, occurrence)] == ["claimed"]
    assert [row["until"] for row in rows(ledger, lease)] == [None]


def test_run_ids_sort_by_start_and_are_found_by_their_beginning(ledger: Ledger, clock: ManualClock) -> None:
    scope = begin(ledger)
    clock.move(60)
    later = begin(ledger, slot="2026-11-23")
    assert new_run_id(NOW) < new_run_id(NOW + timedelta(seconds=1))
    assert [row["id"] for row in ledger.reading(runs_like, scope.run_id[:16])] == [scope.run_id]
    assert [row["id"] for row in ledger.reading(runs_like, "r_")] == [later.run_id, scope.run_id]
    assert ledger.reading(runs_like, "r_nothing") == []
    assert ledger.reading(runs_like, "r%") == [], "a wildcard is no wildcard"
    newest = ledger.reading(latest_run, "greet")
    assert newest is not None
    assert newest["id"] == later.run_id
    assert ledger.reading(latest_run, "greet", SLOT)["id"] == scope.run_id  # type: ignore[index]


def test_recent_runs_are_the_newest_first_and_can_be_narrowed(ledger: Ledger, clock: ManualClock) -> None:
    for job in ("greet", "count", "greet"):
        begin(ledger, job=job)
        clock.move(1)
    assert [row["job"] for row in ledger.reading(lambda c: recent_runs(c, limit=2))] == ["greet", "count"]
    found = ledger.reading(lambda c: recent_runs(c, job="greet", status="interrupted"))
    assert [(row["job"], row["status"]) for row in found] == [("greet", "interrupted")]


def test_the_previous_slot_is_the_newest_real_one_before(ledger: Ledger) -> None:
    for day, rehearsal in ((19, False), (20, False), (21, True)):
        at = NOW.replace(day=day)
        begin(ledger, slot=at.date().isoformat(), scheduled_for=at, rehearsal=rehearsal)
    assert ledger.reading(previous_slot, "greet", NOW) == NOW.replace(day=20)
    assert ledger.reading(previous_slot, "greet", NOW.replace(day=19)) is None


def test_what_other_slots_have_seen_does_not_include_this_one(ledger: Ledger) -> None:
    for name, keys in ((SLOT, ["a", "b"]), ("2026-11-23", ["b", "c"])):
        scope = begin(ledger, slot=name)
        marks = [("stories", key) for key in keys]
        ledger.writing(lambda c, s=scope, m=marks: keep_once(c, s, "edition", "1", m, NOW))  # type: ignore[misc]
    assert ledger.reading(seen_by_others, "greet", SLOT, "stories") == {"c"}
    assert ledger.reading(seen_by_others, "greet", "2026-11-23", "stories") == {"a", "b"}
    assert ledger.reading(seen_by_others, "greet", "2026-11-24", "pictures") == set()
    rehearsed = ledger.reading(seen_by_others, "greet", f"{SLOT}~abc", "stories")
    assert rehearsed == {"c"}, "a rehearsal sees what its edition saw"


def test_what_is_not_there_is_none(ledger: Ledger) -> None:
    assert ledger.reading(item_of, "greet", SLOT, "ann") is None
    assert ledger.reading(latest_run, "greet") is None
    assert ledger.reading(paused, "greet") is None
