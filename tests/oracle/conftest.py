"""Two workers on one ledger and the fake model with its own bill: four processes, this one included."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from overnight.ledger import Ledger

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("overnight")
PATIENCE = 120.0  # seconds for one command of a worker
TABLES = ("call", "item", "slot", "run")
JOBS = ("east", "west")

SCHEDULE = """\
version: 1
ledger: sqlite:///ledger.db
budget: {{ per_day: {cap} }}
roles: {{ witness: {{ model: [{models}], max_tokens: 900 }} }}
jobs: {{ east: {{ cron: "0 7 * * *", budget: {{ {per_run} }} }}, west: {{ cron: "0 7 * * *" }} }}
"""


def write_project(root: Path, cap: str, *, models: str = "claude-haiku-5-5", per_run: str = "") -> Path:
    """Write a project of two jobs and one role; `cap` (`$0.12`) is the day's budget."""
    (root / "templates" / "roles").mkdir(parents=True)
    (root / "templates" / "roles" / "witness.md.j2").write_text("You are a witness.")
    limited = f"per_run: {per_run}" if per_run else ""
    Ledger.open(f"sqlite:///{root}/ledger.db").close()
    (root / "schedule.yaml").write_text(SCHEDULE.format(cap=cap, models=models, per_run=limited))
    return root


class Server:
    """The fake model in its own process. Its bill is read from its file, a part at a time."""

    def __init__(self, bill: Path) -> None:
        command = [str(COMMAND), "fake-model", "--port", "0", "--bill", str(bill)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self._file = bill
        self._read = 0
        self._entries: dict[str, dict[str, Any]] = {}
        self._older: set[str] = set()
        self._before: dict[str, int] = {}

    def start(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Begin a new part of the bill, under these faults."""
        self._update()
        self._older = set(self._entries)
        self._before = self._requests()
        self._ask("faults", json.dumps(faults).encode())

    def bill(self) -> list[dict[str, Any]]:
        """Every request accepted since the start of the part."""
        self._ask("health")  # what had reached the server before has been accepted by now
        self._update()
        return [entry for name, entry in self._entries.items() if name not in self._older]

    def billed(self) -> int:
        """Their sum in nano-USD."""
        return sum(entry["cost_nano"] for entry in self.bill())

    def posts(self) -> dict[str, int]:
        """How many questions got which status since the start of the part."""
        counts = {status: count - self._before.get(status, 0) for status, count in self._requests().items()}
        return {status: count for status, count in counts.items() if count}

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _update(self) -> None:
        with self._file.open("rb") as file:
            file.seek(self._read)
            lines = file.read().rpartition(b"\n")[0]
        self._read += len(lines) + bool(lines)
        self._entries |= {entry["request_id"]: entry for entry in map(json.loads, lines.splitlines())}

    def _requests(self) -> dict[str, int]:
        counts: dict[str, int] = self._ask("requests").get("/v1/messages", {})
        return counts

    def _ask(self, what: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"{self.url}/_fake/{what}", body) as answer:  # noqa: S310  our own server
            return json.load(answer)


class Worker:
    """A worker process; `tell` sends it a command, `reply` waits for what it says."""

    def __init__(self, url: str) -> None:
        environ = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "sham-key", "ANTHROPIC_BASE_URL": url}
        command = [sys.executable, str(HERE / "worker.py")]
        self.process = subprocess.Popen(command, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a command and go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def reply(self) -> Any:
        """Wait for the reply; a worker that says nothing in time is killed, and then has said nothing."""
        assert self.process.stdout is not None
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        assert line, "the worker has died, or was stuck; its error is above"
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a command and wait for the reply."""
        self.tell(do, **arguments)
        return self.reply()

    def kill(self) -> None:
        """End it with SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        self.process.communicate()


@dataclass
class Books:
    """What our own ledger says, read by plain SQL."""

    file: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run a query."""
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(query).fetchall()

    def number(self, query: str) -> int:
        """Run a query that gives one number."""
        return int(self.rows(query)[0][0] or 0)

    def sums(self) -> dict[str, int]:
        """The same money, as each table has it; nano-USD."""
        parts = {table: f"SELECT sum(cost_nano) FROM {table}" for table in TABLES}  # noqa: S608
        parts["day"] = "SELECT sum(settled_nano) FROM budget WHERE scope LIKE 'day:%'"
        return {name: self.number(query) for name, query in parts.items()}

    def booked(self) -> int:
        """What all tables agree on; fails when they do not."""
        sums = self.sums()
        assert len(set(sums.values())) == 1, sums
        return sums["call"]

    def unknown(self) -> int:
        """How many calls have an outcome nobody knows."""
        return self.number("SELECT count(*) FROM call WHERE status = 'unknown'")

    def reserved(self) -> int:
        """What is still held back in any budget; nano-USD."""
        return self.number("SELECT sum(abs(reserved_nano)) FROM budget")


@dataclass
class Rig:
    """The server, and workers that outlive a test."""

    server: Server
    spare: list[Worker] = field(default_factory=list)

    def workers(self, count: int = 2) -> list[Worker]:
        """Give workers that wait for a command; those that were killed are replaced."""
        for worker in [worker for worker in self.spare if worker.process.poll() is not None]:
            worker.kill()
            self.spare.remove(worker)
        while len(self.spare) < count:
            self.spare.append(Worker(self.server.url))
        return self.spare[:count]

    def together(self, workers: Sequence[Worker], do: str, **arguments: Any) -> list[Any]:
        """Send one command to all, then wait for all; each is given its own value of a list."""
        for place, worker in enumerate(workers):
            own = {name: value[place] if isinstance(value, tuple) else value for name, value in arguments.items()}
            worker.tell(do, **own)
        return [worker.reply() for worker in workers]

    def close(self) -> None:
        """End all processes."""
        for worker in self.spare:
            worker.kill()
        self.server.close()


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The processes of these tests."""
    made = Rig(Server(tmp_path_factory.mktemp("server") / "bill.jsonl"))
    yield made
    made.close()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something another process does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.002)
