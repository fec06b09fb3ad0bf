"""`serve` and `tick` with real processes: nothing lost, nothing run twice, whoever is killed."""

import os
import signal
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from overnight.ledger.tables import entry, item, occurrence, run
from tests.acceptance.serving import Place, due_once, end, wait_until

pytestmark = pytest.mark.slow


def test_serve_runs_each_occurrence_in_a_process_of_its_own_and_ends_when_asked(place: Place) -> None:
    place.write(hello="every: 1s, overlap: queue, params: { items: 2 }")
    serve = place.serve()
    wait_until(lambda: len({one.slot for one in place.done()}) >= 3, "three occurrences")
    code, report = place.health()
    assert (code, report["status"]) == (200, "healthy")
    assert set(report) == {"status", "timestamp", "checks", "dependencies"}
    assert end(serve) == 0
    per_slot = Counter((one.slot, one.key) for one in place.done())
    assert set(per_slot.values()) == {1}
    pids = {one.slot: one.pid for one in place.done()}
    assert len(set(pids.values())) == len(pids)
    assert serve.pid not in pids.values()
    assert {row["status"] for row in place.rows(run)} <= {"ok", "interrupted", "running"}


def test_after_sigterm_the_run_is_drained_and_the_next_serve_goes_on_with_it(place: Place) -> None:
    slot = due_once(place, work="concurrency: 2, params: { items: 30, seconds: 0.15 }")
    serve = place.serve()
    wait_until(lambda: len(place.done()) >= 4, "the first items")
    assert end(serve) == 0
    assert [row["status"] for row in place.rows(run, job="work")] == ["interrupted"]
    finished = {row["key"] for row in place.rows(item, state="ok")}
    assert finished == {one.key for one in place.done()}, "what was in flight has finished, and was recorded"
    assert 4 <= len(finished) < 30
    serve = place.serve()
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the rest")
    assert end(serve) == 0
    assert Counter(one.key for one in place.done()) == Counter(f"k{n:02}" for n in range(30))
    assert {one.slot for one in place.done()} == {slot}


def test_a_run_that_was_killed_is_taken_up_by_serve(place: Place) -> None:
    due_once(place, work="concurrency: 2, params: { items: 30, seconds: 0.15 }")
    serve = place.serve()
    wait_until(lambda: len(place.done()) >= 4, "the first items")
    os.kill(place.done()[0].pid, signal.SIGKILL)
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the rest")
    assert end(serve) == 0
    assert sorted(row["status"] for row in place.rows(run, job="work")) == ["interrupted", "ok"]
    assert {row["state"] for row in place.rows(item)} == {"ok"}
    times = Counter(one.key for one in place.done())
    assert len(times) == 30
    assert sum(times.values()) <= 32, "only what was in flight is done again"


def test_after_kill_9_of_serve_its_run_goes_on_and_a_new_serve_lets_it(place: Place) -> None:
    due_once(place, work="concurrency: 2, params: { items: 30, seconds: 0.15 }")
    serve = place.serve()
    wait_until(lambda: len(place.done()) >= 4, "the first items")
    serve.kill()
    serve.wait()
    again = place.serve()
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the run")
    assert end(again) == 0
    assert Counter(one.key for one in place.done()) == Counter(f"k{n:02}" for n in range(30))
    assert len({one.pid for one in place.done()}) == 1
    assert [row["status"] for row in place.rows(run, job="work")] == ["ok"]


def test_after_kill_9_of_everything_nothing_is_lost(place: Place) -> None:
    due_once(place, work="concurrency: 2, params: { items: 30, seconds: 0.15 }")
    serve = place.serve()
    wait_until(lambda: len(place.done()) >= 4, "the first items")
    for pid in (serve.pid, place.done()[0].pid):
        os.kill(pid, signal.SIGKILL)
    serve.wait()
    again = place.serve()
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the rest")
    assert end(again) == 0
    times = Counter(one.key for one in place.done())
    assert len(times) == 30
    assert sum(times.values()) <= 32


