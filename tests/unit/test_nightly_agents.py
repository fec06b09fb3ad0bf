"""The job that works through the queue."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.daily_email import Edition, Story
from jobs.nightly_agents import Finding, attempt, nightly_agents
from overnight.agent import Answer
from overnight.batch import Batch, Picked
from overnight.budget import BudgetExceeded
from overnight.compensation import Step
from overnight.errors import Invalid, Permanent, Skip
from overnight.jobs import Options
from overnight.ledger.tables import task
from overnight.roles import Role, Roles
from overnight.tasks import NewTask, Task, add, close, open_tasks
from tests.slots import NOW, ManualClock, Nobody, begin, open_ledger, rows, run_in


class Asked(Nobody):
    """An agent that knows one role."""

    async def ask(self, _scope: Any, role: str, **_more: Any) -> Any:
        return Roles(Path(), {"analyst": Role("analyst", ("m",))}).role(role)


@dataclass
class Prompted(Nobody):
    """An agent that reads its prompt first."""

    root: Path

    async def ask(self, _scope: Any, role: str, **_more: Any) -> Any:
        return Roles(self.root, {"analyst": Role("analyst", ("m",))}).system(role)


async def worked(folder: Path, role: str, state: str = "") -> None:
    """Work on a task that has become `state` since it was planned."""
    ledger = open_ledger(folder, ManualClock())
    try:
        run = run_in(ledger, begin(ledger), folder, asks=Asked())
        ledger.writing(lambda c: add(c, [NewTask(role=role, title="look")], "hand", NOW + timedelta(0)))
        tasks: Sequence[Task] = list(open_tasks(run))
        if state:
            ledger.writing(lambda c: close(c, tasks[0].id, state, NOW))
        await nightly_agents(tasks[0], run.for_item(tasks[0].id))
    finally:
        ledger.close()


async def test_a_role_that_nobody_plays_fails_its_own_task_only(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="did you mean 'analyst'") as failure:
        await worked(tmp_path, "analist")
    assert failure.value.code == "no_role"


async def test_a_role_without_a_prompt_fails_its_own_tasks_only_and_is_told_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    run = run_in(ledger, begin(ledger), tmp_path, asks=Prompted(tmp_path))
    ledger.writing(lambda c: add(c, [NewTask(role="analyst", title=f"look {n}") for n in range(2)], "hand", NOW))
    for queued in [*open_tasks(run)]:
        with pytest.raises(Permanent, match=r"write .*analyst\.md\.j2") as failure:
            await nightly_agents(queued, run.for_item(queued.id))
        assert failure.value.code == "no_role"
    ledger.close()
    assert [len(each) for each in run.notices.values()] == [1]


@pytest.mark.parametrize(("state", "reason"), [("done", "done already"), ("cancelled", "cancelled")])
async def test_what_is_settled_meanwhile_is_not_paid_for(tmp_path: Path, state: str, reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        await worked(tmp_path, "analyst", state)


@dataclass
class Answering(Nobody):
    """An agent that leaves something behind, and then answers or fails."""

    answer: Any
    asked: dict[str, Any] = field(default_factory=dict)
    wall: list[str] = field(default_factory=list)

    async def ask(self, _scope: Any, role: str, *, steps: Any, **more: Any) -> Any:
        self.asked = more

        async def do() -> str:
            self.wall.append(role)
            return role

        async def undo(_value: str) -> None:
            self.wall.clear()

        await steps.take(Step("write", do, undo))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Answer(self.answer, "model", "m")


FINDING = Finding("done", "All is well.", "Nothing.")


async def night(folder: Path, agent: Answering, new: NewTask) -> tuple[dict[str, Any], Any]:
    """A batch over one task; returns the task's row afterwards, and the outcome."""
    ledger = open_ledger(folder, ManualClock())
    try:
        run = run_in(ledger, begin(ledger, "nightly_agents"), folder, asks=agent)
        ledger.writing(lambda c: add(c, [new], "hand", NOW))
        outcomes: list[Any] = []
        batch = Batch(nightly_agents, run, Options(), NOW + timedelta(days=1), on_outcome=outcomes.append)
        await batch.plan()
        await batch.work(Picked())
        assert batch.stopped is None
        return rows(ledger, task)[0], outcomes[0]
    finally:
        ledger.close()


