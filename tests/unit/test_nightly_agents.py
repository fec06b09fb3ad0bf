"""The job that works through the queue."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.daily_email import Edition, Story
from jobs.nightly_agents import nightly_agents
from overnight.errors import Permanent, Skip
from overnight.roles import Role, Roles
from overnight.tasks import NewTask, Task, add, close, open_tasks
from tests.slots import NOW, ManualClock, Nobody, begin, open_ledger, run_in


class Asked(Nobody):
    """An agent that knows one role."""

    async def ask(self, _scope: Any, role: str, **_more: Any) -> Any:
        return Roles(Path(), {"analyst": Role("analyst", ("m",))}).role(role)


async def worked(folder: Path, role: str, state: str = "") -> None:
    """Work on a task that has become `state` since it was planned."""
    ledger = open_ledger(folder, ManualClock())
    try:
        run = run_in(ledger, begin(ledger), folder, asks=Asked())
        ledger.writing(lambda c: add(c, [NewTask(role=role, title="look")], "hand", NOW + timedelta(0)))
        tasks: Sequence[Task] = list(open_tasks(run))
        if state:
            ledger.writing(lambda c: close(c, tasks[0].id, state, NOW))
        await nightly_agents(tasks[0], run)
    finally:
        ledger.close()


async def test_a_role_that_nobody_plays_fails_its_own_task_only(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="did you mean 'analyst'") as failure:
        await worked(tmp_path, "analist")
    assert failure.value.code == "no_role"


@pytest.mark.parametrize(("state", "reason"), [("done", "done already"), ("cancelled", "cancelled")])
async def test_what_is_settled_meanwhile_is_not_paid_for(tmp_path: Path, state: str, reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        await worked(tmp_path, "analyst", state)


def test_subject_and_intro_fit_what_a_reader_gets() -> None:
    stories = [Story(t, t, "", "", topic, "", "") for t, topic in (("Mill", "city"), ("Bees", "science"))]
    edition = Edition("The mill and the bees", "Two things.", stories, "model")
    assert edition.only([]) is edition
    mine = edition.only(["science"])
    assert (mine.subject, mine.intro, mine.source) == ("Bees", "1 new story since the last edition.", "model")
