"""The port of tools: what is allowed is decided outside the model; every cell of roles and tools, every bad path."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from overnight import jail
from overnight.compensation import Steps
from overnight.dependency import Dependencies
from overnight.effects import Effects
from overnight.errors import OvernightError, Permanent
from overnight.ledger import Ledger
from overnight.ledger.tables import effect, task
from overnight.outcome import Scope
from overnight.schedule import loads
from overnight.tools import BUILT_IN, Arguments, Denied, Granted, Hands, Limits, Tool, boxed, files, github, tool
from overnight.tools.toolkit import Box, Toolkit
from tests.calling import CALL, called
from tests.slots import ManualClock, begin, open_ledger, rows

ROLES = """
version: 1
jobs: { good: { every: 1h } }
roles:
  reader: { model: m, tools: { files.read: { root: docs/ }, files.list: { root: docs/ }, git.diff: { repo: . } } }
  writer:
    model: m
    tools: { files.write: { root: out/ }, git.commit: { repo: . }, mail.draft: { to: [a@b.example] } }
  lead: { model: m, tools: { tasks.create: { roles: [reader] }, tasks.results: } }
  triage:
    model: m
    allow_mixed: true
    secrets: [GITHUB_TOKEN]
    tools:
      http.get: { hosts: [example.org] }
      github.issues: { repo: acme/site }
      github.issue: { repo: acme/site }
      github.comment: { repo: acme/site }
      github.label: { repo: acme/site, labels: [bug] }
      github.pull: { repo: acme/site, base: [main], head: ["overnight/*"] }
  nobody: { model: m }
