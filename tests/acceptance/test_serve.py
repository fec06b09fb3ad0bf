"""`serve` and `tick` with real processes: nothing lost, nothing run twice, whoever is killed."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from overnight.ledger import Ledger
from overnight.ledger.tables import entry, item, occurrence, run
from overnight.occurrences import register
from overnight.schedule import load
from tests.slots import rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("overnight")
HALF_DAY = timedelta(hours=12)

JOB = """
import asyncio
import os

from overnight import Deferred, Run, job


@job(items=lambda run: [f"k{n:02}" for n in range(run.params.get("items", 3))], concurrency=2)
async def NAME(name: str, run: Run) -> None:
    await asyncio.sleep(run.params.get("seconds", 0))
    if run.params.get("defer") and not (run.root / "well").exists():
        raise Deferred("not yet")
    with (run.root / "done").open("a") as file:
        file.write(f"{run.job} {run.slot} {name} {os.getpid()}\\n")
"""
HEAD = """version: 1
drain: 5s
channels: { ops: { email: [ops@example.org] } }
alerts: { to: [ops] }
jobs:
"""


@dataclass(frozen=True)
class Done:
    """A line that an item has written when it was done."""

    job: str
    slot: str
    key: str
    pid: int


@dataclass
class Place:
    """A project with its schedulers."""

    root: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def write(self, **jobs: str) -> None:
        """Write schedule.yaml with these jobs and the code of each."""
        lines = "".join(f"  {name}: {{ {settings} }}\n" for name, settings in jobs.items())
        (self.root / "schedule.yaml").write_text(HEAD + lines)
        (self.root / "jobs").mkdir(exist_ok=True)
        for name in jobs:
            (self.root / "jobs" / f"{name}.py").write_text(JOB.replace("NAME", name))

    def count_since(self, since: datetime) -> None:
        """Let the jobs of schedule.yaml count from a time in the past, as if they had been known then."""
        schedule = load(self.root / "schedule.yaml", {})
        hashes = {name: (schedule.job_hash(name), True) for name in schedule.jobs}
        ledger = self.ledger()
        ledger.writing(lambda connection: register(connection, hashes, since))
        ledger.close()

    def ledger(self) -> Ledger:
        return Ledger.open("sqlite:///var/overnight.db", root=self.root)

    def rows(self, table: Any, **equal: Any) -> list[dict[str, Any]]:
        ledger = self.ledger()
        found = rows(ledger, table, **equal)
        ledger.close()
        return found

    def call(self, *arguments: str) -> Any:
        """Call the command; the JSON document."""
        done = subprocess.run(
            [COMMAND, "--json", *arguments], cwd=self.root, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout)

    def serve(self) -> "subprocess.Popen[bytes]":
        """Start a scheduler; returns when it serves."""
        before = len(self.urls())
        with (self.root / "stderr").open("a") as stderr:
            process = subprocess.Popen([COMMAND, "serve", "--port", "0"], cwd=self.root, stderr=stderr, stdout=stderr)
        self.processes.append(process)
        wait_until(lambda: len(self.urls()) > before, "serve to start")
        return process

    def urls(self) -> list[str]:
        return [line["url"] for line in self.log() if line["message"] == "serving"]

    def log(self) -> list[dict[str, Any]]:
        file = self.root / "var" / "log" / "overnight.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def done(self) -> list[Done]:
        file = self.root / "done"
        lines = file.read_text().splitlines() if file.exists() else []
        return [Done(job, slot, key, int(pid)) for job, slot, key, pid in map(str.split, lines)]

    def alerts(self) -> list[str]:
        """The mails to the operators."""
        return [path.read_text() for path in (self.root / "var" / "outbox").rglob("*.eml")]

    def health(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.urls()[-1]}/api/health", timeout=10) as answer:  # noqa: S310  our own server
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


def end(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    made = Place(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    for pid in {one.pid for one in made.done()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def due_once(place: Place, **settings: str) -> str:
    """Jobs of which exactly one occurrence is due at once, and no other for hours; returns its slot.

    `bell` rings every second and runs nothing, so that a test need not wait for the minute.
    """
    jobs = {name: f"every: 12h, max_age: 1d, {more}" for name, more in settings.items()}
    place.write(**jobs, bell="every: 1s")
    now = datetime.now(UTC)
    last = datetime(now.year, now.month, now.day, tzinfo=UTC) + HALF_DAY * (now.hour // 12)
    place.count_since(last - timedelta(seconds=1))
    place.call("pause", "bell", "--reason", "only rings")
    return f"{last:%Y-%m-%dT%H:%MZ}"


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
