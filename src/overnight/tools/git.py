"""`git.diff` and `git.commit` in a repository that the role names: argument lists, no shell, no hooks, no options.

What a model says never stands where git reads options: names that begin with a dash are refused, paths follow `--`.
"""

import asyncio
import os
import re
from contextlib import suppress
from typing import Any

from pydantic import Field

from overnight import jail
from overnight.errors import Denied, Permanent, Unknown
from overnight.tools.files import Folder
from overnight.tools.port import Arguments, Hands, Limits, tool

SECONDS = 60.0
TRAILER = "Overnight-Call"
_REVISION = re.compile(r"[A-Za-z0-9_][\w./@{}^~-]{0,199}", re.ASCII)
# A repository's own settings may name programs; these are the ones that diff, add and commit would start.
_QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false", "-c",
          "protocol.allow=never", "-c", "submodule.recurse=false")  # fmt: skip


class Repository(Limits):
    """A repository's folder, relative to the project's, and the most that is read."""

    repo: Folder
    """The folder of a repository."""
    max_bytes: int = Field(default=200_000, ge=1, le=10_000_000)
    """The most of a patch that is shown."""


class Between(Arguments):
    """Two revisions, and the paths that matter; none means all."""

    base: str = Field(description="A branch, tag or commit")
    head: str = Field(default="HEAD", description="A branch, tag or commit")
    paths: list[str] = Field(default_factory=list, max_length=50)


class Change(Arguments):
    """What to commit: files as they are in the working tree."""

    message: str = Field(min_length=1, max_length=5_000)
    paths: list[str] = Field(min_length=1, max_length=50)


@tool("git.diff")
async def diff(asked: Between, limits: Repository, hands: Hands) -> dict[str, Any]:
    """Show the changes between two revisions as a patch. Long patches are cut."""
    revisions = [_revision(asked.base), _revision(asked.head)]
    options = ("diff", "--no-ext-diff", "--no-textconv", "--no-color")
    patch = await _git(hands, limits, *options, *revisions, "--", *_paths(asked.paths))
    text = patch.decode(errors="replace")
    return {"bytes": len(patch), "patch": text[: limits.max_bytes], "cut": len(text) > limits.max_bytes}


@tool("git.commit", writes=True)
async def commit(asked: Change, limits: Repository, hands: Hands) -> dict[str, str]:
    """Commit files of the working tree on the current branch; nothing is pushed."""
    paths = _paths(asked.paths)
    _refuse_secrets(hands, limits, asked.paths)
    message = f"{asked.message.strip()}\n\n{TRAILER}: {hands.call_id}\n"

    async def do() -> dict[str, str]:
        try:
            await _git(hands, limits, "add", "--", *paths)
            await _git(hands, limits, "commit", "--no-verify", "--quiet", "-m", message, "--", *paths)
        except TimeoutError as error:
            raise Unknown(f"git did not end within {SECONDS:g} s", code="timeout") from error
        return {"commit": (await _git(hands, limits, "rev-parse", "HEAD")).decode().strip()}

    async def find() -> dict[str, str] | None:
        line = f"^{TRAILER}: {hands.call_id}$"
        found = (await _git(hands, limits, "log", "-1", "--format=%H", f"--grep={line}")).decode().strip()
        return {"commit": found} if found else None

    async def undo(value: dict[str, str]) -> None:
        reverts = f"^This reverts commit {value['commit']}"
        if await _git(hands, limits, "log", "-1", "--format=%H", f"--grep={reverts}"):
            return
        await _refuse_amid(hands, limits)
        try:
            await _git(hands, limits, "revert", "--no-edit", value["commit"])
        except (Permanent, TimeoutError):  # somebody has built on it: the repository is left as it was, and usable
            with suppress(Permanent, TimeoutError):
                if await _at(hands, limits, "revert") == value["commit"]:
                    await _git(hands, limits, "revert", "--abort")
            raise

    return await hands.once(do, find=find, undo=undo)


def _revision(name: str) -> str:
    if not _REVISION.fullmatch(name) or ".." in name:
        raise Denied(f"{name!r:.100} is no branch, tag or commit", code="revision")
    return name


def _paths(paths: list[str]) -> list[str]:
    """Paths that git takes literally. Raises Denied."""
    for path in paths:
        if path.startswith("-"):
            raise Denied(f"{path!r:.100} begins with a dash", code="path")
    return [f":(literal){'/'.join(jail.steps(path))}" for path in paths]


def _refuse_secrets(hands: Hands, limits: Repository, paths: list[str]) -> None:
    """Raises Denied for the project's own var/: what was committed is shown, and pushed some day."""
    secret, place = (hands.root / "var").resolve(), (hands.root / limits.repo).resolve()
    for path in paths:
        meant = (place / path).resolve()
        if meant.is_relative_to(secret) or secret.is_relative_to(meant):
            raise Denied(f"{path!r:.100} leads to var/, which no role may have", code="path")


async def _refuse_amid(hands: Hands, limits: Repository) -> None:
    """Raises Permanent when a person has begun something here: what is resolved by hand is not ours to drop."""
    begun = [what for what in ("revert", "cherry-pick", "merge") if await _at(hands, limits, what)]
    series = (await _git(hands, limits, "rev-parse", "--git-path", "sequencer")).decode().strip()
    if not begun and (hands.root / limits.repo / series).exists():
        begun = ["series of commits"]
    if begun:
        raise Permanent(f"in {limits.repo} a {begun[0]} is under way, which has to be ended first", code="git")


async def _at(hands: Hands, limits: Repository, what: str) -> str:
    """The commit that is being reverted, picked or merged; nothing when none is."""
    name = f"{what.replace('-', '_').upper()}_HEAD"
    try:
        return (await _git(hands, limits, "rev-parse", "--quiet", "--verify", name)).decode().strip()
    except Permanent:
        return ""


async def _git(hands: Hands, limits: Repository, *words: str) -> bytes:
    """Run git and return what it says. Raises Permanent with its own words."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    names = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _SELF.items()}
    quiet = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *_QUIET, *words,
            cwd=hands.root / limits.repo, env=kept | names | quiet,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise Permanent(f"git cannot be started in {limits.repo}: {error.strerror}", code="git") from error
    try:
        async with asyncio.timeout(SECONDS):
            out, wrong = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        raise Permanent(f"git {words[0]}: {wrong.decode(errors='replace').strip():.300}", code="git")
    return out


_SELF = {"NAME": "overnight", "EMAIL": "overnight@localhost.localdomain"}
