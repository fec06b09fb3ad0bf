"""Items in the ledger: counts that never drift, a plan that can be repeated, and owners that were replaced."""

import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overnight.errors import Fenced
from overnight.histogram import bucket_of
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, due_slots, items_of, page, plan, planned, record
from overnight.ledger.onces import keep_once, once_value
from overnight.ledger.runs import close_run, next_seq, renew, slot_of
from overnight.ledger.tables import histogram, item, lease, once, run, seen, slot
from overnight.outcome import STATES, Outcome, Scope, State
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, rows

KEYS = ["ann", "bob", "cem", "dov"]


def planning(ledger: Ledger, scope: Scope, *keys: str) -> int:
    first = ledger.reading(next_seq, scope)
    lines = [(first + n, key, f'"{key}"') for n, key in enumerate(keys)]
    return ledger.writing(lambda connection: plan(connection, scope, lines))


def recording(ledger: Ledger, *records: Recorded) -> None:
    ledger.writing(lambda connection: record(connection, records))


def recorded(scope: Scope, was: State, key: str, state: State, **more: Any) -> Recorded:
    return Recorded(scope, was, Outcome(key, state, **more), NOW)


def picked(ledger: Ledger, scope: Scope, *, again: bool = False, after: int = -1, limit: int = 500) -> list[str]:
    now = ledger.clock.now()
    selection: Any = "again" if again else "due"
    return [
        one.key
        for one in ledger.reading(
            lambda connection: page(connection, scope, after, selection=selection, now=now, limit=limit)
        )
    ]


def counts(ledger: Ledger) -> dict[str, int]:
    [row] = rows(ledger, slot)
    return {state: row[state] for state in STATES if row[state]}


def test_planning_twice_adds_nothing(ledger: Ledger) -> None:
    scope = begin(ledger)
    assert planning(ledger, scope, *KEYS) == 4
    assert planning(ledger, scope, *KEYS) == 0
    assert planning(ledger, scope, "eve", *KEYS) == 1
    assert counts(ledger) == {"pending": 5}


def test_an_item_that_came_between_crash_and_resume_is_worked_on_after_the_others(ledger: Ledger) -> None:
    scope = begin(ledger)
    planning(ledger, scope, "bob", "cem")
    planning(ledger, scope, "ann", "bob", "cem")
    assert picked(ledger, scope) == ["bob", "cem", "ann"]
    assert len({row["seq"] for row in rows(ledger, item)}) == 3


def test_pages_follow_the_plan_without_gap_or_overlap(ledger: Ledger) -> None:
    scope = begin(ledger)
    planning(ledger, scope, *(f"k{n:03}" for n in range(25)))
    found: list[str] = []
    after = -1
    while keys := picked(ledger, scope, after=after, limit=10):
        found += keys
        after = int(keys[-1][1:])
    assert found == [f"k{n:03}" for n in range(25)]


def test_what_is_due_and_what_is_done_again(ledger: Ledger) -> None:
    scope = begin(ledger)
    states: list[State] = ["ok", "failed", "skipped", "unknown", "retry", "retry"]
    keys = ["ok", "failed", "skipped", "unknown", "later", "now", "never started"]
    planning(ledger, scope, *keys)
    times = {"later": NOW + timedelta(seconds=1), "now": NOW}
    recording(
        ledger,
        *(recorded(scope, "pending", k, s, next_at=times.get(k)) for k, s in zip(keys, states, strict=False)),
    )
    assert picked(ledger, scope) == ["now", "never started"]
    assert picked(ledger, scope, again=True) == ["failed", "later", "now", "never started"]


outcomes = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STATES), st.integers(0, 5000)), max_size=12)


