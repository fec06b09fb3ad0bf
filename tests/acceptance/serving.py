"""A project with schedulers of its own, and what its jobs have noted of themselves."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from overnight.ledger import Ledger
from overnight.occurrences import register
from overnight.schedule import load
from tests.slots import rows
from tests.warm import Warm

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("overnight")
HALF_DAY = timedelta(hours=12)

JOB = """
import asyncio
import os
import time

from overnight import Deferred, Run, job


@job(items=lambda run: [f"k{n:02}" for n in range(run.params.get("items", 3))], concurrency=2)
async def NAME(name: str, run: Run) -> None:
    await asyncio.sleep(run.params.get("seconds", 0))
    if run.params.get("block") and not (run.root / "unblocked").exists():
        (run.root / "blocked").write_text(str(os.getpid()))
        time.sleep(600)
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
    warm: Warm
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
        ledger = self.ledger()
        ledger.writing(lambda connection: register(connection, schedule.listed(), since))
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
        done = self.warm.call(["--json", *arguments], cwd=self.root, env=os.environ, seconds=60)
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
