"""How many requests reach the server, what a kill leaves behind, and what a cap does to a job."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from overnight.budget import raise_cap
from overnight.ledger import Ledger
from tests.oracle.conftest import COMMAND, JOBS, Books, Rig, Worker, wait_until, write_project

pytestmark = pytest.mark.slow

NANO = 1_000_000_000
DAY = "day:2026-11-22"  # of the workers' clock
UNAVAILABLE = {"fault": {"kind": "status", "code": 503}}

ASK = """\
from overnight import Run, job


def names(run: Run) -> list[str]:
    return list(run.params["names"])


@job(items=names, concurrency=1)
async def east(item: str, run: Run) -> str:
    answer = await run.agent("witness", data={"name": item}, output=str)
    return answer.value
"""


def opened(rig: Rig, root: Path, **options: Any) -> Worker:
    """Give a worker with an open run of the first job."""
    [worker] = rig.workers(1)
    worker.ask("open", root=str(root), job=JOBS[0], epoch=time.time(), **options)
    return worker


def asked(rig: Rig, root: Path, fault: Mapping[str, Any], **options: Any) -> dict[str, int]:
    """Ask one question under a fault, without taking it up again; what became of it."""
    rig.server.start([fault])
    worker = opened(rig, root, **options)
    said = worker.ask("work", keys=["1"], callers=1, patience=1)
    worker.ask("close")
    ends: dict[str, int] = said["ends"]
    return ends


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
def test_a_question_that_always_fails_is_posted_as_often_as_configured(attempts: int, rig: Rig, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", "$1")
    assert asked(rig, root, UNAVAILABLE, attempts=attempts)["deferred"] == 1
    assert rig.server.posts() == {"503": attempts}
    assert Books(root / "ledger.db").booked() == rig.server.billed() == 0


FORMS = [{"retry_after": 2}, {"retry_after_ms": 1500}, {"retry_after_date": 2}]


@pytest.mark.parametrize("form", FORMS, ids=["seconds", "milliseconds", "date"])
def test_a_throttled_question_is_posted_again_and_no_more(form: dict[str, float], rig: Rig, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", "$1")
    throttled = {"fault": {"kind": "status", "code": 429, **form}}
    assert asked(rig, root, {**throttled, "times": 2})["model"] == 1
    assert rig.server.posts() == {"429": 2, "200": 1}
    other = write_project(tmp_path / "other", "$1")
    assert asked(rig, other, throttled)["deferred"] == 1
    assert rig.server.posts() == {"429": 3}


@pytest.mark.parametrize(
    "form",
    [{"retry_after": 120}, {"retry_after_ms": 120_000}, {"retry_after_date": 120}],
    ids=["seconds", "milliseconds", "date"],
)
def test_who_is_told_to_wait_for_minutes_posts_once(form: dict[str, float], rig: Rig, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", "$1")
    assert asked(rig, root, {"fault": {"kind": "status", "code": 429, **form}})["deferred"] == 1
    assert rig.server.posts() == {"429": 1}


def run_job(rig: Rig, root: Path, params: str, cap: str) -> dict[str, Any]:
    """Run the first job by the installed command; the document of `run --json`."""
    write_project(root, cap)
    (root / "jobs").mkdir()
    (root / "jobs" / "east.py").write_text(ASK)
    schedule = root / "schedule.yaml"
    more = f"params: {params}, retry: {{ attempts: 4 }} }}"
    schedule.write_text(schedule.read_text().replace("budget: {  } }", more))
    environ = {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "sham-key", "ANTHROPIC_BASE_URL": rig.server.url}
    command = [str(COMMAND), "--json", "run", "east", "--slot", "2026-11-22", "--yes"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_one_bad_item_of_a_job_costs_its_attempts_and_the_others_one_request_each(rig: Rig, tmp_path: Path) -> None:
    rig.server.start([{**UNAVAILABLE, "match": {"contains": "unlucky"}}])
    names = json.dumps({"names": ["a", "b", "unlucky", "c", "d", "e", "f"]})
    said = run_job(rig, tmp_path / "project", names, "$1")
    assert (said["items"]["ok"], said["items"]["retry"]) == (6, 1)
    assert rig.server.posts() == {"200": 6, "503": 3}, "the item's own retries do not repeat what the model call did"
    assert Books(tmp_path / "project" / "ledger.db").booked() == rig.server.billed()


def test_a_spent_cap_leaves_the_rest_skipped_and_says_why(rig: Rig, tmp_path: Path) -> None:
    rig.server.start([])
    names = json.dumps({"names": [str(number) for number in range(30)]})
    said = run_job(rig, tmp_path / "project", names, "$0.001")
    books = Books(tmp_path / "project" / "ledger.db")
    states = dict(books.rows("SELECT state, count(*) FROM item GROUP BY state"))
    assert states == {"ok": said["items"]["ok"], "skipped": said["items"]["skipped"]}
    assert states["ok"] > 0
    assert sum(states.values()) == 30
    assert books.rows("SELECT DISTINCT reason FROM item WHERE state = 'skipped'") == [("budget",)]
    assert rig.server.posts() == {"200": states["ok"]}
    assert books.booked() == rig.server.billed() <= NANO // 1000


@pytest.mark.parametrize("moment", [1, 25, 90])
def test_killed_workers_leave_no_bill_unbooked_and_what_was_paid_is_replayed(
    moment: int, rig: Rig, tmp_path: Path
) -> None:
    cap = "$0.12"
    root = write_project(tmp_path / "project", cap, per_run="$0.07")
    books = Books(root / "ledger.db")
    rig.server.start([])
    keys = [str(number) for number in range(500)]
    workers = rig.workers()
    rig.together(workers, "open", root=str(root), job=JOBS, epoch=time.time())
    for worker in workers:
        worker.tell("work", keys=keys, callers=32)
    wait_until(lambda: len(rig.server.bill()) >= moment, f"{moment} requests on the bill")
    for worker in workers:
        worker.kill()

    billed = rig.server.billed()
    sums = books.sums()
    held = sums.pop("day") + books.number("SELECT reserved_nano FROM budget WHERE scope LIKE 'day:%'")
    assert set(sums.values()) == {held}
    assert billed <= held <= 0.12 * NANO
    paid = set(books.rows("SELECT job, key FROM call WHERE status = 'ok'"))

    workers = rig.workers()
    rig.together(workers, "open", root=str(root), job=JOBS, epoch=time.time())
    said = rig.together(workers, "work", keys=keys, callers=32)
    rig.together(workers, "close")
    assert all(each["ends"]["skip_budget"] == 32 for each in said), "what the dead held back keeps nobody waiting"
    billed = rig.server.billed()
    assert billed <= books.booked() <= 0.12 * NANO
    assert books.reserved() == 0
    answers = books.rows("SELECT job, key FROM call WHERE status = 'ok'")
    assert len(answers) == len(set(answers)), "nothing was paid for twice"
    assert paid <= set(answers)
    assert sum(each["ends"].get("replayed", 0) for each in said) == len(paid)


def test_the_warning_is_given_once_a_day_by_two_processes_that_start_again(rig: Rig, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", "$0.02")
    rig.server.start([])
    epoch, warnings = time.time(), []
    for keys in (["1"], [str(number) for number in range(60)], ["70", "71"]):
        workers = rig.workers()
        rig.together(workers, "open", root=str(root), job=JOBS, epoch=epoch)
        warnings.append(sum(each["warnings"] for each in rig.together(workers, "work", keys=keys, callers=8)))
        rig.together(workers, "close")
    assert warnings == [0, 1, 0]


def test_a_raised_cap_counts_at_once_for_a_process_that_is_running(rig: Rig, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", "$0.01")
    books = Books(root / "ledger.db")
    rig.server.start([])
    worker = opened(rig, root)
    before = worker.ask("work", keys=[str(number) for number in range(60)], callers=8)
    assert before["ends"]["skip_budget"] == 8
    assert books.booked() <= NANO // 100
    ledger = Ledger.open(f"sqlite:///{root}/ledger.db")
    assert ledger.writing(lambda connection: raise_cap(connection, DAY, NANO // 100, NANO // 100)) == NANO // 50
    ledger.close()
    after = worker.ask("work", keys=[str(number) for number in range(100, 160)], callers=8)
    worker.ask("close")
    assert after["ends"]["model"] > before["ends"]["model"]
    assert NANO // 100 < books.booked() == rig.server.billed() <= NANO // 50
