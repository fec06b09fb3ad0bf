"""A run that is stopped for longer than its lease is succeeded, and writes and sends nothing when it wakes."""

import os
import signal
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE, Project, RelayBooks, wait_until

pytestmark = pytest.mark.slow

PEOPLE = [f"reader{number:02}@example.org" for number in range(60)]
RUN = ("run", "daily_email", "--date", "2026-11-22", "--yes")


def stop_in_the_middle(project: Project, relay: RelayBooks | None = None) -> "subprocess.Popen[str]":
    """Start a run, stop it as a suspended machine would, and let its lease run out.

    With a relay that holds texts it is stopped when all that was accepted is noted, and somebody waits for an answer.
    """
    process = project.start(*RUN)
    file = project.root / "var" / "overnight.db"

    def come_to() -> tuple[int, int]:
        with closing(sqlite3.connect(file)) as connection:
            done, begun = connection.execute("SELECT sum(state = 'done'), sum(state = 'intent') FROM effect").fetchone()
            return done or 0, begun or 0

    def ready() -> bool:
        if not file.exists() or not project.runs_recorded():
            return False
        done, begun = come_to()
        return done >= 5 and (relay is None or (begun > 0 and done == relay.count()))

    wait_until(ready, "five mails")
    stop(process, file)
    assert come_to()[0] < len(PEOPLE), "it was stopped too late"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE lease SET until = '2000-01-01T00:00:00.000Z'")
    return process


def stop(process: "subprocess.Popen[str]", file: Path) -> None:
    """Stop it between two transactions: within one it would hold everybody up until it is woken or killed."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it stands still
        with closing(sqlite3.connect(file, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                continue
            connection.execute("ROLLBACK")
            return


def wake(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGCONT)
    return process.wait(PATIENCE)


def test_no_mail_is_doubled_over_smtp_when_a_stopped_run_wakes(project: Project, smtp: RelayBooks) -> None:
    project.env |= {"MAIL_URL": smtp.url}
    project.schedule("smtp: { messages: 20/s }", "smtp: { messages: 1000/s }")
    project.subscribe(*PEOPLE)
    smtp.rules(hold=5)

    process = stop_in_the_middle(project, smtp)
    smtp.rules()
    project.json(*RUN, code=3)
    assert wake(process) == 4, "it says that another process has taken over"

    states = {who: item["state"] for who, item in project.states("daily_email").items()}
    open_ = {who for who, state in states.items() if state != "ok"}
    assert set(states.values()) <= {"ok", "retry", "unknown"}, "what the woken one has learned is to be taken up again"
    assert len(open_) <= 4, "no more than connections of the stopped run"
    got = Counter({who: n for who, n in smtp.recipients().items() if who in PEOPLE})
    assert max(got.values()) == 1
    assert set(PEOPLE) - set(got) <= open_
    runs = project.json("runs")
    assert [run["status"] for run in runs][:2] == ["partial", "interrupted"], "the woken one has changed no run"
    for who, item in project.states("daily_email").items():
        if states[who] == "unknown":
            project.json("settle", "daily_email", item["key"], "sent" if got[who] else "unsent")
    project.json(*RUN)
    assert {item["state"] for item in project.states("daily_email").values()} == {"ok"}
    assert Counter(who for who in smtp.recipients().elements() if who in PEOPLE) == dict.fromkeys(PEOPLE, 1)


def test_the_outbox_has_each_mail_once_when_a_stopped_run_wakes(project: Project) -> None:
    project.subscribe(*PEOPLE)
    project.schedule("concurrency: 20", "concurrency: 2")
    process = stop_in_the_middle(project)
    project.json(*RUN)
    assert wake(process) in (0, 4)

    assert {item["state"] for item in project.states("daily_email").values()} == {"ok"}
    got = Counter(str(mail["To"]).rpartition("<")[2].rstrip(">") for mail in project.outbox("daily_email"))
    assert got == dict.fromkeys(PEOPLE, 1)


def test_a_run_that_is_only_slow_is_left_in_peace(project: Project, smtp: RelayBooks) -> None:
    project.env |= {"MAIL_URL": smtp.url}
    project.subscribe(*PEOPLE[:3])
    smtp.rules(delay=1)
    process = project.start(*RUN)
    wait_until(smtp.asked, "the first mail")
    said = project.run(*RUN)
    assert said.code == 4
    assert "is being run by another process" in said.err
    assert process.wait(PATIENCE) == 0
