"""Two nights of agents with a kill, refusals, an edited prompt and retries: our accounts against the model's bill."""

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.conftest import ModelBooks, Project, text_of, wait_until

pytestmark = pytest.mark.slow

PAGING, ZONES = "Review: paging of the archive", "Review: time zone of the event calendar"
READERS, LETTERS = "Why do readers leave in the third week?", "Sort last week's letters by subject"
RIDDLE, ADDED = "A question without data", "Why is the cinema page old?"
REFUSED = {"match": {"contains": RIDDLE}, "fault": {"kind": "refusal"}}
INVALID = {"match": {"contains": READERS}, "fault": {"kind": "status", "code": 400}}
HANGING = {"match": {"contains": PAGING}, "fault": {"kind": "hang"}, "times": 1}

TODAY = datetime.now(UTC).date()
NIGHT_1, NIGHT_2 = ((TODAY - timedelta(days=days)).isoformat() for days in (2, 1))


class Nights:
    """The project with its books, by the titles of the tasks."""

    def __init__(self, project: Project, model: ModelBooks) -> None:
        self.project, self.model = project, model

    def shown(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Of each task of the run's slot: the item with its calls."""
        titles = {task["id"]: task["title"] for task in self.project.json("tasks", "list")}
        items = self.project.json("show", run_id)["items"]
        return {titles[item["key"]]: self.project.json("show", run_id, item["key"]) for item in items}

    def states(self, run_id: str) -> dict[str, tuple[str, str | None]]:
        """State and error code of each task."""
        titles = {task["id"]: task["title"] for task in self.project.json("tasks", "list")}
        items = self.project.json("show", run_id)["items"]
        return {titles[item["key"]]: (item["state"], item["error_code"]) for item in items}

    def asked(self, *arguments: str, code: int) -> tuple[Any, Counter[str]]:
        """Call the command; its document, and how the model answered the questions that it led to."""
        before = Counter(self.model.requests())
        document = self.project.json(*arguments, code=code)
        return document, Counter(self.model.requests()) - before

    def digest(self, slot: str) -> list[str]:
        """The lines of the operators' mail."""
        self.project.json("run", "metrics_digest", "--date", slot)
        [mail] = self.project.outbox(f"metrics_digest/{slot}")
        return [" ".join(line.split()) for line in text_of(mail).splitlines()]


def _dollars(nano: int) -> str:
    return f"${Decimal(nano).scaleb(-9):.4f}"


def test_kill_retry_edit_retry_and_the_next_night(project: Project, fake_model: ModelBooks) -> None:
    project.env |= fake_model.env
    project.schedule("requests: 50/min, input_tokens: 40k/min, output_tokens: 8k/min", "requests: 5000/min")
    project.schedule("narrative: analyst", 'narrative: ""')  # the bill is to be that of the tasks alone
    nights = Nights(project, fake_model)

    # Night 1: one question hangs, one is answered with 400, one the model will not answer; then the process is killed.
    fake_model.faults(HANGING, INVALID, REFUSED)
    process = project.start("run", "nightly_agents", "--date", NIGHT_1)
    wait_until(lambda: len([line for line in project.log() if line["message"] == "task ended"]) == 4, "four tasks")
    wait_until(lambda: [entry for entry in fake_model.bill() if not entry["delivered"]], "the question that hangs")
    project.kill(process)

    # Retried: what was cut off is done, the two troubled ones fail again, nothing else is asked.
    fake_model.faults(INVALID, REFUSED)
    retried, asked = nights.asked("retry", "nightly_agents", code=3)
    assert asked == {"200": 2, "400": 1}
    assert nights.states(retried["run_id"]) == {
        PAGING: ("ok", None),
        ZONES: ("ok", None),
        LETTERS: ("ok", None),
        READERS: ("failed", "http_400"),
        RIDDLE: ("failed", "refusal"),
    }
    runs = project.json("runs", "--job", "nightly_agents")
    assert [(run["kind"], run["status"]) for run in runs] == [("retry", "partial"), ("manual", "interrupted")]
    first = project.json("show", retried["run_id"])["slot"]["cost_nano"]
    lines = nights.digest(NIGHT_1)
    assert any(line.startswith("nightly_agents 3 of 5 60 %") for line in lines), lines
    assert any(line.startswith(f"Cost {_dollars(first)} ") for line in lines), lines
    assert any(line.startswith("Runs 2 1 interrupted, 1 partial") for line in lines), lines
    assert {"1 http_400 nightly_agents NEW", "1 refusal nightly_agents NEW"} <= set(lines)

    # An edited prompt is a new question, to unfinished tasks only.
    project.edit("templates/roles/analyst.md.j2", "Write two sentences.", "Write at most two sentences.")
    edited, asked = nights.asked("retry", "nightly_agents", code=1)
    assert asked == {"200": 1, "400": 1}
    assert edited["items"] == {"total": 2, "ok": 0, "failed": 2, "retry": 0, "skipped": 0, "unknown": 0}

    # One fault is over: that task is done, and the finished ones are still not asked again.
    fake_model.faults(REFUSED)
    mended, asked = nights.asked("retry", "nightly_agents", code=3)
    assert asked == {"200": 2}
    assert mended["items"] == {"total": 2, "ok": 1, "failed": 1, "retry": 0, "skipped": 0, "unknown": 0}
    of_night_1 = nights.shown(mended["run_id"])
    assert len({call["hash"] for call in of_night_1[READERS]["calls"]}) == 2, "before and after the edit"

    # The next night: what failed is tried again, together with what is new.
    fake_model.faults()
    project.json("tasks", "add", ADDED, "--role", "analyst", "--body", "It shows the films of last month.")
    night_2, asked = nights.asked("run", "nightly_agents", "--date", NIGHT_2, code=0)
    assert asked == {"200": 2}
    assert nights.states(night_2["run_id"]) == {RIDDLE: ("ok", None), ADDED: ("ok", None)}
    again, asked = nights.asked("run", "nightly_agents", "--date", NIGHT_2, code=0)
    assert (again["items"]["total"], asked) == (0, {})

    of_night_2 = nights.shown(night_2["run_id"])
    calls = [call for shown in (*of_night_1.values(), *of_night_2.values()) for call in shown["calls"]]
    _agree(project, calls, fake_model.bill())
    lines = nights.digest(NIGHT_2)
    assert any(line.startswith("nightly_agents 6 of 7 85.7 %") for line in lines), lines
    assert any(
        line.startswith(f"Cost {_dollars(sum(call['cost_nano'] for call in calls) - first)} ") for line in lines
    ), lines
    assert "1 refusal nightly_agents" in lines
    assert not any("http_400" in line for line in lines), "that one is done by now"


def _agree(project: Project, calls: list[dict[str, Any]], bill: list[dict[str, Any]]) -> None:
    """Compare every call with its line of the bill, and slots, runs and reports with the sum of the calls."""
    billed = {entry["request_id"]: entry["cost_nano"] for entry in bill if entry["delivered"]}
    booked = {call["request_id"]: call["cost_nano"] for call in calls if call["request_id"]}
    assert booked == billed
    cut_off = [entry for entry in bill if not entry["delivered"]]
    unknown = [call for call in calls if call["status"] == "unknown"]
    assert len(unknown) == len(cut_off) == 1
    assert unknown[0]["cost_nano"] >= cut_off[0]["cost_nano"], "it may have been charged: it stays charged at its worst"
    assert {call["cost_nano"] for call in calls if not call["request_id"] and call["status"] == "failed"} == {0}

    total = sum(billed.values()) + unknown[0]["cost_nano"]
    runs = project.json("runs", "--job", "nightly_agents")
    assert sum(run["cost_nano"] for run in runs) == total
    slots = {run["slot"]: project.json("show", run["id"])["slot"]["cost_nano"] for run in runs}
    assert sum(slots.values()) == total
    rows = _report(project, "cost")
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(total).scaleb(-9)
    assert sum(int(row["calls"]) for row in rows) == len(calls)
    rates = [row for row in _report(project, "success_rate") if row["job"] == "nightly_agents"]
    outcomes = [(row["slot"], row["items_ok"], row["items_failed"]) for row in rates]
    assert sorted(outcomes) == [(NIGHT_1, "4", "1"), (NIGHT_2, "2", "0")]


def _report(project: Project, name: str) -> list[dict[str, str]]:
    """The rows of all days of a report."""
    files = sorted((project.root / "var" / "reports" / f"report={name}").glob(f"date=*/{name}-*.csv"))
    assert files, f"there is no report {name}"
    rows: list[dict[str, str]] = []
    for file in files:
        with file.open(encoding="utf-8", newline="") as text:
            rows.extend(csv.DictReader(text))
    return rows
