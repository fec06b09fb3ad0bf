"""`github.*`: issues and pull requests of the repositories that a role names; pull requests are issues there, too.

What is written carries a marker that nobody sees, made of the call's id: after a crash or a lost reply it is looked for
before anything is written again. The API itself knows no idempotency.
"""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, Field

from overnight.errors import Denied, Permanent
from overnight.tools.github_api import TOKEN, GitHub, path_of
from overnight.tools.port import Arguments, Hands, Limits, tool

LONGEST = 60_000  # characters; the API takes 65,536
KEPT = 20_000  # of a body that is read
READ = 10  # pages of a hundred comments: more than any model reads
NEWEST = 3  # pages of a list that begins with the newest, where what was just made is on the first
_REPO = re.compile(r"(?!\.+/)[\w.-]{1,100}/(?!\.+\Z)[\w.-]{1,100}", re.ASCII)  # `..` would lead to another address
_REF = re.compile(r"[A-Za-z0-9_][\w./-]{0,199}", re.ASCII)


def _repository(pattern: str) -> str:
    if not _REPO.fullmatch(pattern.replace("*", "x")) or pattern.startswith("*"):
        raise ValueError(f"{pattern!r} is no repository; write owner/name, or owner/* for all of an owner")
    return pattern


class OneRepo(Arguments):
    """Which repository."""

    repo: str = Field(description="owner/name")


class OneIssue(OneRepo):
    """One issue or pull request."""

    number: int = Field(ge=1, le=2**53)


class InRepo(Limits):
    """The repository that may be touched: `owner/name`, or `owner/*`."""

    repo: Annotated[str, AfterValidator(_repository)]
    """`owner/name`, or `owner/*` for all of an owner."""

    def refuse(self, asked: Any) -> None:
        """Deny other repositories."""
        if not _REPO.fullmatch(asked.repo) or not fnmatchcase(asked.repo.lower(), self.repo.lower()):
            raise Denied(f"the repository {asked.repo:.100} may not be touched, only {self.repo}", code="repo")


class Labelled(InRepo):
    """The labels that may be set."""

    labels: list[str] = Field(min_length=1)
    """Labels that may be set."""

    def refuse(self, asked: "Labels") -> None:
        """Deny other labels."""
        InRepo.refuse(self, asked)
        if strange := [label for label in asked.labels if label not in self.labels]:
            raise Denied(f"the label {strange[0]:.50} may not be set, only {', '.join(self.labels)}", code="label")


class Branches(InRepo):
    """Pull requests from branches `head` into branches `base`; both may hold `*`."""

    base: list[str] = Field(min_length=1)
    """Branches that may be changed by it; `*` stands for any characters."""
    head: list[str] = Field(min_length=1)
    """Branches that the changes may be on."""

    def refuse(self, asked: "Pull") -> None:
        """Deny other branches."""
        InRepo.refuse(self, asked)
        for name, allowed in ((asked.base, self.base), (asked.head, self.head)):
            if not _REF.fullmatch(name) or not any(fnmatchcase(name, pattern) for pattern in allowed):
                raise Denied(f"the branch {name:.100} may not be used, only {', '.join(allowed)}", code="branch")


class Query(OneRepo):
    """Which issues."""

    label: str = Field(default="", max_length=50)
    state: str = Field(default="open", pattern="^(open|closed|all)$")


class Comment(OneIssue):
    """What to say."""

    body: str = Field(min_length=1, max_length=LONGEST)


class Labels(OneIssue):
    """Which labels to add."""

    labels: list[str] = Field(min_length=1, max_length=10)


class Pull(OneRepo):
    """A pull request between two branches that are there already."""

    title: str = Field(min_length=1, max_length=250)
    body: str = Field(default="", max_length=LONGEST)
    head: str = Field(description="The branch with the changes")
    base: str = Field(description="The branch they are for")


@tool("github.issues", outward=True, secrets=(TOKEN,))
async def issues(asked: Query, _limits: InRepo, hands: Hands) -> list[dict[str, Any]]:
    """List issues and pull requests, the newest first; at most a hundred."""
    query: dict[str, str | int] = {"state": asked.state, "per_page": 100}
    if asked.label:
        query["labels"] = asked.label
    found = await GitHub.of(hands, asked.repo, issues="read").ask("GET", path_of(asked.repo, "issues"), None, **query)
    return [_issue(each, body=False) for each in found or ()]


