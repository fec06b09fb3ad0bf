"""Let `overnight serve` live for a while with a job every minute, reloads, broken files and killed runs; see README.md.

`soak.py [--minutes 15] [--every 60]` prints a line a minute and ends with 1 when an occurrence was missed, an item
was lost or done twice without having been killed, a reload was not seen, or memory grew.
"""

import argparse
import itertools
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

OVERNIGHT = Path(sys.executable).parent / "overnight"
MOST_GROWTH = 4.0  # MiB between the second third of the time and the last; measured noise is below 1
BEHIND = timedelta(minutes=3)  # how long an occurrence may wait for one whose process was killed before it
JOB = """
import os

from overnight import Run, job


@job(items=lambda _run: ["a", "b", "c"], concurrency=2)
async def beat(name: str, run: Run) -> None:
    with (run.root / "done").open("a") as file:
        file.write(f"{run.slot} {name} {os.getpid()}\\n")
"""
SCHEDULE = """version: 1
drain: 5s
channels: {{ ops: {{ email: [ops@example.org] }} }}
alerts: {{ to: [ops], missed: {{ after: 30s }} }}
jobs:
  beat: {{ every: {every}s, overlap: queue, catch_up: all, params: {{ edition: {edition} }} }}
"""
LOST = """SELECT slot, key, state FROM item
WHERE state != 'ok' AND slot IN (SELECT slot FROM occurrence WHERE state = 'ran')"""


@dataclass
class Soak:
    """A project, its `serve`, and what was seen of it."""

    root: Path
    every: int
    reloads: int = 0
    broken: int = 0
    killed: set[int] = field(default_factory=set)
    rss: list[float] = field(default_factory=list)
    sick: list[str] = field(default_factory=list)

    def write(self, edition: int) -> None:
        (self.root / "schedule.yaml").write_text(SCHEDULE.format(every=self.every, edition=edition))

    def log(self) -> list[dict[str, object]]:
        file = self.root / "var" / "log" / "overnight.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def url(self) -> str:
        return next((str(line["url"]) for line in self.log() if line["message"] == "serving"), "")

    def health(self) -> str:
        try:
            with urllib.request.urlopen(f"{self.url()}/api/health", timeout=10) as answer:  # noqa: S310
                return str(json.load(answer)["status"])
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error)["status"])

    def resident(self, pid: int) -> float:
        """MiB."""
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def kill_a_run(self, serve: int) -> bool:
        """End a run of our `serve`, if one is going on, as the system would for want of memory."""
        children = Path(f"/proc/{serve}/task/{serve}/children").read_text().split()
        for child in map(int, children[:1]):
            self.killed.add(child)
            os.kill(child, signal.SIGKILL)
            return True
        return False

    def live(self, seconds: float) -> None:
        self.write(0)
        with (self.root / "stderr").open("w") as stderr:
            command = [str(OVERNIGHT), "serve", "--port", "0"]
            serve = subprocess.Popen(command, cwd=self.root, stdout=stderr, stderr=stderr)
        try:
            while not self.url():
                time.sleep(0.1)
            self._rounds(serve.pid, seconds)
        finally:
            serve.send_signal(signal.SIGTERM)
            code = serve.wait(60)
        if code:
            self.sick.append(f"serve ended with {code}")

    def _rounds(self, pid: int, seconds: float) -> None:
        started, n = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            n += 1
            if n % 5 == 0:
                self.broken += 1
                (self.root / "schedule.yaml").write_text("jobs: [this is no schedule\n")
                time.sleep(min(5.0, seconds / 4))
            self.reloads += 1
            self.write(n)
            killed_here = False
            until = min(time.monotonic() + max(self.every, 3), started + seconds)
            while time.monotonic() < until:
                self.rss.append(self.resident(pid))
                if n % 3 == 0 and len(self.killed) < n // 3 and not killed_here:
                    killed_here = self.kill_a_run(pid)
                time.sleep(0.5)
            print(f"{time.monotonic() - started:6.0f} s  RSS {self.rss[-1]:.1f} MiB  {self.health()}", flush=True)

    def found(self) -> list[str]:
        """What went wrong."""
        return [*self.sick, *self._missed(), *self._items(), *self._reloads(), *self._memory()]

    def _missed(self) -> list[str]:
        with closing(sqlite3.connect(self.root / "var" / "overnight.db")) as ledger:
            rows = ledger.execute("SELECT scheduled_for, state FROM occurrence ORDER BY 1").fetchall()
        times = [datetime.fromisoformat(at) for at, _ in rows]
        step = timedelta(seconds=self.every)
        gaps = [f"nothing between {a} and {b}" for a, b in itertools.pairwise(times) if b - a != step]
        old = [row for row, at in zip(rows, times, strict=True) if at < times[-1] - BEHIND]
        open_ = [f"{at} is still {state}" for at, state in old if state in ("queued", "claimed")]
        return gaps + open_ + [f"{at} {state}" for at, state in rows if state in ("missed", "skipped")]

    def _items(self) -> list[str]:
        file = self.root / "done"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        times = Counter((slot, name) for slot, name, _ in lines)
        by_killed = {(slot, name) for slot, name, pid in lines if int(pid) in self.killed}
        with closing(sqlite3.connect(self.root / "var" / "overnight.db")) as ledger:
            lost = [f"{slot} {key} is {state}" for slot, key, state in ledger.execute(LOST)]
        twice = [(at, n) for at, n in times.items() if n > 1 and at not in by_killed]
        return lost + [f"{' '.join(at)} was done {n} times" for at, n in twice]

    def _reloads(self) -> list[str]:
        seen = [line for line in self.log() if "read again" in str(line["message"])]
        return [] if len(seen) >= self.reloads * 0.8 else [f"{len(seen)} of {self.reloads} reloads were seen"]

    def _memory(self) -> list[str]:
        third = len(self.rss) // 3
        middle, last = statistics.median(self.rss[third : 2 * third]), statistics.median(self.rss[2 * third :])
        print(f"RSS: {middle:.1f} MiB in the second third, {last:.1f} MiB in the last")
        return [f"memory grew from {middle:.1f} to {last:.1f} MiB"] if last - middle > MOST_GROWTH else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--every", type=int, default=60, help="seconds between two occurrences")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("jobs", "templates"):
            (root / folder).mkdir()
        (root / "jobs" / "beat.py").write_text(JOB)
        for part in ("subject", "txt"):
            (root / "templates" / f"alert.{part}.j2").write_text("{{ changes[0].line }}\n")
        soak = Soak(root, arguments.every)
        soak.live(arguments.minutes * 60)
        found = soak.found()
        with closing(sqlite3.connect(root / "var" / "overnight.db")) as ledger:
            [(ran,)] = ledger.execute("SELECT count(*) FROM occurrence WHERE state = 'ran'").fetchall()
    faults = f"{soak.reloads} reloads, {soak.broken} broken files, {len(soak.killed)} killed runs"
    print(f"{ran} occurrences ran; {faults}")
    for problem in found:
        print(f"WRONG  {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
