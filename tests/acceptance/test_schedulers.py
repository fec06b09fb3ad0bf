"""Two and five schedulers on one ledger: each of 200 occurrences is run once, by the job's books and by the rows."""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from overnight.ledger import Ledger
from overnight.occurrences import register
from overnight.schedule import load
from tests.acceptance.conftest import HERE, environment
from tests.acceptance.serving import wait_until

pytestmark = pytest.mark.slow

JOBS = [f"job{number}" for number in range(10)]
EACH = 20  # occurrences of each job
LONG = 240  # seconds; a machine of its own needs 15
CODE = """
import os

from overnight import Run, job


@job
async def NAME(slot: str, run: Run) -> None:
    book = os.open("book", os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # the other side: no lock, no ledger
    os.write(book, f"{run.job} {run.slot} {os.getpid()}\\n".encode())
    os.close(book)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A project with EACH occurrences due of each of its jobs, and with no report to write."""
    (tmp_path / "jobs").mkdir()
    entries = [f"  {name}: {{ every: 12h, catch_up: all, max_age: 30d }}\n" for name in JOBS]
    (tmp_path / "schedule.yaml").write_text("version: 1\nbudget: { per_day: $1 }\njobs:\n" + "".join(entries))
    for name in JOBS:
        (tmp_path / "jobs" / f"{name}.py").write_text(CODE.replace("NAME", name))
    schedule = load(tmp_path / "schedule.yaml", {})
    now = datetime.now(UTC)
    last = now.replace(hour=now.hour // 12 * 12, minute=0, second=0, microsecond=0)
    ledger = Ledger.open(schedule.ledger, root=tmp_path)
    since = last - timedelta(hours=12 * EACH) + timedelta(seconds=1)
    ledger.writing(lambda connection: register(connection, schedule.listed(), since))
    ledger.close()
    return tmp_path


@contextmanager
def scheduler(site: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A scheduler that is asked to end at the end of the block."""
    command = [sys.executable, str(HERE / "schedulers.py"), *arguments]
    with (site / "stderr").open("ab") as stderr:
        process = subprocess.Popen(command, cwd=site, env=environment(site), stdout=stderr, stderr=stderr)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def book(site: Path) -> list[tuple[str, str]]:
    """What the jobs have noted of themselves: job and slot."""
    file = site / "book"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(job, slot) for job, slot, _pid in map(str.split, lines)]


def asked(site: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(site / "var" / "overnight.db")) as connection:
        return connection.execute(query).fetchall()


def all_ran(site: Path) -> bool:
    [(found, ran)] = asked(site, "SELECT count(*), count(*) FILTER (WHERE state = 'ran') FROM occurrence")
    return ran == found and found >= len(JOBS) * EACH  # more when it is noon or midnight just now


def require_once(site: Path) -> None:
    """Compare both books: 200 lines, 200 occurrences, none twice."""
    noted = book(site)
    assert len(noted) >= len(JOBS) * EACH
    assert max(Counter(noted).values()) == 1
    occurrences = asked(site, "SELECT job, slot, state FROM occurrence")
    assert Counter(occurrences) == {(job, slot, "ran"): 1 for job, slot in noted}
    items = asked(site, "SELECT job, slot, state FROM item")
    assert Counter(items) == {(job, slot, "ok"): 1 for job, slot in noted}


def test_two_schedulers_run_each_of_200_occurrences_once(site: Path) -> None:
    with scheduler(site, "serve", "--port", "0"), scheduler(site, "serve", "--port", "0"):
        wait_until(lambda: all_ran(site), "200 occurrences", LONG)
    require_once(site)
    runs = asked(site, "SELECT job, slot, status, kind FROM run")
    assert Counter(runs) == {(job, slot, "ok", "scheduled"): 1 for job, slot in book(site)}


def test_five_schedulers_and_a_tick_do_and_one_killed_in_the_middle_changes_nothing(site: Path) -> None:
    with ExitStack() as stack:
        serving = [stack.enter_context(scheduler(site, "serve", "--port", "0")) for _ in range(5)]
        stack.enter_context(scheduler(site, "tick"))
        wait_until(lambda: len(book(site)) >= 60, "the first 60 occurrences", LONG)
        serving[0].send_signal(signal.SIGKILL)
        wait_until(lambda: all_ran(site), "200 occurrences", LONG)
    require_once(site)