@tool("github.issue", outward=True, secrets=(TOKEN,))
async def issue(asked: OneIssue, _limits: InRepo, hands: Hands) -> dict[str, Any]:
    """Read an issue or a pull request with its comments; of over a thousand the first."""
    api, where = GitHub.of(hands, asked.repo, issues="read"), path_of(asked.repo, "issues", asked.number)
    comments = await api.every(f"{where}/comments", READ)
    said = [{"by": _login(each), "text": (each.get("body") or "")[:KEPT]} for each in comments]
    found = await api.ask("GET", where)
    more = found.get("comments", 0) - len(said)
    return _issue(found, body=True) | {"comments": said} | ({"comments_left_out": more} if more > 0 else {})


@tool("github.comment", outward=True, publishes=True, writes=True, secrets=(TOKEN,))
async def comment(asked: Comment, _limits: InRepo, hands: Hands) -> dict[str, Any]:
    """Comment on an issue or a pull request."""
    api, where = GitHub.of(hands, asked.repo, issues="write"), f"{path_of(asked.repo, 'issues', asked.number)}/comments"

    async def do() -> dict[str, Any]:
        return _made(await api.ask("POST", where, {"body": f"{asked.body}\n\n{_marker(hands)}"}))

    async def find() -> dict[str, Any] | None:
        return _marked(await api.every(where), hands)

    async def undo(value: dict[str, Any]) -> None:
        await _gone(api, "DELETE", path_of(asked.repo, "issues", "comments", value["id"]))

    return await hands.once(do, find=find, undo=undo)


@tool("github.label", outward=True, writes=True, secrets=(TOKEN,))
async def label(asked: Labels, _limits: Labelled, hands: Hands) -> dict[str, Any]:
    """Add labels to an issue or a pull request."""
    api, where = GitHub.of(hands, asked.repo, issues="write"), f"{path_of(asked.repo, 'issues', asked.number)}/labels"

    async def look() -> list[str]:
        return [str(each["name"]).casefold() for each in await api.every(where)]  # to GitHub Bug and bug are the same

    before = await hands.before(look)
    done = {"labels": asked.labels, "new": [each for each in asked.labels if each.casefold() not in before]}

    async def do() -> dict[str, Any]:
        await api.ask("POST", where, {"labels": asked.labels})
        return done

    async def find() -> dict[str, Any] | None:
        return done if set(await look()).issuperset(map(str.casefold, asked.labels)) else None

    async def undo(value: dict[str, Any]) -> None:
        for name in value["new"]:
            await _gone(api, "DELETE", f"{where}/{quote(name, safe='')}")

    return await hands.once(do, find=find, undo=undo)


@tool("github.pull", outward=True, publishes=True, writes=True, secrets=(TOKEN,))
async def pull(asked: Pull, _limits: Branches, hands: Hands) -> dict[str, Any]:
    """Open a pull request."""
    api, where = GitHub.of(hands, asked.repo, pull_requests="write", contents="read"), path_of(asked.repo, "pulls")
    body = {"title": asked.title, "head": asked.head, "base": asked.base, "body": f"{asked.body}\n\n{_marker(hands)}"}

    async def do() -> dict[str, Any]:
        return _made(await api.ask("POST", where, body))

    async def find() -> dict[str, Any] | None:
        return _marked(await api.every(where, NEWEST, state="all", base=asked.base), hands)

    async def undo(value: dict[str, Any]) -> None:
        await api.ask("PATCH", path_of(asked.repo, "pulls", value["number"]), {"state": "closed"})

    return await hands.once(do, find=find, undo=undo)


def _marker(hands: Hands) -> str:
    return f"<!-- overnight:{hands.call_id} -->"


def _marked(entries: list[Any], hands: Hands) -> dict[str, Any] | None:
    marker = _marker(hands)
    return next((_made(each) for each in entries if marker in (each.get("body") or "")), None)


def _made(answer: Any) -> dict[str, Any]:
    return {name: answer[name] for name in ("id", "number", "html_url") if name in answer}


async def _gone(api: GitHub, method: str, path: str) -> None:
    """Delete; what is gone already is well."""
    try:
        await api.ask(method, path)
    except Permanent as error:
        if error.code != "http_404":
            raise


def _issue(found: Any, *, body: bool) -> dict[str, Any]:
    kept = {name: found.get(name) for name in ("number", "title", "state", "created_at")}
    kept |= {"by": _login(found), "labels": [each["name"] for each in found.get("labels", ())]}
    kept["is_pull_request"] = "pull_request" in found
    return kept | ({"body": (found.get("body") or "")[:KEPT]} if body else {})


def _login(found: Any) -> str:
    return str((found.get("user") or {}).get("login", ""))
