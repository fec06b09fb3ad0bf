"""The model's faults as a whole night meets them: what the items become, what the bill says, who is told.

Each fault alone is in tests/unit/test_api_faults.py; here stands only what shows from end to end.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.acceptance.conftest import ModelBooks, Project, wait_until

pytestmark = pytest.mark.slow

DATE = "2026-11-22"
RUN = ("run", "nightly_agents", "--date", DATE)
LIMITS = "requests: 50/min, input_tokens: 40k/min, output_tokens: 8k/min"
KEY = "sham-key-of-a-test"

SUMMARY = '''
"""Sum up many stories; more than one answer can hold."""

from overnight import Run, job

STORIES = [f"Story {number} tells of the rain." for number in range(8)]


@job
async def summary(slot: str, run: Run) -> list[str]:
    """One line a story."""
    answer = await run.agent("analyst", data={"stories": STORIES}, output=list[str], split="stories")
    return [answer.source, *answer.value]
'''


@pytest.fixture
def site(project: Project, fake_model: ModelBooks) -> Project:
    """A project whose model is the fake, with roomy limits."""
    project.env |= fake_model.env
    project.schedule(LIMITS, "requests: 5000/min")
    return project


def queue(project: Project, *titles: str) -> None:
    """Put these tasks, and no others, into the queue."""
    lines = [json.dumps({"role": "analyst", "title": title, "body": "Look."}) for title in titles]
    (project.root / "content" / "tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def states(project: Project) -> dict[str, tuple[str, str | None]]:
    """State and error code of each task of the last run's slot, by title."""
    titles = {task["id"]: task["title"] for task in project.json("tasks", "list")}
    items = project.json("show", "--all", "nightly_agents")["items"]
    return {titles[item["key"]]: (item["state"], item["error_code"]) for item in items}


def alerts(project: Project) -> list[str]:
    """What the operators were mailed."""
    return [str(mail["Subject"]) for mail in project.outbox("alert")]


def test_a_question_that_is_too_long_is_asked_in_parts_and_no_part_is_paid_twice(
    site: Project, fake_model: ModelBooks
) -> None:
    (site.root / "jobs" / "summary.py").write_text(SUMMARY, encoding="utf-8")
    site.schedule("  hello: #", "  summary: { every: 1d }\n  hello: #")
    cut = {"match": {"contains": "Story 3 tells of the rain.\nStory 4"}, "fault": {"kind": "max_tokens"}}
    hanging = {"match": {"contains": "Story 7"}, "fault": {"kind": "hang"}}
    fake_model.faults(cut, hanging)
    process = site.start("run", "summary", "--date", DATE)
    wait_until(lambda: len(fake_model.bill()) == 3, "the whole, its first half, and the second, which hangs")
    site.kill(process)
    fake_model.faults(cut)
    ended = site.json("run", "summary", "--date", DATE)
    bill = fake_model.bill()
    assert len(bill) == 4, "only the second half was asked for again"
    [item] = site.json("show", "--all", "summary")["items"]
    result = json.loads(site.json("show", "summary", item["key"])["item"]["result"])
    assert result[0] == "model"
    assert [line.split()[1] for line in result[1:]] == ["0", "4"], "the fake quotes the first story of each half"
    assert ended["items"]["ok"] == 1
    booked = site.json("show", "summary")["slot"]["cost_nano"]
    assert booked >= sum(entry["cost_nano"] for entry in bill)


def test_a_wrong_key_stops_the_job_at_once_with_one_alert(project: Project, fake_model: ModelBooks) -> None:
    """With the limits of the project, which let through a few requests at a time."""
    project.env |= fake_model.env
    titles = [f"Task {number}" for number in range(12)]
    queue(project, *titles)
    fake_model.faults({"fault": {"kind": "status", "code": 401}})
    ended = project.json(*RUN, code=1)
    assert (ended["status"], ended["items"]["failed"]) == ("stopped", 0)
    assert "check ANTHROPIC_API_KEY" in ended["reason"]
    assert set(fake_model.requests()) == {"401"}
    assert fake_model.requests()["401"] <= 8, "as many as are worked on at a time"
    assert project.json("show", "nightly_agents")["slot"]["pending"] == 12
    assert len(alerts(project)) == 1
    assert fake_model.bill() == []


