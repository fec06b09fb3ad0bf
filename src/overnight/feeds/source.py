"""From a feed's source to its bytes: a file of the project, or a download with limits."""

import asyncio
from pathlib import Path

from overnight.dependency import dependencies
from overnight.errors import Transient
from overnight.feeds.entry import Feed, NotReadable

MAX_BYTES = 5_000_000


async def load(feed: Feed, *, root: Path, deadline: float, max_bytes: int) -> bytes:
    """Return the body of `feed`; raises NotReadable for whatever stands in the way, an empty body included."""
    if feed.remote:
        body = await _download(feed, deadline, max_bytes + 1)
    else:
        body = await _from_disk(feed, root, deadline, max_bytes + 1)
    if len(body) > max_bytes:
        raise NotReadable(f"{feed.name} is larger than {max_bytes} bytes; use a shorter feed", code="too_large")
    if not body.strip():
        raise NotReadable(f"{feed.name} is empty", code="empty")
    return body


async def _download(feed: Feed, deadline: float, limit: int) -> bytes:
    """Ask the feed's host, unless it has just failed for another feed, job or process of this ledger."""
    # aiohttp takes 0.4 s to import, which projects with local feeds should not pay.
    from overnight.feeds.download import download  # noqa: PLC0415

    async def attempt() -> bytes:
        try:
            async with asyncio.timeout(deadline):
                return await download(feed, limit=limit)
        except TimeoutError:
            raise Transient(f"{feed.name} did not arrive within {deadline:g} s", code="timeout") from None

    try:
        return await dependencies().of(f"feed:{feed.host}").call(attempt, requests=1)
    except Transient as error:
        raise NotReadable(str(error), code=error.code) from None


async def _from_disk(feed: Feed, root: Path, deadline: float, limit: int) -> bytes:
    try:
        async with asyncio.timeout(deadline):
            return await asyncio.to_thread(_read_file, root / feed.source, feed.name, limit)
    except TimeoutError:
        raise NotReadable(f"{feed.name} did not arrive within {deadline:g} s", code="timeout") from None


def _read_file(path: Path, name: str, limit: int) -> bytes:
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would wait for a writer for ever
            raise NotReadable(f"{name} is not a file", code="unreadable")
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        raise NotReadable(f"there is no file {name} in the project", code="missing") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotReadable(f"{name!r} cannot be read: {reason}", code="unreadable") from error
