"""Times and signals: an occurrence is run once by however many, missed ones are told, and a stop is no loss."""

import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.conftest import Project, RelayBooks, wait_until

pytestmark = pytest.mark.slow

PEOPLE = [f"reader{number:02}@example.org" for number in range(40)]
RUN = ("run", "daily_email", "--date", "2026-11-22", "--yes")


def _put_back(project: Project, by: timedelta) -> None:
    """Let the schedule count since earlier: it stands for the hours that a test cannot wait."""
    since = f"{datetime.now(UTC) - by:%Y-%m-%dT%H:%M:%S}.000Z"
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection, connection:
        connection.execute("UPDATE entry SET effective_since = ?", [since])


@pytest.fixture
def daily(project: Project) -> Project:
    """A project in which only `hello` runs, once a day."""
    for job in ("daily_email", "metrics_digest", "nightly_agents"):
        project.schedule(f"  {job}: #" if job == "daily_email" else f"  {job}:", f"  {job}:\n    enabled: false #")
    project.schedule("every: 1d\n    enabled: false", 'cron: "0 7 * * *"\n    enabled: true\n    max_age: 2d')
    return project


def test_five_ticks_at_once_run_an_occurrence_once(daily: Project) -> None:
    assert daily.json("tick")["runs"] == 0, "a new entry counts from now on: nothing back-dated"
    _put_back(daily, timedelta(hours=25))
    ticks = [daily.start("tick") for _ in range(5)]
    assert [tick.wait() for tick in ticks] == [0] * 5
    runs = daily.json("runs")
    assert [(run["job"], run["kind"], run["status"], run["items"]) for run in runs] == [("hello", "scheduled", "ok", 3)]
    assert daily.json("tick")["runs"] == 0


def test_an_occurrence_nobody_was_there_for_is_told_and_not_made_up_for(daily: Project) -> None:
    daily.schedule("max_age: 2d", "max_age: 1m")
    daily.json("tick")
    _put_back(daily, timedelta(hours=25))
    assert daily.json("tick")["runs"] == 0
    assert daily.json("runs") == []
    [alert] = daily.json("alerts")
    assert alert["key"] == "missed:hello"
    assert "overnight run hello --slot " in alert["message"]


def test_a_paused_job_does_not_run_until_it_is_resumed(daily: Project) -> None:
    daily.json("tick")
    daily.json("pause", "hello", "--reason", "holidays")
    _put_back(daily, timedelta(hours=25))
    assert daily.json("tick")["runs"] == 0
    [row] = daily.json("next", "hello")
    assert row["note"] == "paused: holidays"
    daily.json("resume-job", "hello")
    assert daily.json("tick")["runs"] == 0, "what it missed meanwhile is not made up for"
    assert daily.json("next", "hello")[0]["slot"]


def test_the_end_of_a_pause_says_what_passed_and_without_one_that_nothing_was_changed(daily: Project) -> None:
    daily.json("tick")
    daily.json("pause", "hello", "--reason", "holidays")
    _put_back(daily, timedelta(hours=25))
    assert len(daily.json("resume-job", "hello")["passed"]) == 1
    assert daily.json("resume-job", "hello") == {"job": "hello", "paused": False, "passed": []}
    assert "hello was not paused; nothing was changed" in daily.run("resume-job", "hello").out


def test_sigterm_lets_mails_in_flight_finish_and_a_second_run_brings_the_rest(
    project: Project, smtp: RelayBooks
) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.subscribe(*PEOPLE)
    smtp.rules(delay=0.05)
    process = project.start(*RUN)
    wait_until(lambda: smtp.count() >= 4, "a few mails")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    shown = project.json("show", "daily_email")
    assert shown["run"]["status"] == "interrupted"
    assert shown["slot"]["ok"] + shown["slot"]["pending"] == len(PEOPLE), "nothing is unknown"
    assert shown["slot"]["pending"]
    assert shown["slot"]["ok"] == sum(n for who, n in smtp.recipients().items() if who in PEOPLE)

    smtp.rules()
    assert project.json("resume", "daily_email", "--yes")["items"]["ok"] == shown["slot"]["pending"]
    assert {who: smtp.recipients()[who] for who in PEOPLE} == dict.fromkeys(PEOPLE, 1)