"""
GRANTED = {
    "reader": {"files.read", "files.list", "git.diff"},
    "writer": {"files.write", "git.commit", "mail.draft"},
    "lead": {"tasks.create", "tasks.results"},
    "triage": {"http.get", "github.issues", "github.issue", "github.comment", "github.label", "github.pull"},
    "nobody": set(),
}
ASKED: dict[str, dict[str, Any]] = {
    "files.read": {"path": "a.md"},
    "files.list": {"path": "."},
    "files.write": {"path": "a.md", "text": "x"},
    "http.get": {"url": "https://example.org/"},
    "git.diff": {"base": "main"},
    "git.commit": {"message": "x", "paths": ["a.md"]},
    "mail.draft": {"to": "a@b.example", "subject": "x", "text": "x"},
    "github.issues": {"repo": "acme/site"},
    "github.issue": {"repo": "acme/site", "number": 1},
    "github.comment": {"repo": "acme/site", "number": 1, "body": "x"},
    "github.label": {"repo": "acme/site", "number": 1, "labels": ["bug"]},
    "github.pull": {"repo": "acme/site", "title": "x", "head": "overnight/x", "base": "main"},
    "tasks.create": {"role": "reader", "title": "x"},
    "tasks.results": {},
}
SCHEDULE = loads(ROLES, {})
PROJECT = Path(__file__).parents[2]


def box_of(role: str) -> Any:
    return boxed(SCHEDULE.roles[role].granted(), "You work on https://acme.example/ only.")


@pytest.mark.parametrize("role", GRANTED)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_role_may_use_the_tools_it_was_given_and_is_denied_all_others(role: str, name: str) -> None:
    box, wire = box_of(role), BUILT_IN[name].wire_name
    assert (wire in {each["name"] for each in box.declared()}) == (name in GRANTED[role])
    if name in GRANTED[role]:
        box.allowed(wire, ASKED[name], 0)
    else:
        with pytest.raises(Denied) as denied:
            box.allowed(wire, ASKED[name], 0)
        assert denied.value.code == "no_tool"


SHIPPED = {"editor": set(), "analyst": set(), "reviewer": {"files.read", "files.list"}}


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_roles_of_a_new_project_may_read_its_content_and_nothing_else(name: str) -> None:
    roles = loads((PROJECT / "schedule.yaml").read_text(encoding="utf-8"), {}).roles
    assert set(roles) == set(SHIPPED)
    assert {role for role in roles if name in roles[role].granted()} == {r for r, may in SHIPPED.items() if name in may}


OUTSIDE: dict[str, tuple[str, dict[str, Any], str]] = {
    "72 another repository": ("github.comment", {"repo": "acme/other"}, "repo"),
    "72 a repository of another owner": ("github.issue", {"repo": "evil/site"}, "repo"),
    "72 a repository that leads upwards": ("github.issue", {"repo": "acme/site/../other"}, "repo"),
    "72 a repository of an owner alike": ("github.issue", {"repo": "acme-evil/site"}, "repo"),
    "72 a repository with a slash behind": ("github.issue", {"repo": "acme/site/"}, "repo"),
    "72 a repository with a dot behind": ("github.issue", {"repo": "acme/site."}, "repo"),
    "72 a repository with a line break": ("github.issue", {"repo": "acme/site\n"}, "repo"),
    "72 a repository with a query": ("github.issue", {"repo": "acme/site?x="}, "repo"),
    "72 a repository in look-alike letters": ("github.issue", {"repo": "acme/\u017fite"}, "repo"),
    "72 a repository in wide letters": ("github.issue", {"repo": "\uff41cme/site"}, "repo"),
    "72 a repository by its code": ("github.issue", {"repo": "acme/%73ite"}, "repo"),
    "a label in capitals": ("github.label", {"labels": ["BUG"]}, "label"),
    "a label with a blank behind": ("github.label", {"labels": ["bug "]}, "label"),
    "another label": ("github.label", {"labels": ["bug", "security"]}, "label"),
    "another branch": ("github.pull", {"base": "release"}, "branch"),
    "78 a branch that is an option": ("github.pull", {"head": "-oProxyCommand=x"}, "branch"),
    "another recipient": ("mail.draft", {"to": "boss@evil.example"}, "recipient"),
    "another role": ("tasks.create", {"role": "triage"}, "role"),
    "a link that nobody gave": ("github.comment", {"body": "see https://evil.example/?q=secret"}, "links"),
    "73 an image with data": ("github.comment", {"body": "![x](https://acme.example/?q=secret)"}, "links"),
    "an address that nobody gave": ("mail.draft", {"text": "answer to me@evil.example"}, "links"),
    "another host": ("http.get", {"url": "https://evil.example/"}, "host"),
    "71 a field too many": ("files.read", {"path": "a", "mode": "rw"}, "arguments"),
    "71 the wrong type": ("github.issue", {"number": "1"}, "arguments"),
    "71 no argument": ("files.read", {"path": None}, "arguments"),
    "71 a megabyte": ("files.write", {"text": "x" * 1_000_000}, "arguments"),
    "71 no number": ("github.issue", {"number": float("nan")}, "arguments"),
}


@pytest.mark.parametrize(("name", "changed", "code"), OUTSIDE.values(), ids=OUTSIDE)
def test_arguments_outside_the_limits_are_denied(name: str, changed: dict[str, Any], code: str) -> None:
    role = next(role for role, names in GRANTED.items() if name in names)
    with pytest.raises(Denied) as denied:
        box_of(role).allowed(BUILT_IN[name].wire_name, {**ASKED[name], **changed}, 0)
    assert denied.value.code == code


@pytest.mark.parametrize("name", ["acme/..", "acme/.", "acme/...", "../site", "./site"])
@pytest.mark.parametrize("limit", ["acme/*", "acme/site", "acme/s*"])
def test_a_repository_of_dots_which_would_be_another_address_is_denied(limit: str, name: str) -> None:
    with pytest.raises(Denied):
        github.InRepo(repo=limit).refuse(github.OneIssue(repo=name, number=1))
    with pytest.raises(ValidationError):
        github.InRepo(repo=name)


def test_letters_of_a_repository_count_as_they_do_there() -> None:
    github.InRepo(repo="Acme/site").refuse(github.OneIssue(repo="acme/SITE", number=1))
    github.InRepo(repo="acme/*").refuse(github.OneIssue(repo="acme/.github", number=1))


@pytest.mark.parametrize("given", [None, [], "text", 7, {"path": {"a": "b"}}])
def test_arguments_of_any_other_kind_are_denied(given: Any) -> None:
    with pytest.raises(Denied):
        box_of("reader").allowed("files_read", given, 0)


def test_links_of_the_prompt_may_be_published() -> None:
    said = {**ASKED["github.comment"], "body": "see https://acme.example/"}
    box_of("triage").allowed("github_comment", said, 0)


def test_one_call_too_many_is_denied() -> None:
    box_of("reader").allowed("files_read", {"path": "a"}, 19)
    with pytest.raises(Denied, match="all that is allowed"):
        box_of("reader").allowed("files_read", {"path": "a"}, 20)


# -- files ---------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A project with a ledger, and the tools of an item in it."""

    root: Path
    ledger: Ledger
    clock: ManualClock
    scope: Scope

    def steps(self) -> Steps:
        return Steps(Effects(self.ledger, self.clock), self.scope)

    async def use(self, made: Tool, limits: Limits, steps: Steps | None = None, call: str = CALL, **asked: Any) -> Any:
        """Call a tool as the loop does, once it is allowed."""
        kit = Toolkit(self.root, self.ledger, self.clock, Dependencies({}, self.clock))
        return await called(kit, made, limits, asked, of=steps or self.steps(), call=call)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    inside = tmp_path / "docs" / "deep"
    inside.mkdir(parents=True)
    (inside / "page.md").write_text("a page", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("s3cret", encoding="utf-8")
    (tmp_path / "docs" / ".env").write_text("KEY=s3cret", encoding="utf-8")
    (tmp_path / "docs" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "docs" / "way").symlink_to(tmp_path)
    yield Place(tmp_path, ledger, clock, begin(ledger))
    ledger.close()


BELOW = files.Into(root="docs")
PATHS = {
    "39 upwards": "../secret.txt",
    "39 upwards in the middle": "deep/../../secret.txt",
    "39 far upwards": "../../../../../../etc/passwd",
    "40 absolute": "/etc/passwd",
    "40 twice absolute": "//etc/passwd",
    "40 at home": "~/.ssh/id_rsa",
    "40 a drive": "C:\\Windows\\win.ini",
    "40 a drive with slashes": "C:/Windows/win.ini",
    "40 a share": "\\\\host\\share",
    "41 a link to a file": "link.txt",
    "41 a link to a folder": "way/secret.txt",
    "42 NUL": "deep/page.md\0.txt",
    "42 percent": "%2e%2e%2fsecret.txt",
    "42 overlong": "..%c0%afsecret.txt",
    "hidden": ".env",
    "hidden below": "deep/.git/config",
    "empty": "",
    "only slashes": "///",
    "a line break": "deep/page.md\n",
    "very long": "a/" * 600,
    "a long name": "a" * 300,
    "a long folder": "a" * 300 + "/page.md",
    "half a letter": "deep/\ud800.md",
    "79 slip": "deep/../../../out.txt",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_a_path_that_leads_out_is_neither_read_nor_written(place: Place, path: str) -> None:
    before = sorted(place.root.rglob("*"))
    for made, more in ((files.read, {}), (files.listing, {}), (files.write, {"text": "mine"})):
        with pytest.raises(Permanent):
            await place.use(made, BELOW, path=path, **more)
    assert (place.root / "secret.txt").read_text() == "s3cret"
    assert [path for path in sorted(place.root.rglob("*")) if path not in before] == []


async def test_a_file_is_read_listed_and_written_below_its_folder(place: Place) -> None:
    assert await place.use(files.read, BELOW, path="deep/page.md") == {
        "path": "deep/page.md", "bytes": 6, "text": "a page",
    }  # fmt: skip
    assert await place.use(files.listing, BELOW, path=".") == ["deep/"]
    assert await place.use(files.listing, BELOW, path="deep") == ["page.md"]
    await place.use(files.write, BELOW, path="new/one.md", text="päivä")
    assert (place.root / "docs" / "new" / "one.md").read_text(encoding="utf-8") == "päivä"
    assert sorted(each.name for each in (place.root / "docs" / "new").iterdir()) == ["one.md"]


async def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(place: Place) -> None:
    (place.root / "docs" / "deep" / "page.md").unlink()
    (place.root / "docs" / "deep").rmdir()
    (place.root / "docs" / "deep").symlink_to(place.root)
    with pytest.raises(Denied, match="through a link"):
        await place.use(files.write, BELOW, path="deep/secret.txt", text="mine")


async def test_what_is_no_file_or_no_text_is_refused_without_waiting(place: Place) -> None:
    os.mkfifo(place.root / "docs" / "pipe")
    (place.root / "docs" / "image").write_bytes(b"\x89PNG\0\0")
    for path in ("pipe", "deep", "image", "none.md"):
        with pytest.raises(Permanent):
            await place.use(files.read, BELOW, path=path)


async def test_a_long_file_is_cut_and_says_so(place: Place) -> None:
    (place.root / "docs" / "long").write_text("x" * 500)
    told = await place.use(files.read, files.Below(root="docs", max_bytes=100), path="long")
    assert (told["bytes"], len(told["text"])) == (500, 100)
    with pytest.raises(Permanent, match="more than the 100"):
        await place.use(files.write, files.Into(root="docs", max_bytes=100), path="long", text="y" * 101)


async def test_what_was_written_is_taken_back(place: Place) -> None:
    steps = place.steps()
    await place.use(files.write, BELOW, steps, "1" * 32, path="deep/page.md", text="another")
    await place.use(files.write, BELOW, steps, "2" * 32, path="deep/more.md", text="more")
    assert await steps.undo() == []
    assert (place.root / "docs" / "deep" / "page.md").read_text() == "a page"
    assert not (place.root / "docs" / "deep" / "more.md").exists()
    told = [row["state"] for row in rows(place.ledger, effect) if not row["name"].endswith(":before")]
    assert told == ["undone"] * 2


async def test_what_was_there_before_is_known_also_when_a_crash_has_left_the_new_text(place: Place) -> None:
    await place.use(files.write, BELOW, path="deep/page.md", text="another")
    with place.ledger.engine.begin() as connection:  # as a crash between the file and its note leaves it
        made = ~effect.c.name.endswith(":before")
        connection.execute(effect.update().where(made).values(state="intent", detail=None))
    steps = place.steps()
    await place.use(files.write, BELOW, steps, path="deep/page.md", text="another")
    assert await steps.undo() == []
    assert (place.root / "docs" / "deep" / "page.md").read_text() == "a page"


async def test_what_could_not_be_put_back_is_not_replaced(place: Place) -> None:
    for name, data in (("image", b"\xff\xfe"), ("long", b"x" * (files.LONGEST_BEFORE + 1))):
        (place.root / "docs" / name).write_bytes(data)
        with pytest.raises(Permanent, match="not replaced"):
            await place.use(files.write, BELOW, path=name, text="mine")
        assert (place.root / "docs" / name).read_bytes() == data


async def test_two_who_write_the_same_file_at_once_leave_one_of_the_two(place: Place) -> None:
    texts = [letter * 90_000 for letter in "abcdefgh"]
    limits = files.Into(root="docs", max_bytes=1_000_000)
    await asyncio.gather(
        *(place.use(files.write, limits, call=f"{n:032}", path="same.md", text=text) for n, text in enumerate(texts))
    )
    assert (place.root / "docs" / "same.md").read_text() in texts
    assert not list((place.root / "docs").glob(".*.part"))


def test_a_file_that_somebody_has_put_in_the_way_is_not_written_through(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.jail.token", lambda _size: "known")
    (place.root / "docs" / ".known.part").hardlink_to(place.root / "secret.txt")
    with pytest.raises(Denied):
        jail.write(place.root / "docs", "a.md", b"mine")
    assert (place.root / "secret.txt").read_text() == "s3cret"


@pytest.mark.parametrize("root", ["link", "link/inner", "."])
async def test_a_root_that_leads_to_secrets_and_the_ledger_is_denied(place: Place, root: str) -> None:
    (place.root / "var" / "inner").mkdir(parents=True)
    (place.root / "var" / "inner" / "a.md").write_text("s3cret")
    (place.root / "link").symlink_to(place.root / "var")
    limits = BELOW.model_copy(update={"root": root})
    for made, more in ((files.read, {}), (files.write, {"text": "mine"}), (files.listing, {})):
        with pytest.raises(Denied, match="no role may have"):
            await place.use(made, limits, path="a.md", **more)


async def test_code_and_prompts_of_the_project_are_read_at_most(place: Place) -> None:
    (place.root / "jobs").mkdir()
    (place.root / "link").symlink_to(place.root / "jobs")
    with pytest.raises(ValidationError, match="code or prompts"):
        files.Into(root="jobs/")
    with pytest.raises(Denied, match="leads to jobs/"):
        await place.use(files.write, files.Into(root="link"), path="evil.py", text="import os")
    assert await place.use(files.listing, files.Below(root="jobs"), path=".") == []


@pytest.mark.parametrize("root", ["docs/../var", "..", "~/x", "", "var/", "./"])
def test_a_root_around_the_project_or_in_its_var_is_a_mistake(root: str) -> None:
    with pytest.raises(ValidationError):
        files.Below(root=root)


# -- the others ----------------------------------------------------------------------------------------------------


async def test_a_draft_lies_in_its_folder_and_nothing_is_sent(place: Place) -> None:
    made, limits = BUILT_IN["mail.draft"], BUILT_IN["mail.draft"].limits.model_validate({"to": ["*@b.example"]})
    told = await place.use(made, limits, to="a@b.example", subject="News", text="Hello")
    text = (place.root / told["draft"]).read_text()
    assert "To: <a@b.example>" in text
    for hostile in ("a\r\nBcc: v@x.example", "=?utf-8?q?a=0D=0ABcc:_v=40x.example?=", "a\0b"):
        with pytest.raises(OvernightError):
            await place.use(made, limits, to="a@b.example", subject=hostile, text="Hello")


async def test_only_who_may_plan_puts_tasks_into_the_queue_and_they_are_taken_back(place: Place) -> None:
    made, limits = BUILT_IN["tasks.create"], BUILT_IN["tasks.create"].limits.model_validate({"roles": ["reader"]})
    steps = place.steps()
    told = await place.use(made, limits, steps, role="reader", title="Look")
    again = await place.use(made, limits, steps, "2" * 32, role="reader", title="Look")
    assert (told["added"], again["added"], again["task"]) == ("yes", "there already", told["task"])
    [row] = rows(place.ledger, task)
    assert (row["role"], row["state"], row["source"]) == ("reader", "open", f"tool:{'1' * 32}")
    results = BUILT_IN["tasks.results"]
    assert [each["id"] for each in await place.use(results, Limits(), state="open")] == [told["task"]]
    await steps.undo()
    assert [row["state"] for row in rows(place.ledger, task)] == ["cancelled"]


async def test_outside_of_an_item_nothing_is_written(place: Place) -> None:
    kit = Toolkit(place.root, place.ledger, place.clock, Dependencies({}, place.clock))
    grant = Granted(files.write, BELOW)
    box = Box(kit, "r", place.steps().scope, boxed({"files.write": grant}), None)
    with pytest.raises(Denied, match="nothing may be written"):
        await box.use(grant, files.Text(path="a", text="b"), "1" * 32)


class City(Arguments):
    """A city."""

    city: str


async def weather(asked: City, _limits: Limits, hands: Hands) -> str:
    """Say what the weather is."""
    return f"{asked.city}: rain, {hands.scope.key or 'nobody'}"


async def test_a_function_becomes_a_tool_and_stays_one_s_own(place: Place) -> None:
    made = tool("weather")(weather)
    assert made.declared() == {
        "name": "weather", "description": "Say what the weather is.", "input_schema": City.model_json_schema(),
    }  # fmt: skip
    assert (await place.use(made, Limits(), city="Turku")).startswith("Turku: rain")
    assert "weather" not in BUILT_IN


def test_a_function_without_types_is_no_tool() -> None:
    async def untyped(asked: BaseModel, limits: object, hands: Hands) -> None: ...

    with pytest.raises(TypeError, match="is to be annotated"):
        tool("untyped")(untyped)


async def test_a_secret_in_a_result_does_not_reach_the_model(place: Place) -> None:
    (place.root / "docs" / "notes.md").write_text("the key is hunter2-hunter2")
    kit = Toolkit(
        place.root, place.ledger, place.clock, Dependencies({}, place.clock),
        redact=lambda value: {key: str(each).replace("hunter2-hunter2", "[redacted]") for key, each in value.items()},
    )  # fmt: skip
    grant = Granted(files.read, BELOW)
    box = Box(kit, "r", place.steps().scope, boxed({"files.read": grant}), None)
    assert (await box.use(grant, files.File(path="notes.md"), "1" * 32))["text"] == "the key is [redacted]"