def test_two_schedulers_on_one_ledger_run_each_occurrence_once(place: Place) -> None:
    place.write(hello="every: 1s, overlap: queue, params: { items: 2 }", other="every: 2s, params: { items: 1 }")
    schedulers = [place.serve(), place.serve()]
    wait_until(lambda: len({one.slot for one in place.done() if one.job == "hello"}) >= 4, "four occurrences")
    assert [end(scheduler) for scheduler in schedulers] == [0, 0]
    assert set(Counter((one.job, one.slot, one.key) for one in place.done()).values()) == {1}


def test_tick_runs_what_is_due_and_later_what_was_deferred(place: Place) -> None:
    slot = due_once(place, work="params: { items: 2, defer: true }", hello="params: { items: 1 }")
    assert sorted(place.call("tick")["exit_codes"]) == [0, 3]
    assert {(one.job, one.slot) for one in place.done()} == {("hello", slot)}
    assert place.call("tick")["runs"] == 0, "its time has not come"
    (place.root / "well").touch()
    with sqlite3.connect(place.root / "var" / "overnight.db") as database:
        database.execute("UPDATE item SET next_at = '2000-01-01T00:00:00.000Z' WHERE state = 'retry'")
    database.close()
    assert place.call("tick") == {"runs": 1, "exit_codes": [0]}
    assert [row["state"] for row in place.rows(item, job="work")] == ["ok", "ok"]
    assert place.call("tick")["runs"] == 0


def test_a_paused_job_has_a_row_for_each_occurrence_and_is_not_made_up_for(place: Place) -> None:
    slot = due_once(place, work="params: { items: 1 }")
    place.call("pause", "work", "--reason", "on holiday")
    assert place.call("tick")["runs"] == 0
    [row] = place.rows(occurrence, job="work")
    assert (row["slot"], row["state"], row["reason"]) == (slot, "skipped", "paused: on holiday")
    place.call("resume-job", "work")
    assert place.call("tick")["runs"] == 0
    assert place.done() == []


def test_a_missed_occurrence_has_a_row_and_one_alert(place: Place) -> None:
    at = datetime.now(UTC) - timedelta(hours=3)
    place.write(late=f'at: "{at:%H:%M}", max_age: 1h')
    place.count_since(at - timedelta(minutes=2))
    for _ in range(2):
        assert place.call("tick")["runs"] == 0
    [row] = place.rows(occurrence)
    assert (row["state"], row["reason"]) == ("missed", "nobody was there within max_age (1:00:00)")
    [mail] = place.alerts()
    assert "ops@example.org" in mail
    assert "late" in mail


def test_a_job_that_cannot_be_imported_is_told_once_and_taken_up_when_it_is_mended(place: Place) -> None:
    due_once(place, work="params: { items: 2 }")
    good = (place.root / "jobs" / "work.py").read_text()
    (place.root / "jobs" / "work.py").write_text("import a_module_nobody_has\n")
    assert place.call("tick")["exit_codes"] == [2]
    assert place.call("tick")["exit_codes"] == [2]
    assert len([mail for mail in place.alerts() if "work" in mail]) == 1
    (place.root / "jobs" / "work.py").write_text(good)
    assert place.call("tick")["exit_codes"] == [0]
    assert [row["state"] for row in place.rows(occurrence, job="work")] == ["ran"]


def test_health_is_503_within_its_limit_while_another_process_locks_the_ledger(place: Place) -> None:
    due_once(place, work="params: { items: 1 }")
    place.serve()
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the run")
    assert place.health()[0] == 200
    with sqlite3.connect(place.root / "var" / "overnight.db", isolation_level=None, timeout=10) as database:
        database.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        code, report = place.health()
        took = time.monotonic() - started
        database.execute("ROLLBACK")
    database.close()
    assert (code, report["status"], report["checks"]["ledger"]["status"]) == (503, "unhealthy", "unhealthy")
    assert took < 4
    wait_until(lambda: place.health()[0] == 200, "health to come back")


def test_an_edited_entry_sends_nothing_back_dated(place: Place) -> None:
    at = datetime.now(UTC) - timedelta(minutes=30)
    place.write(late=f'at: "{at - timedelta(hours=1):%H:%M}"')
    place.count_since(datetime.now(UTC) - timedelta(seconds=1))
    place.write(late=f'at: "{at:%H:%M}"')
    assert place.call("tick")["runs"] == 0
    assert place.rows(occurrence) == []
    assert place.rows(entry)[0]["effective_since"] > at
