"""`files.read`, `files.list`, `files.write`: text files below the folder that the role names."""

import asyncio
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from overnight import jail
from overnight.errors import Denied, Permanent
from overnight.tools.port import Arguments, Hands, Limits, tool

MOST_NAMES = 500
CODE = ("jobs", "reports", "templates")
LONGEST_BEFORE = 1_000_000  # bytes of a file that is kept, to put it back


def _folder(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("names no folder; write root: docs/")
    return value


Folder = Annotated[str, AfterValidator(_folder)]


def _below(value: str) -> str:
    """Refuse the project itself, where secrets and the ledger lie in var/; `_place` looks where a root really leads."""
    parts = PurePosixPath(_folder(value)).parts
    if not parts or parts[0] == "var" or ".." in parts or value.startswith("~"):
        raise ValueError(f"{value!r} would give away secrets and the ledger; name a folder such as docs/")
    return value


class Below(Limits):
    """A folder, relative to the project's, and the most that is read or written at once."""

    root: Annotated[str, AfterValidator(_below)]
    """A folder of the project; nothing above, hidden or below `var/`."""
    max_bytes: int = Field(default=200_000, ge=1, le=10_000_000)
    """The most that is read or written at once."""


def _not_code(value: str) -> str:
    """Refuse what runs, or instructs, in the next night: with all secrets, and in every role."""
    if (first := PurePosixPath(value).parts[0]) in CODE:
        raise ValueError(f"{first}/ holds code or prompts of the project, which no role may write; name another folder")
    return value


class Into(Below):
    """A folder that may be written to."""

    root: Annotated[str, AfterValidator(_below), AfterValidator(_not_code)]


class File(Arguments):
    """One file."""

    path: str = Field(description="Relative to the folder of your role, such as docs/index.md")


class Text(File):
    """A file and what is to be in it."""

    text: str


@tool("files.read")
async def read(asked: File, limits: Below, hands: Hands) -> dict[str, object]:
    """Read a text file. Long files are cut; the answer tells the size of the whole."""
    place = _place(limits, hands)
    data, size = await asyncio.to_thread(jail.read, place, asked.path, limits.max_bytes)
    if b"\0" in data:
        raise Permanent(f"{asked.path} is no text", code="binary")
    return {"path": asked.path, "bytes": size, "text": data.decode(errors="replace")}


@tool("files.list")
async def listing(asked: File, limits: Below, hands: Hands) -> list[str]:
    """List the names in a folder; folders end with a slash. The path "." is the folder of your role itself."""
    return await asyncio.to_thread(jail.names, _place(limits, hands), asked.path, MOST_NAMES)


@tool("files.write", writes=True)
async def write(asked: Text, limits: Into, hands: Hands) -> dict[str, object]:
    """Write a text file as a whole; one of the same name is replaced."""
    data = asked.text.encode(errors="replace")
    if len(data) > limits.max_bytes:
        raise Permanent(f"{len(data)} bytes are more than the {limits.max_bytes} that are allowed", code="too_long")
    place = _place(limits, hands, *CODE)
    done: dict[str, object] = {"path": asked.path, "bytes": len(data)}

    async def look() -> str | None:
        return await asyncio.to_thread(_before, place, asked.path)

    async def do() -> dict[str, object]:
        await asyncio.to_thread(jail.write, place, asked.path, data)
        return done

    async def find() -> dict[str, object] | None:
        return None  # the same bytes once more are the same file

    async def undo(_value: object) -> None:
        if before is None:
            await asyncio.to_thread(jail.remove, place, asked.path)
        else:
            await asyncio.to_thread(jail.write, place, asked.path, before.encode())

    before = await hands.before(look)
    return await hands.once(do, find=find, undo=undo)


def _place(limits: Below, hands: Hands, *more: str) -> Path:
    """The folder of the role. Raises Denied when var/, or one of `more`, lies in it or around it, by whatever link."""
    place = (hands.root / limits.root).resolve()
    for ours in ((hands.root / name).resolve() for name in ("var", *more)):
        if ours.is_relative_to(place) or place.is_relative_to(ours):
            raise Denied(f"{limits.root} leads to {ours.name}/, which no role may have; name another root", code="root")
    return place


def _before(place: Path, path: str) -> str | None:
    """What the file holds now, None when there is none. Raises Permanent for what could not be put back."""
    try:
        data, size = jail.read(place, path, LONGEST_BEFORE)
        text = data.decode()
    except Permanent as error:
        if error.code == "not_found":
            return None
        raise
    except UnicodeDecodeError as error:
        raise Permanent(f"{path} is no text, and is not replaced", code="binary") from error
    if size > len(data):
        raise Permanent(f"{path} has {size} bytes; over {LONGEST_BEFORE} it is not replaced", code="too_long")
    return text
