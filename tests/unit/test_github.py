"""GitHub against a server that speaks like it: nothing is doubled, nothing is missing, whatever is lost on the way."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overnight.compensation import Steps
from overnight.dependency import MANNERS, Dependencies
from overnight.effects import Effects
from overnight.errors import OvernightError, Permanent, Stop, Transient
from overnight.ledger import Ledger
from overnight.ledger.tables import effect, task
from overnight.outcome import Scope
from overnight.schedule import Rate
from overnight.tools import BUILT_IN, Tool
from overnight.tools.issues import Source, import_issues
from overnight.tools.toolkit import Toolkit
from tests.calling import CALL, called
from tests.hub import TOKEN, Hub, hub
from tests.slots import ManualClock, begin, open_ledger, rows

IN = {"repo": "acme/site"}
LIMITS: dict[str, dict[str, Any]] = {
    "github.issues": IN,
    "github.issue": IN,
    "github.comment": IN,
    "github.label": {**IN, "labels": ["bug", "needs review"]},
    "github.pull": {**IN, "base": ["main"], "head": ["overnight/*"]},
}
ASKED: dict[str, dict[str, Any]] = {
    "github.comment": {**IN, "number": 1, "body": "Thank you."},
    "github.label": {**IN, "number": 1, "labels": ["bug", "needs review"]},
    "github.pull": {**IN, "title": "A fix", "body": "See the issue.", "head": "overnight/fix", "base": "main"},
}


@dataclass
class Desk:
    """An item whose role may use GitHub, and the other side."""

    root: Path
    ledger: Ledger
    clock: ManualClock
    scope: Scope
    there: Hub
    token: str = TOKEN

    def steps(self) -> Steps:
        return Steps(Effects(self.ledger, self.clock), self.scope)

    async def use(self, name: str, steps: Steps | None = None, call: str = CALL, **changed: Any) -> Any:
        made: Tool = BUILT_IN[name]
        sides = Dependencies({"github": {"requests": Rate(5000, 3600)}}, self.clock)
        kit = Toolkit(
            self.root, self.ledger, self.clock, sides, secrets={"r": {"GITHUB_TOKEN": self.token}},
            settings={"GITHUB_API_URL": self.there.url},
        )  # fmt: skip
        limits, asked = made.limits.model_validate(LIMITS[name]), {**ASKED.get(name, IN), **changed}
        return await called(kit, made, limits, asked, of=steps or self.steps(), call=call)

    def books(self) -> tuple[int, list[str], int]:
        """Comments, labels of the issue, open pull requests, on the other side."""
        return len(self.there.comments), sorted(self.there.labels(1)), sum(self.there.open_pulls().values())


@asynccontextmanager
async def desk(root: Path, *faults: str | int | None) -> AsyncIterator[Desk]:
    clock = ManualClock()
    ledger = open_ledger(root, clock)
    async with hub(*faults) as there:
        there.issue(1, "It rains", "In here.", "agent")
        yield Desk(root, ledger, clock, begin(ledger), there)
    ledger.close()


async def test_issues_are_listed_and_read_with_their_comments(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.there.issue(2, "Another")
        await at.use("github.comment")
        assert [each["number"] for each in await at.use("github.issues", label="agent")] == [1]
        told = await at.use("github.issue", number=1)
        assert (told["title"], told["body"], told["labels"], len(told["comments"])) == (
            "It rains",
            "In here.",
            ["agent"],
            1,
        )
        with pytest.raises(Permanent) as missing:
            await at.use("github.issue", number=77)
        assert missing.value.code == "http_404"


async def test_an_answer_that_comes_in_many_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for number in range(2, 30):
            at.there.issue(number, f"Issue {number}", "x" * 60_000)
        assert len(await at.use("github.issues")) == 29
        assert len(at.there.seen) == 1


FAULTS: list[list[str | int | None]] = [
    [],
    [502],
    [None, 502],
    [503, 500],
    ["lost"],
    [None, "lost"],
    ["lost_502"],
    [None, "lost_502"],
    ["secondary"],
    [None, "secondary", "secondary"],
    [429],
    ["limited"],
    [None, "lost", 502],
    [None, "lost", None, "lost"],
    ["lost", "lost_502"],
]


@pytest.mark.parametrize("faults", FAULTS, ids=str)
@pytest.mark.parametrize("name", ASKED)
async def test_each_write_happens_once_whatever_is_lost(
    tmp_path: Path, name: str, faults: list[str | int | None]
) -> None:
    async with desk(tmp_path, *faults) as at:
        first = await at.use(name)
        again = await at.use(name)
        assert first == again
        wanted = {
            "github.comment": (1, ["agent"], 0),
            "github.label": (0, ["agent", "bug", "needs review"], 0),
            "github.pull": (0, ["agent"], 1),
        }
        assert at.books() == wanted[name]
        assert {row["state"] for row in rows(at.ledger, effect)} == {"done"}
        steps = at.steps()  # as another process would, after the end of this one
        await at.use(name, steps)
        assert await steps.undo() == []
        assert at.books() == (0, ["agent"], 0)


async def test_a_secondary_limit_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    async with desk(tmp_path, "secondary") as at:
        at.there.retry_after = 40
        await at.use("github.issue", number=1)
        assert 40 <= sum(at.clock.slept) <= 45
        assert len([each for each in at.there.seen if each.endswith("issues/1")]) == 1


async def test_github_that_stays_away_defers_the_item_and_opens_its_breaker(tmp_path: Path) -> None:
    async with desk(tmp_path, *[502] * 50) as at:
        with pytest.raises(Transient):
            await at.use("github.issue", number=1)
        assert len(at.there.seen) == 3
    assert MANNERS["github"].retry.max == 60


async def test_a_write_that_nobody_can_settle_is_taken_up_later_and_found_then(tmp_path: Path) -> None:
    async with desk(tmp_path, "lost", *[502] * 30) as at:
        with pytest.raises(Transient):
            await at.use("github.comment")
        assert [row["state"] for row in rows(at.ledger, effect)] == ["unknown"]
        at.there.faults.clear()
        await at.use("github.comment")
        assert at.books()[0] == 1


async def test_a_wrong_or_missing_token_stops_the_run_and_is_not_told(tmp_path: Path) -> None:
    for token, code in (("ghp_wrong-wrong-wrong", "github_token"), (" ", "no_github_token")):
        folder = tmp_path / code
        folder.mkdir()
        async with desk(folder) as at:
            at.token = token
            with pytest.raises(Stop) as stopped:
                await at.use("github.comment")
            assert stopped.value.code == code
            assert "wrong-wrong" not in str(stopped.value)


async def test_the_token_goes_nowhere_else(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        told = await at.use("github.comment")
        assert TOKEN not in str(told)
        assert all(TOKEN not in str(row) for row in rows(at.ledger, effect))


async def test_labels_that_were_there_before_stay_when_the_others_are_taken_off(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.there.issue(1, "It rains", "", "bug")
        steps = at.steps()
        await at.use("github.label", steps)
        await steps.undo()
        assert at.there.labels(1) == ["bug"]


async def test_a_label_in_other_letters_is_the_same_label_and_stays(tmp_path: Path) -> None:
    async with desk(tmp_path, None, "lost") as at:
        at.there.issue(1, "It rains", "", "Bug", "Needs Review")
        steps = at.steps()
        told = await at.use("github.label", steps)
        assert told["new"] == []
        assert [each for each in at.there.seen if each.startswith("POST")] == ["POST /repos/acme/site/issues/1/labels"]
        await steps.undo()
        assert at.there.labels(1) == ["Bug", "Needs Review"]


async def test_a_comment_is_found_also_behind_a_thousand_others(tmp_path: Path) -> None:
    async with desk(tmp_path, "lost") as at:
        others = [{"id": n, "body": "Me too.", "number": 1, "user": {"login": "x"}} for n in range(1_050)]
        at.there.comments.extend(others)
        await at.use("github.comment")
        assert at.there.bodies(1)["Thank you."] == 1


async def test_of_an_endless_talk_the_beginning_is_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        others = [{"id": n, "body": f"{n}", "number": 1, "user": {"login": "x"}} for n in range(1_050)]
        at.there.comments.extend(others)
        told = await at.use("github.issue", number=1)
        assert (len(told["comments"]), told["comments"][0]["text"], told["comments_left_out"]) == (1_000, "0", 50)
        assert len(at.there.seen) == 11


async def test_a_pull_request_is_looked_up_among_the_newest_alone(tmp_path: Path) -> None:
    async with desk(tmp_path, "lost") as at:
        older = {"body": "", "state": "closed", "base": "main", "head": "x", "title": "Old"}
        at.there.pulls.update({n: older | {"id": n, "number": n} for n in range(2, 950)})
        await at.use("github.pull")
        assert at.there.open_pulls() == {"A fix": 1}
        assert [each.partition(" ")[0] for each in at.there.seen] == ["POST", *["GET"] * 3]


async def test_a_refusal_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.use("github.pull")
        with pytest.raises(Permanent) as refused:
            await at.use("github.pull", call="2" * 32)
        assert refused.value.code == "http_422"
        assert at.books()[2] == 1


async def test_issues_with_a_label_become_tasks_once(tmp_path: Path) -> None:
    async with desk(tmp_path, 502) as at:
        for number in range(2, 130):
            at.there.issue(number, f"Issue {number}", "Text.", "agent")
        at.there.issue(500, "Not for agents")
        source = Source(repo="acme/site", label="agent", role="triage", token=TOKEN, url=at.there.url)
        sides = Dependencies({}, at.clock)
        found = await import_issues(source, at.ledger, sides, at.clock)
        again = await import_issues(source, at.ledger, sides, at.clock)
        assert ((found.added, found.known), (again.added, again.known)) == ((129, 0), (0, 129))
        assert {row["source"] for row in rows(at.ledger, task)} == {"github:acme/site"}
        assert TOKEN not in repr(source)


async def test_an_issue_that_is_odd_keeps_no_other_out(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.there.issue(2, "", "Text.", "agent")
        at.there.issue(3, "half a \ud800", "\udfff", "agent")
        at.there.issue(4, "x" * 5_000, "y" * 500_000, "agent")
        source = Source(repo="acme/site", label="agent", role="triage", token=TOKEN, url=at.there.url)
        assert (await import_issues(source, at.ledger, Dependencies({}, at.clock), at.clock)).added == 4
        titles = {row["ref"]: row["title"] for row in rows(at.ledger, task)}
        assert (titles["acme/site#2"], titles["acme/site#3"], len(titles["acme/site#4"])) == (
            "untitled",
            "half a ?",
            500,
        )


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("seed", range(50))
async def test_killed_at_any_point_no_comment_label_or_pull_request_is_doubled_or_missing(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends come at any commit of the ledger, before or after it, and at any request, before or after it is sent."""
    chance, left = random.Random(seed), [0]  # noqa: S311
    left[0] = chance.randrange(1, 24)

    def point() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def around(real: Any) -> Any:
        async def wrapped(*arguments: Any, **more: Any) -> Any:
            point()
            value = await real(*arguments, **more)
            point()
            return value

        return wrapped

    monkeypatch.setattr("overnight.ledger.Ledger.record", around(Ledger.record))
    monkeypatch.setattr("overnight.ledger.Ledger.write", around(Ledger.write))
    from overnight.tools.github_api import GitHub

    monkeypatch.setattr("overnight.tools.github_api.GitHub._sent", around(GitHub._sent))
    faults = [chance.choice([None, None, None, 502, "lost", "secondary"]) for _ in range(6)]
    async with desk(tmp_path, *faults) as at:
        for _ in range(12):
            try:
                for number, name in enumerate(ASKED):
                    await at.use(name, call=str(number) * 32)
                break
            except Killed:
                left[0] = chance.randrange(1, 40)
            except OvernightError:
                at.clock.move(600)
        left[0] = 10_000
        steps = at.steps()
        for number, name in enumerate(ASKED):
            await at.use(name, steps, call=str(number) * 32)
        assert at.books() == (1, ["agent", "bug", "needs review"], 1)
        assert await steps.undo() == []
        assert at.books() == (0, ["agent"], 0)
