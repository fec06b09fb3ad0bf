"""How runs and schedulers end: asked once, asked twice, blocked, replaced, or with nobody left to read their output."""

import os
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from overnight.ledger.tables import item, occurrence, run
from tests.acceptance.serving import COMMAND, Place, due_once, end, wait_until

pytestmark = pytest.mark.slow

SLOT = "2026-11-22"
KEYS = [f"k{n:02}" for n in range(10)]
LONG = "concurrency: 1, params: { items: 10, seconds: 0.2 }"
HANGING = "concurrency: 2, params: { items: 10, seconds: 600 }"


def patient(place: Place) -> None:
    """Let runs drain for longer than a test lasts: who ends sooner has not waited for it."""
    file = place.root / "schedule.yaml"
    file.write_text(file.read_text().replace("drain: 5s", "drain: 10m"))


def hasten(place: Place) -> None:
    """Let the items take no time; the entry counts as before."""
    file = place.root / "schedule.yaml"
    file.write_text(file.read_text().replace("seconds: 600", "seconds: 0"))


def started(place: Place, count: int) -> bool:
    return len([line for line in place.log() if line["message"] == "task started"]) >= count


def run_of(place: Place, *arguments: str, **more: Any) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([COMMAND, "run", *arguments], cwd=place.root, stdin=subprocess.DEVNULL, **more)
    place.processes.append(process)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_run_at_once_and_nothing_is_lost(place: Place, number: signal.Signals) -> None:
    place.write(work=f'at: "07:00", {HANGING}')
    patient(place)
    process = run_of(place, "work", "--slot", SLOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: started(place, 2), "two items")
    process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # it drains: what is in flight is waited for
    process.send_signal(number)
    assert process.wait(30) == 130
    assert [row["status"] for row in place.rows(run)] == ["running"]
    assert {row["state"] for row in place.rows(item)} == {"pending"}

    hasten(place)
    assert place.call("run", "work", "--slot", SLOT)["items"]["ok"] == len(KEYS)
    assert [one.key for one in sorted(place.done(), key=lambda one: one.key)] == KEYS
    assert sorted(row["status"] for row in place.rows(run)) == ["interrupted", "ok"]