@given(st.lists(outcomes, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_counts_kept_by_delta_equal_a_recount_after_any_sequence_of_outcomes(
    passes: list[list[tuple[int, State, int]]],
) -> None:
    """Each pass is a run of its own over the slot; within it outcomes are written in groups."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(Path(folder), ManualClock())
        state: dict[str, State] = dict.fromkeys(KEYS, "pending")
        durations: Counter[tuple[str, int]] = Counter()
        for one in passes:
            scope = begin(ledger)
            planning(ledger, scope, *KEYS)
            group: list[Recorded] = []
            for n, new, ms in one:
                key = KEYS[n]
                if any(r.outcome.key == key for r in group):
                    recording(ledger, *group)
                    group = []
                group.append(recorded(scope, state[key], key, new, duration_ms=ms))
                state[key] = new
                if new in ("ok", "failed"):
                    durations[scope.run_id, bucket_of(ms)] += 1
            if group:
                recording(ledger, *group)
            [of_run] = rows(ledger, run, id=scope.run_id)
            ended = Counter(new for _, new, _ in one)
            assert {s: of_run[s] for s in STATES[1:]} == {s: ended[s] for s in STATES[1:]}
            assert (of_run["items"], of_run["attempts"]) == (len(one), len(one))
        in_items = Counter(row["state"] for row in rows(ledger, item))
        assert counts(ledger) == dict(in_items) == dict(Counter(state.values()))
        assert {(r["run_id"], r["bucket"]): r["n"] for r in rows(ledger, histogram)} == dict(durations)
        ledger.close()


def test_a_retry_that_turns_failed_into_ok_is_counted_once(ledger: Ledger) -> None:
    first = begin(ledger)
    planning(ledger, first, "ann", "bob")
    recording(ledger, recorded(first, "pending", "ann", "ok"), recorded(first, "pending", "bob", "failed", attempts=3))
    second = begin(ledger)
    recording(ledger, recorded(second, "failed", "bob", "ok"))
    assert counts(ledger) == {"ok": 2}
    [bob] = rows(ledger, item, key="bob")
    assert (bob["state"], bob["attempts"], bob["run_id"]) == ("ok", 4, second.run_id)
    assert [(row["ok"], row["failed"]) for row in rows(ledger, run)] == [(1, 1), (1, 0)]


def test_one_group_may_hold_outcomes_of_several_slots(ledger: Ledger) -> None:
    one, two = begin(ledger), begin(ledger, slot="2026-11-23")
    planning(ledger, one, "ann")
    planning(ledger, two, "ann", "bob")
    recording(ledger, recorded(one, "pending", "ann", "ok"), recorded(two, "pending", "ann", "failed"))
    found = {row["slot"]: (row["pending"], row["ok"], row["failed"]) for row in rows(ledger, slot)}
    assert found == {SLOT: (0, 1, 0), "2026-11-23": (1, 0, 1)}


WRITES = {
    "an outcome": lambda c, scope: record(c, [recorded(scope, "pending", "ann", "ok")]),
    "a plan": lambda c, scope: plan(c, scope, [(9, "zoe", "1")]),
    "the end of a plan": lambda c, scope: planned(c, scope, NOW),
    "a once value": lambda c, scope: keep_once(c, scope, "edition", "1", [("stories", "s-1")], NOW),
    "the end of a run": lambda c, scope: close_run(c, scope, "ok", None, NOW),
    "a lease": lambda c, scope: renew(c, scope, NOW + timedelta(hours=1)),
}


@pytest.mark.parametrize("what", WRITES)
def test_an_owner_that_was_replaced_writes_nothing(ledger: Ledger, what: str) -> None:
    old = begin(ledger)
    planning(ledger, old, "ann")
    new = begin(ledger)
    tables = (item, slot, run, lease, once, seen, histogram)
    before = [rows(ledger, table) for table in tables]
    with pytest.raises(Fenced, match=r"another process has taken over \(fence 2, ours 1\)"):
        ledger.writing(lambda connection: WRITES[what](connection, old))
    assert [rows(ledger, table) for table in tables] == before
    ledger.writing(lambda connection: WRITES[what](connection, new))
    assert [rows(ledger, table) for table in tables] != before


def test_a_once_value_and_its_marks_are_stored_together_or_not_at_all(ledger: Ledger) -> None:
    scope = begin(ledger)

    def broken(connection: Any) -> None:
        keep_once(connection, scope, "edition", "1", [("stories", "s-1")], NOW)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        ledger.writing(broken)
    assert (rows(ledger, once), rows(ledger, seen)) == ([], [])
    ledger.writing(lambda c: keep_once(c, scope, "edition", "1", [("stories", "s-1")], NOW))
    assert ledger.reading(once_value, "greet", SLOT, "edition") == "1"
    assert [row["key"] for row in rows(ledger, seen)] == ["s-1"]


def test_slots_with_an_item_whose_time_has_come(ledger: Ledger) -> None:
    for name, wait in (("2026-11-20", -1), ("2026-11-21", 0), ("2026-11-22", 1)):
        scope = begin(ledger, slot=name)
        planning(ledger, scope, "ann")
        recording(ledger, recorded(scope, "pending", "ann", "retry", next_at=NOW + timedelta(seconds=wait)))
    assert sorted(ledger.reading(due_slots, NOW)) == [("greet", "2026-11-20"), ("greet", "2026-11-21")]


def test_items_are_listed_by_state_without_their_payload(ledger: Ledger) -> None:
    scope = begin(ledger)
    planning(ledger, scope, "ann", "bob")
    recording(ledger, recorded(scope, "pending", "bob", "failed", error="no", error_code="http_404"))
    [bob] = ledger.reading(items_of, "greet", SLOT, ["failed"])
    assert (bob["key"], bob["error"], bob["error_code"], "payload" in bob) == ("bob", "no", "http_404", False)


def test_the_slot_knows_when_its_audience_was_complete(ledger: Ledger) -> None:
    scope = begin(ledger)
    assert ledger.reading(slot_of, "greet", SLOT)["planned_at"] is None
    ledger.writing(lambda connection: planned(connection, scope, NOW))
    assert ledger.reading(slot_of, "greet", SLOT)["planned_at"] == NOW