def test_a_dry_run_touches_nothing_real(project: Project, smtp: RelayBooks) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.subscribe(*PEOPLE[:3])
    assert project.json("run", "daily_email", "--date", "2026-11-22", "--dry-run")["items"]["ok"] == 3
    assert (smtp.count(), smtp.asked()) == (0, {})
    assert len(list((project.root / "var" / "rehearsal").rglob("*.eml"))) == 3
    assert project.json(*RUN)["items"]["ok"] == 3, "the real edition has lost no story to the rehearsal"
    assert {who: smtp.recipients()[who] for who in PEOPLE[:3]} == dict.fromkeys(PEOPLE[:3], 1)


def test_limit_and_only_leave_the_rest_for_later(project: Project) -> None:
    project.subscribe(*PEOPLE[:5])
    key = project.json("subscribers", "list")[0]["id"]
    assert project.json(*RUN, "--only", key)["items"]["ok"] == 1
    assert project.json(*RUN, "--limit", "2")["items"]["ok"] == 2
    assert project.json(*RUN)["items"]["ok"] == 2
    assert len(project.outbox("daily_email")) == 5


LETTERS = """import os
import signal
from pathlib import Path

from overnight import job

@job(items=lambda run: ["a", "b", "c"], concurrency=1)
async def letters(item: str, run) -> None:
    fault = Path(run.params["fault"])
    if item == "b" and fault.exists():
        number = int(fault.read_text())
        fault.unlink()
        os.kill(os.getpid(), number)
"""


@pytest.fixture
def letters(project: Project) -> Project:
    """A project with a job of three items, of which the second ends the process with the signal in `fault`."""
    (project.root / "jobs" / "letters.py").write_text(LETTERS, encoding="utf-8")
    fault = project.root / "fault"
    with (project.root / "schedule.yaml").open("a", encoding="utf-8") as schedule:
        schedule.write(f'\n  letters: {{ cron: "0 0 * * *", max_age: 3d, params: {{ fault: "{fault}" }} }}\n')
    return project


def _yesterday_ended(letters: Project, number: signal.Signals) -> str:
    """Run yesterday's slot by hand until it is ended so; returns it."""
    slot = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    (letters.root / "fault").write_text(str(int(number)), encoding="utf-8")
    assert letters.start("run", "letters", "--slot", slot).wait() in (-number, 130)
    return slot


@pytest.mark.parametrize(
    ("number", "enabled"), [(signal.SIGKILL, "true"), (signal.SIGTERM, "true"), (signal.SIGKILL, "false")]
)
def test_a_run_from_cron_first_goes_on_with_what_an_earlier_one_left(
    letters: Project, number: signal.Signals, enabled: str
) -> None:
    letters.schedule("max_age: 3d, params", f"max_age: 3d, enabled: {enabled}, params")
    slot = _yesterday_ended(letters, number)
    said = letters.run("--json", "run", "letters")
    assert said.code == 0, said.text
    assert said.document["slot"] > slot, "one document, of its own slot"
    assert f"letters {slot}: first what is left of it (rest)" in said.err
    runs = [(run["slot"], run["kind"], run["status"]) for run in letters.json("runs", "--job", "letters")]
    assert sorted(runs) == [
        (slot, "manual", "interrupted"), (slot, "resume", "ok"), (said.document["slot"], "manual", "ok"),
    ]  # fmt: skip
    assert "what is left" not in letters.run("run", "letters").err


def test_a_run_of_some_items_or_of_a_slot_that_was_named_goes_on_with_nothing_else(letters: Project) -> None:
    slot = _yesterday_ended(letters, signal.SIGKILL)
    for more in (("--only", "a"), ("--limit", "1"), ("--dry-run",), ("--slot", f"{datetime.now(UTC):%Y-%m-%d}")):
        assert letters.run("run", "letters", *more).code == 0
    assert [run["kind"] for run in letters.json("runs", "--job", "letters") if run["slot"] == slot] == ["manual"]


def test_a_run_from_cron_tells_of_what_an_earlier_one_left_too_long_ago(letters: Project) -> None:
    slot = _yesterday_ended(letters, signal.SIGTERM)
    letters.schedule("max_age: 3d, params", "max_age: 1h, params")
    assert letters.run("run", "letters").code == 0
    [alert] = [one for one in letters.json("alerts") if one["key"] == f"left:letters/{slot}"]
    assert f"the rest of letters {slot} is older than max_age: overnight resume r_" in alert["message"]
    assert letters.run("resume", "letters", "--yes").code == 0
    letters.run("resume", alert["message"].rpartition(" ")[2])
    letters.run("run", "letters")
    assert letters.json("alerts") == []