@pytest.mark.parametrize(("number", "goes_on"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_what_a_person_has_ended_by_a_second_ctrl_c_nobody_goes_on_with(
    place: Place, number: signal.Signals, goes_on: bool
) -> None:
    place.write(work=f'at: "07:00", max_age: 2d, {HANGING}')
    patient(place)
    process = run_of(place, "work", stderr=subprocess.DEVNULL)
    wait_until(lambda: started(place, 2), "two items")
    process.send_signal(number)
    if not goes_on:
        wait_until(lambda: place.rows(run, reason="ended by hand"), "the first to be noted")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(number)
    assert process.wait(30) == 130
    hasten(place)
    place.call("tick")
    assert len(place.done()) == (len(KEYS) if goes_on else 0)
    assert place.rows(run, status="running") == []
    assert place.call("run", "work")["items"]["ok"] == (0 if goes_on else len(KEYS)), "unless somebody asks for it"


@pytest.mark.parametrize("within", [True, False], ids=["soon", "never"])
def test_two_ctrl_c_in_a_row_wait_for_the_first_to_be_noted_for_two_seconds(place: Place, within: bool) -> None:
    place.write(work=f'at: "07:00", max_age: 2d, {HANGING}')
    patient(place)
    process = run_of(place, "work", stderr=subprocess.DEVNULL)
    wait_until(lambda: started(place, 2), "two items")
    with closing(sqlite3.connect(place.root / "var" / "overnight.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # as a backup tool may, or a slow disk
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        if within:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
        else:
            assert process.wait(30) == 130
        other.execute("ROLLBACK")
    assert process.wait(30) == 130
    assert bool(place.rows(run, reason="ended by hand")) == within


def test_a_run_that_has_drained_ends_with_130_and_started_nothing_more(place: Place) -> None:
    place.write(work=f'at: "07:00", {LONG}')
    process = run_of(place, "work", "--slot", SLOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(place.done()) >= 2, "two items")
    assert end(process) == 130
    assert {row["key"] for row in place.rows(item, state="ok")} == {one.key for one in place.done()}
    assert place.rows(item, state="pending")
    assert not [line for line in place.log() if line["message"] == "task left pending"]


def test_a_second_signal_ends_serve_with_its_runs_and_the_next_one_goes_on(place: Place) -> None:
    due_once(place, work=HANGING)
    patient(place)
    serve = place.serve()
    wait_until(lambda: started(place, 2), "two items")
    [child] = {int(line["worker_id"].rpartition(":")[2]) for line in place.log() if line["message"] == "task started"}
    serve.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        serve.wait(0.5)
    serve.send_signal(signal.SIGTERM)
    assert serve.wait(30) == 0
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "its run to end")
    assert {row["state"] for row in place.rows(item)} == {"pending"}

    hasten(place)
    serve = place.serve()
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the rest")
    assert end(serve) == 0
    assert Counter(one.key for one in place.done()) == Counter(KEYS)


def test_a_run_that_blocks_its_loop_is_ended_by_serve_and_taken_up_again(place: Place) -> None:
    due_once(place, work="concurrency: 1, params: { items: 3, block: true }")
    serve = place.serve()
    wait_until((place.root / "blocked").exists, "the item that blocks")
    blocked = int((place.root / "blocked").read_text())
    (place.root / "unblocked").touch()
    with closing(sqlite3.connect(place.root / "var" / "overnight.db")) as database, database:
        database.execute("UPDATE lease SET until = strftime('%Y-%m-%dT%H:%M:%S.000Z', 'now')")  # a minute has passed
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the slot")
    assert not Path(f"/proc/{blocked}").exists()
    assert {one.pid for one in place.done()} != {blocked}
    assert [one.key for one in place.done()] == KEYS[:3]
    assert end(serve) == 0
    assert any("was blocked for over a minute" in line["message"] for line in place.log())
    assert [mail for mail in place.alerts() if "the process of work" in mail and "ended with -9" in mail]


def states(place: Place) -> Counter[str]:
    return Counter(row["state"] for row in place.rows(occurrence, job="work"))


def test_overlap_skip_leaves_out_what_comes_while_a_run_goes_on(place: Place) -> None:
    place.write(work=f"every: 1s, overlap: skip, {LONG}")
    serve = place.serve()
    wait_until(lambda: states(place)["ran"] >= 2 and states(place)["skipped"], "two runs and one left out")
    assert end(serve) == 0
    reasons = {row["reason"] for row in place.rows(occurrence, state="skipped")}
    assert {reason.partition("r_")[0] for reason in reasons} == {"overlap: "}
    skipped = {row["slot"] for row in place.rows(occurrence, state="skipped")}
    assert not skipped & {one.slot for one in place.done()}
    _one_after_the_other(place)


def test_overlap_queue_runs_all_of_them_in_turn(place: Place) -> None:
    place.write(work=f"every: 1s, overlap: queue, {LONG}")
    serve = place.serve()
    wait_until(lambda: states(place)["ran"] >= 3, "three runs")
    place.call("pause", "work", "--reason", "enough")
    assert end(serve) == 0
    ran = [row["slot"] for row in place.rows(occurrence, state="ran")]
    everything = sorted(place.rows(occurrence, job="work"), key=lambda row: row["scheduled_for"])
    assert set(ran) == {row["slot"] for row in everything[: len(ran)]}, "in order, and none left out"
    assert {count for slot, count in Counter(one.slot for one in place.done()).items() if slot in ran} == {10}
    _one_after_the_other(place)


def test_overlap_replace_ends_the_older_run_and_nobody_goes_on_with_it(place: Place) -> None:
    place.write(work="every: 8s, overlap: replace, concurrency: 1, params: { items: 300, seconds: 0.2 }")
    serve = place.serve()

    def replaced() -> list[str]:
        found = place.rows(occurrence, job="work", state="ran")
        return [row["slot"] for row in found if str(row["reason"]).startswith("replaced by ")]

    ended = ("interrupted", "its process died")
    wait_until(lambda: len(replaced()) >= 2, "two that were replaced")
    wait_until(lambda: len({one.slot for one in place.done()} - set(replaced())) >= 1, "the newest")
    older = replaced()
    assert end(serve) == 0
    file = place.root / "schedule.yaml"
    file.write_text(file.read_text().replace("seconds: 0.2", "seconds: 0"))
    place.call("tick")  # the newest is gone on with, or replaced by now; the older ones are left alone
    runs = [row for row in place.rows(run, job="work") if row["slot"] in older]
    assert Counter(row["slot"] for row in runs) == dict.fromkeys(older, 1)
    assert {row["status"] for row in runs} <= {ended[0], "running"}
    for slot in older:
        assert place.rows(item, slot=slot, state="pending") or not place.rows(item, slot=slot)


def test_a_run_that_was_replaced_before_it_could_listen_does_not_begin(place: Place) -> None:
    due_once(place, work="params: { items: 2 }")
    place.call("tick")
    [row] = place.rows(occurrence, job="work")
    with closing(sqlite3.connect(place.root / "var" / "overnight.db")) as database, database:
        database.execute("UPDATE occurrence SET reason = 'replaced by a newer one'")
        database.execute("UPDATE item SET state = 'pending'")
    reading, writing = os.pipe()
    process = run_of(place, "work", "--yes", "--occurrence", row["id"], stderr=writing)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert "is not to be run any more: replaced by a newer one" in said.read()
    assert process.wait(60) == 4
    assert len(place.done()) == 2


def _one_after_the_other(place: Place) -> None:
    runs = sorted((row["started_at"], row["ended_at"]) for row in place.rows(run, job="work") if row["ended_at"])
    assert all(ended <= following for (_, ended), (following, _) in pairwise(runs))


def test_a_job_paused_while_serve_goes_on_is_left_out_until_it_is_resumed(place: Place) -> None:
    place.write(work="every: 2s, params: { items: 1 }")
    serve = place.serve()
    wait_until(place.done, "the first run")
    place.call("pause", "work", "--reason", "on holiday")
    wait_until(lambda: place.rows(occurrence, state="skipped", reason="paused: on holiday"), "one that is left out")
    place.call("resume-job", "work")
    left_out = {row["slot"] for row in place.rows(occurrence, state="skipped")}
    newest = max(left_out)
    wait_until(lambda: any(one.slot > newest for one in place.done()), "a run after that")
    assert end(serve) == 0
    assert not left_out & {one.slot for one in place.done()}


def test_nobody_left_to_read_the_output_is_no_reason_to_stop(place: Place) -> None:
    place.write(work='at: "07:00", params: { items: 5 }')
    reading, writing = os.pipe()
    process = run_of(place, "work", "--slot", SLOT, stdout=writing, stderr=writing)
    os.close(writing)
    os.close(reading)
    assert process.wait(60) == 0
    assert len(place.done()) == 5
    assert [row["status"] for row in place.rows(run)] == ["ok"]


def test_a_port_that_is_taken_is_told_and_the_jobs_run(place: Place) -> None:
    due_once(place, work="params: { items: 2 }")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with (place.root / "stderr").open("w") as stderr:
            serve = subprocess.Popen([COMMAND, "serve", "--port", port], cwd=place.root, stderr=stderr, stdout=stderr)
        place.processes.append(serve)
        wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the run")
        assert end(serve) == 0
    [told] = [line for line in place.log() if line["message"] == "the page is not served"]
    assert (told["level"], told["url"]) == ("warning", f"http://127.0.0.1:{port}")


def test_a_schedule_that_is_broken_while_serve_goes_on_is_told_and_the_one_before_stays(place: Place) -> None:
    place.write(work="every: 2s, params: { items: 1 }")
    good = (place.root / "schedule.yaml").read_text()
    serve = place.serve()
    wait_until(place.done, "the first run")
    (place.root / "schedule.yaml").write_text(good.replace("every: 2s", "evry: 2s"))
    wait_until(lambda: place.health()[1]["checks"]["schedule"]["status"] == "degraded", "health to tell it")
    assert "did you mean 'every'?" in place.health()[1]["checks"]["schedule"]["output"]
    before = len(place.done())
    wait_until(lambda: len(place.done()) >= before + 3, "further runs, by the schedule before")
    (place.root / "schedule.yaml").write_text(good.replace("items: 1", "items: 2"))
    wait_until(lambda: place.health()[1]["checks"]["schedule"]["status"] == "healthy", "health to be well again")
    wait_until(lambda: Counter(one.slot for one in place.done()).most_common(1)[0][1] == 2, "the mended one")
    assert end(serve) == 0