async def test_a_task_that_is_done_has_its_result(tmp_path: Path) -> None:
    agent = Answering(FINDING)
    row, outcome = await night(tmp_path, agent, NewTask(role="analyst", title="look"))
    assert (row["state"], row["attempts"], json.loads(row["result"])["summary"]) == ("done", 1, "All is well.")
    assert (outcome.state, agent.wall) == ("ok", ["analyst"])


@pytest.mark.parametrize(
    "error",
    [
        Invalid("no use", code="max_turns"),
        Permanent("refused", code="http_400"),
        Skip("budget", code="budget"),
    ],
)
async def test_what_a_failed_task_has_done_is_undone_and_it_says_why(tmp_path: Path, error: Exception) -> None:
    agent = Answering(error)
    row, outcome = await night(tmp_path, agent, NewTask(role="analyst", title="look"))
    assert (row["state"], row["attempts"], row["error"]) == ("open", 1, str(error))
    assert (outcome.state, outcome.error_class, agent.wall) == ("failed", "downstream", [])


async def test_a_task_without_budget_says_which_and_how_to_raise_it(tmp_path: Path) -> None:
    skipped = Skip("budget", code="budget")
    skipped.__cause__ = BudgetExceeded("a call of up to $1.00 does not fit into the budget day:2026-11-22 of $10.00")
    row, _ = await night(tmp_path, Answering(skipped), NewTask(role="analyst", title="look"))
    assert row["error"] == str(skipped.__cause__)


async def test_documents_come_as_passages_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "bees.md").write_text("Bees dance.")
    (tmp_path / "docs" / "mill.md").write_text("The mill grinds.\n" * 2_000)
    agent = Answering(FINDING)
    await night(tmp_path, agent, NewTask(role="analyst", title="Do bees dance?", documents=["docs"]))
    [passage] = agent.asked["data"]["context"]["passages"]
    assert passage == {"document": "docs/bees.md", "line": 1, "text": "Bees dance."}
    assert agent.asked["left_out"] > 10_000


async def test_an_agent_that_writes_into_what_it_reads_is_asked_the_same_after_a_crash(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "bees.md"
    page.write_text("Bees dance.")
    ledger = open_ledger(tmp_path, ManualClock())
    agent, asked = Answering(FINDING), []
    run = run_in(ledger, begin(ledger, "nightly_agents"), tmp_path, asks=agent)
    for _ in range(2):
        task_ = Task("t_1", "analyst", "Do bees dance?", "", ("docs",))
        await attempt(task_, run.for_item("t_1"))
        asked.append(agent.asked["data"])
        page.write_text("Bees dance, as I have written here myself.")
    ledger.close()
    assert asked[0] == asked[1]


async def test_a_task_whose_end_a_crash_has_swallowed_has_its_finding_all_the_same(tmp_path: Path) -> None:
    """The queue knows that it is done, the run does not know yet: the next attempt says what this one has found."""
    ledger = open_ledger(tmp_path, ManualClock())
    agent = Answering(FINDING)
    run = run_in(ledger, begin(ledger, "nightly_agents"), tmp_path, asks=agent)
    ledger.writing(lambda c: add(c, [NewTask(role="analyst", title="look")], "hand", NOW))
    [queued] = open_tasks(run)
    assert await nightly_agents(queued, run.for_item(queued.id)) == FINDING
    agent.answer = AssertionError("nobody is to be asked")
    assert await nightly_agents(queued, run.for_item(queued.id)) == FINDING
    other = run_in(ledger, begin(ledger, "nightly_agents", "2026-11-23"), tmp_path, asks=agent)
    with pytest.raises(Skip, match="done already"):
        await nightly_agents(queued, other.for_item(queued.id))
    ledger.close()


async def test_of_an_issue_the_agent_learns_where_it_is(tmp_path: Path) -> None:
    agent = Answering(FINDING)
    await night(tmp_path, agent, NewTask(role="analyst", title="look", ref="acme/site#7"))
    assert {name: agent.asked["data"][name] for name in ("repo", "number")} == {"repo": "acme/site", "number": 7}


def test_subject_and_intro_fit_what_a_reader_gets() -> None:
    stories = [Story(t, t, "", "", topic, "", "") for t, topic in (("Mill", "city"), ("Bees", "science"))]
    edition = Edition("The mill and the bees", "Two things.", stories, "model")
    assert edition.only([]) is edition
    mine = edition.only(["science"])
    assert (mine.subject, mine.intro, mine.source) == ("Bees", "1 new story since the last edition.", "model")
