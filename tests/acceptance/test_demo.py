"""The demo: a night in a minute, and what becomes of a task that is injected, one without money, one that escalates."""

import re
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, environment
from tests.acceptance.serving import ROOT
from tests.warm import Warm


@pytest.mark.slow
def test_the_demo_shows_an_injected_task_one_without_budget_and_one_that_escalates(tmp_path: Path, warm: Warm) -> None:
    home = Project(tmp_path, environment(tmp_path), warm)
    said = home.run("demo", "shown")
    assert said.code == 0, said.text
    lines = said.out.splitlines()
    injected = next(line for line in lines if "The new footer" in line)
    broke = next(line for line in lines if "A long report" in line)
    escalated = next(line for line in lines if "A delicate question" in line)
    assert "done" in injected
    assert "files_read and github_comment: denied, the task went on" in injected
    assert "open, nobody was asked, $0.00; it stays in the queue: a call of up to $0.0" in broke
    assert "does not fit into the budget" in broke
    assert "done, claude-haiku-5-5 then claude-sonnet-5-5" in escalated
    shown = Project(tmp_path / "shown", home.env, warm)
    commands = [line.split(" --config shown ")[1].split() for line in lines if " --config shown " in line]
    assert [words[0] for words in commands] == ["show", "subscribers", "show", "roles"]
    bounced, suppressed, refused = (shown.run(*words).text for words in commands[:3])
    assert "5.1.1" in bounced
    assert "bounce@example.net" in suppressed
    assert "refus" in refused
    tasks = {task["title"]: task for task in shown.json("tasks", "list")}
    denied = shown.json("show", "nightly_agents", tasks["The new footer"]["id"])["tools"]
    assert [(call["tool"], call["verdict"]) for call in denied] == [
        ("files_read", "denied"),
        ("github_comment", "denied"),
    ]
    story = shown.json("logs", tasks["The new footer"]["id"])
    assert story[0]["message"] == "task started"
    assert [event["status"] for event in story if event["message"] == "tool call"] == ["denied", "denied"]
    assert story[-1]["message"] == "task ended"
    assert "the log says nothing of nobody" in shown.run("logs", "nobody").out
    matrix = shown.json("roles")
    assert matrix["reviewer"]["tools"]["files.read"]["limits"]["root"] == "content/"
    assert not any(cell["allowed"] for cell in matrix["analyst"]["tools"].values())
    assert "did you mean 'reviewer'" in shown.run("roles", "reviever").err


@pytest.mark.slow
def test_the_demo_prints_what_readme_shows(tmp_path: Path, warm: Warm) -> None:
    said = Project(tmp_path, environment(tmp_path), warm).run("demo", "overnight-demo")
    [shown] = re.findall(
        r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    printed = {shape(line) for line in said.text.splitlines()}
    assert [line for line in shown.splitlines() if line != "…" and shape(line) not in printed] == []


def shape(line: str) -> str:
    """A line without what is different each time: seconds, the names of runs, tasks and subscribers."""
    return re.sub(r"\d+\.\d s|\b[rts]_[0-9a-z]+", "…", line.replace(".venv/bin/overnight", "overnight")).strip()
