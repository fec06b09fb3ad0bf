"""`serve` killed with SIGKILL at random instants, alone or with all it has begun, over and over: each mail once."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from overnight.ledger import Ledger
from overnight.occurrences import register
from overnight.schedule import load
from tests.acceptance.conftest import Project
from tests.acceptance.serving import wait_until
from tests.acceptance.test_kill_points import newspaper

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of another one in /proc"),
]

DAYS = 16
PEOPLE = [f"reader{number:02}@example.org" for number in range(24)]
LONG = 120  # seconds; a machine of its own needs two


def overdue(project: Project) -> list[str]:
    """An edition for each of the last days, all of which a scheduler has still to run, one after the other."""
    now = datetime.now(UTC)
    first = (now - timedelta(days=DAYS)).date()
    days = newspaper(project, DAYS, first)
    project.schedule("    concurrency: 4", "    catch_up: all\n    max_age: 60d\n    concurrency: 4")
    project.schedule("window: 1d", "window: 60d")  # the first edition to be made need not be the first of all
    schedule = load(project.root / "schedule.yaml", {})
    ledger = Ledger.open(schedule.ledger, root=project.root)
    mine = {"daily_email": schedule.listed()["daily_email"]}
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    ledger.writing(lambda connection: register(connection, mine, since))
    ledger.close()
    return days


def slots(project: Project, *states: str) -> set[str]:
    """The slots of the job whose occurrence is in one of these states."""
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection:
        rows = connection.execute("SELECT slot, state FROM occurrence WHERE job = 'daily_email'").fetchall()
    return {slot for slot, state in rows if state in states}


def begun_by(process: "subprocess.Popen[str]") -> list[int]:
    """The processes that this one, which is stopped, has begun."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]


def kill(process: "subprocess.Popen[str]", *, whole: bool) -> None:
    """End it as a machine does that is out of memory, or as `systemctl kill` does with all it has begun."""
    process.send_signal(signal.SIGSTOP)
    for pid in begun_by(process) if whole else ():
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def told(mail: EmailMessage, days: list[str]) -> list[tuple[str, str]]:
    """Whom a mail tells the news of which days."""
    text = mail.get_body(("plain",))
    assert text is not None
    body, who = text.get_content(), str(mail["To"]).rpartition("<")[2].rstrip(">")
    return [(who, day) for day in days if f"News of {day}" in body]


def _another(project: Project, known: set[str]) -> set[str]:
    return slots(project, "claimed", "ran") - known


def test_serve_killed_at_any_instant_with_or_without_its_runs_tells_everybody_everything_once(project: Project) -> None:
    days = overdue(project)
    chance, kills = random.Random(20261130), Counter[bool]()  # noqa: S311  which instants, not which secrets
    died: set[str] = set()
    while set(days) - slots(project, "ran") - died:
        known = slots(project, "ran") | died
        serve = project.start("serve", "--port", "0")
        wait_until(partial(_another, project, known), "another edition", LONG)
        time.sleep(chance.uniform(0, 0.9))
        whole = chance.random() < 0.6
        died |= slots(project, "claimed") if whole else set()  # a slot that dies three times is left to the operator
        kill(serve, whole=whole)
        kills[whole] += 1
    serve = project.start("serve", "--port", "0")
    wait_until(lambda: slots(project, "ran") >= set(days), "the last edition", LONG)
    serve.terminate()
    assert serve.wait(60) == 0

    assert min(kills[True], kills[False]) >= 3, kills
    mails = project.outbox("daily_email")
    assert Counter(pair for mail in mails for pair in told(mail, days)) == dict.fromkeys(product(PEOPLE, days), 1)
    assert len({mail["Message-ID"] for mail in mails}) == len(mails)
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection:
        query = "SELECT state, count(*) FROM item WHERE job = 'daily_email' GROUP BY state"
        states = dict(connection.execute(query).fetchall())
    # an edition that comes before what was left of an older one brings the news of both
    assert states.pop("ok") == len(mails)
    assert states.keys() <= {"skipped"}
