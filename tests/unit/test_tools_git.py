"""`git.diff` and `git.commit`: no shell, no options, no hooks; a commit is found again, and reverted."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overnight.compensation import Steps
from overnight.dependency import Dependencies
from overnight.effects import Effects
from overnight.errors import Denied, Permanent
from overnight.ledger import Ledger
from overnight.ledger.tables import effect
from overnight.tools import BUILT_IN, Granted, boxed
from overnight.tools.git import Repository
from overnight.tools.toolkit import Box, Toolkit
from tests.calling import CALL, called
from tests.slots import ManualClock, begin, open_ledger, rows


def git(root: Path, *words: str) -> str:
    quiet = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgSign=false")
    done = subprocess.run(["git", *quiet, *words], cwd=root / "repo", check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "repo").mkdir()
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "repo" / "a.md").write_text("one\n")
    git(tmp_path, "add", "a.md")
    git(tmp_path, "commit", "-q", "-m", "first")
    hook = tmp_path / "repo" / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    return tmp_path


@pytest.fixture
def ledger(here: Path) -> Iterator[Ledger]:
    made = open_ledger(here, ManualClock())
    yield made
    made.close()


def steps(ledger: Ledger) -> Steps:
    return Steps(Effects(ledger, ManualClock()), begin(ledger))


async def use(
    here: Path, ledger: Ledger, name: str, own: Steps, call: str = CALL, repo: str = "repo", **asked: Any
) -> Any:
    clock, made = ManualClock(), BUILT_IN[name]
    kit = Toolkit(here, ledger, clock, Dependencies({}, clock))
    return await called(kit, made, Repository(repo=repo), asked, of=own, call=call)


async def test_a_change_is_committed_once_shown_and_reverted(here: Path, ledger: Ledger) -> None:
    own = steps(ledger)
    (here / "repo" / "a.md").write_text("two\n")
    (here / "repo" / "b.md").write_text("left alone\n")
    made = await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    again = await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    assert made == again == {"commit": git(here, "rev-parse", "HEAD")}
    assert git(here, "rev-list", "--count", "HEAD") == "2"
    assert git(here, "status", "--porcelain") == "?? b.md"
    told = await use(here, ledger, "git.diff", own, base="HEAD~1", paths=["a.md"])
    assert "-one\n+two" in told["patch"]
    assert await own.undo() == []
    assert (here / "repo" / "a.md").read_text() == "one\n"
    assert not (here / "hooked").exists()


async def test_a_commit_of_unknown_fate_is_found_by_its_trailer(here: Path, ledger: Ledger) -> None:
    own = steps(ledger)
    (here / "repo" / "a.md").write_text("two\n")
    made = await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    with ledger.engine.begin() as connection:  # as a crash before the note leaves it
        connection.execute(effect.update().values(state="intent", detail=None))
    found = await use(here, ledger, "git.commit", Steps(own.effects, own.scope), message="second", paths=["a.md"])
    assert found == made
    assert git(here, "rev-list", "--count", "HEAD") == "2"
    assert {row["state"] for row in rows(ledger, effect)} == {"done"}


async def test_a_commit_that_somebody_has_built_on_still_stands_and_its_repository_can_be_used(
    here: Path, ledger: Ledger
) -> None:
    own, page = steps(ledger), here / "repo" / "a.md"
    page.write_text("two\n")
    await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    page.write_text("three\n")
    git(here, "commit", "-q", "-n", "-am", "a person's")
    [failure] = await own.undo()
    assert "still stands" in failure
    assert (page.read_text(), git(here, "status", "--porcelain")) == ("three\n", "")
    page.write_text("four\n")
    await use(here, ledger, "git.commit", steps(ledger), "2" * 32, message="fourth", paths=["a.md"])


@pytest.mark.parametrize("begun", ["revert", "cherry-pick", "merge"])
async def test_what_a_person_is_resolving_by_hand_in_the_repository_is_left_to_him(
    here: Path, ledger: Ledger, begun: str
) -> None:
    own, page = steps(ledger), here / "repo" / "a.md"
    git(here, "checkout", "-q", "-b", "side")
    page.write_text("other\n")
    git(here, "commit", "-q", "-n", "-am", "on the side")
    git(here, "checkout", "-q", "main")
    page.write_text("two\n")
    made = await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    page.write_text("three\n")
    git(here, "commit", "-q", "-n", "-am", "a person's")
    with pytest.raises(subprocess.CalledProcessError):  # a conflict
        git(here, begun, made["commit"] if begun == "revert" else "side")
    page.write_text("by hand\n")
    git(here, "add", "a.md")
    [failure] = await own.undo()
    assert f"a {begun} is under way" in failure
    assert (page.read_text(), git(here, "status", "--porcelain")) == ("by hand\n", "M  a.md")
    git(here, "commit", "-q", "-n", "-m", "resolved")


async def test_a_series_of_commits_that_a_person_is_taking_over_is_left_to_him(here: Path, ledger: Ledger) -> None:
    own, page = steps(ledger), here / "repo" / "a.md"
    page.write_text("two\n")
    await use(here, ledger, "git.commit", own, message="second", paths=["a.md"])
    git(here, "checkout", "-q", "-b", "side", "HEAD~1")
    for text in ("other\n", "yet another\n"):
        page.write_text(text)
        git(here, "commit", "-q", "-n", "-am", text)
    git(here, "checkout", "-q", "main")
    with pytest.raises(subprocess.CalledProcessError):  # a conflict
        git(here, "cherry-pick", "side~1", "side")
    page.write_text("by hand\n")
    git(here, "commit", "-q", "-n", "-am", "resolved, the first of two")
    [failure] = await own.undo()
    assert "a series of commits is under way" in failure
    assert (page.read_text(), git(here, "status", "--porcelain")) == ("by hand\n", "")
    assert git(here, "log", "-1", "--format=%s") == "resolved, the first of two"


@pytest.mark.parametrize("path", ["var/secret", "var", "var/"])
async def test_secrets_and_the_ledger_of_the_project_are_never_committed(here: Path, path: str) -> None:
    (here / "repo" / "var").mkdir()
    (here / "repo" / "var" / "secret").write_text("s3cret")
    ledger = open_ledger(here, ManualClock())
    with pytest.raises(Denied):
        await use(here / "repo", ledger, "git.commit", steps(ledger), repo=".", message="x", paths=[path])
    ledger.close()
    assert git(here, "status", "--porcelain") == "?? var/"


async def test_a_folder_around_the_project_is_not_committed_with_its_secrets(here: Path) -> None:
    site = here / "repo" / "site"
    (site / "var").mkdir(parents=True)
    (site / "var" / "secret").write_text("s3cret")
    (site / "a.md").write_text("one\n")
    ledger = open_ledger(here, ManualClock())
    with pytest.raises(Denied, match="leads to var/"):
        await use(site, ledger, "git.commit", steps(ledger), repo="..", message="x", paths=["site"])
    await use(site, ledger, "git.commit", steps(ledger), "2" * 32, repo="..", message="x", paths=["site/a.md"])
    ledger.close()
    assert git(here, "status", "--porcelain") == "?? site/var/"


OPTIONS = [
    "-oProxyCommand=x",
    "--output=/tmp/x",
    "--upload-pack=x",
    "$(touch hooked)",
    "main; touch hooked",
    "a..b",
    "",
]


@pytest.mark.parametrize("name", OPTIONS)
async def test_a_revision_that_could_be_an_option_or_a_command_is_refused(
    here: Path, ledger: Ledger, name: str
) -> None:
    for asked in ({"base": name}, {"base": "main", "head": name}):
        with pytest.raises(Permanent):
            await use(here, ledger, "git.diff", steps(ledger), **asked)
    assert not (here / "hooked").exists()


@pytest.mark.parametrize(
    "path", ["-a.md", "../secret", "/etc/passwd", ":(top)x", ".git/config", "a.md\0", "$(rm -rf /)"]
)
async def test_a_path_is_taken_literally_or_not_at_all(here: Path, ledger: Ledger, path: str) -> None:
    with pytest.raises(Permanent):
        await use(here, ledger, "git.commit", steps(ledger), message="x", paths=[path])
    assert git(here, "rev-list", "--count", "HEAD") == "1"


async def test_what_is_said_in_a_message_is_no_command(here: Path, ledger: Ledger) -> None:
    (here / "repo" / "a.md").write_text("two\n")
    hostile = "$(touch hooked) `touch hooked`; touch hooked\n\n--amend"
    await use(here, ledger, "git.commit", steps(ledger), message=hostile, paths=["a.md"])
    assert git(here, "log", "-1", "--format=%B").startswith(hostile)
    assert not (here / "hooked").exists()


async def test_a_long_patch_is_cut(here: Path, ledger: Ledger) -> None:
    (here / "repo" / "a.md").write_text("x\n" * 5_000)
    own = steps(ledger)
    await use(here, ledger, "git.commit", own, message="long", paths=["a.md"])
    clock = ManualClock()
    kit, made = Toolkit(here, ledger, clock, Dependencies({}, clock)), BUILT_IN["git.diff"]
    box = Box(kit, "r", own.scope, boxed({}), own)
    short = Granted(made, Repository(repo="repo", max_bytes=100))
    told = await box.use(short, made.arguments.model_validate({"base": "HEAD~1"}), "2" * 32)
    assert (told["cut"], len(told["patch"])) == (True, 100)