def test_a_key_that_was_pasted_with_quotes_works_is_warned_about_and_never_shown(
    site: Project, fake_model: ModelBooks
) -> None:
    queue(site, "Task")
    said = site.run("-v", *RUN, env={"ANTHROPIC_API_KEY": f' "{KEY}"\n', "LOG_LEVEL": "debug"})
    assert said.code == 0
    warnings = [line["message"] for line in site.log() if line["level"] == "warning"]
    assert len([each for each in warnings if "ANTHROPIC_API_KEY has blanks or quotes" in each]) == 1
    files = [path.read_bytes() for path in (site.root / "var").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in [*files, said.text.encode()])
    assert len(fake_model.bill()) == 1


def test_the_log_has_no_line_of_the_http_library_for_a_request(site: Project, fake_model: ModelBooks) -> None:
    queue(site, "Task")
    assert site.run(*RUN).code == 0
    assert len(fake_model.bill()) == 1
    assert {line.get("logger") for line in site.log()} == {None}


def once(kind: str, **more: Any) -> dict[str, Any]:
    return {"fault": {"kind": kind, **more}, "times": 1}


def ever(kind: str, **more: Any) -> dict[str, Any]:
    return {"fault": {"kind": kind, **more}}


# fault -> state and code of its item, and how often it is asked; all in one run
ROWS: dict[str, tuple[Mapping[str, Any], str, str | None, int]] = {
    "error 500 once": (once("status", code=500), "ok", None, 2),
    "overload once": (once("status", code=529), "ok", None, 2),
    "a page once": (once("html"), "ok", None, 2),
    "half a message once": (once("bad_json"), "ok", None, 2),
    "cut in the body once": (once("drop_body"), "ok", None, 2),
    "another shape once": (once("schema_violation"), "ok", None, 2),
    "another shape ever": (ever("schema_violation"), "failed", "schema", 2),
    "a refusal": (ever("refusal"), "failed", "refusal", 1),
    "an answer cut off": (ever("max_tokens"), "failed", "truncated", 2),
    "a bad request": (ever("status", code=400), "failed", "http_400", 1),
    "too large": (ever("status", code=413), "failed", "http_413", 1),
    "nothing wrong": (once("status", code=500) | {"match": {"contains": "nobody"}}, "ok", None, 1),
}


def test_each_fault_is_the_business_of_its_own_item(site: Project, fake_model: ModelBooks) -> None:
    queue(site, *ROWS)
    site.schedule("    overlap: queue\n", "    overlap: queue\n    concurrency: 1\n")
    fake_model.faults(*({"match": {"contains": title}, **rule} for title, (rule, *_) in ROWS.items()))
    ended = site.json(*RUN, code=3)
    assert states(site) == {title: (state, code) for title, (_, state, code, _) in ROWS.items()}
    assert sum(fake_model.requests().values()) == sum(asked for *_, asked in ROWS.values())
    assert (ended["items"]["ok"], ended["items"]["failed"]) == (7, 5)
    billed = sum(entry["cost_nano"] for entry in fake_model.bill())
    booked = site.json("show", "nightly_agents")["slot"]["cost_nano"]
    assert booked > billed, "what was lost on the way stays charged at its worst"


def test_a_line_that_is_dead_for_a_while_loses_nothing_and_the_slot_is_finished_later(
    site: Project, fake_model: ModelBooks
) -> None:
    titles = [f"Task {number}" for number in range(10)]
    queue(site, *titles)
    fake_model.faults({"fault": {"kind": "drop_before_accept"}})
    ended = site.json(*RUN, code=3)
    assert (ended["items"]["retry"], ended["items"]["failed"]) == (10, 0)
    assert fake_model.requests()["dropped"] <= 12, "five in a row open the breaker; what was on its way is not stopped"
    fake_model.faults()
    site.let_time_pass()
    site.run(*RUN)  # one probes, the others do not wait for it
    site.let_time_pass()
    site.json(*RUN)
    assert Counter(state for state, _ in states(site).values()) == {"ok": 10}
    assert len(fake_model.bill()) == 10


def test_a_spent_budget_is_told_once_and_outlives_the_process(site: Project, fake_model: ModelBooks) -> None:
    site.schedule("per_day: $10", "per_day: $0.0006")
    queue(site, *(f"Task {number}" for number in range(5)))
    ended = site.json(*RUN, code=3)
    billed = sum(entry["cost_nano"] for entry in fake_model.bill())
    asked = len(fake_model.bill())
    assert 0 < asked < 5
    assert ended["items"]["skipped"] == 5 - asked
    assert billed <= 600_000
    told = alerts(site)
    again = site.json("retry", "nightly_agents", code=3)
    assert again["items"]["skipped"] == 5 - asked
    assert len(fake_model.bill()) == asked
    assert alerts(site) == told
