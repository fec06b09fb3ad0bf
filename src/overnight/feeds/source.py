"""From a feed's source to its bytes: a file of the project, or a download with limits."""

import asyncio
from pathlib import Path

from overnight.feeds.entry import Feed, NotReadable

MAX_BYTES = 5_000_000


async def load(feed: Feed, *, root: Path, deadline: float, max_bytes: int) -> bytes:
    """Return the body of `feed`; raises NotReadable for whatever stands in the way, an empty body included."""
    try:
        async with asyncio.timeout(deadline):
            body = await _bytes_of(feed, root, max_bytes)
    except TimeoutError:
        raise NotReadable(f"{feed.name} did not arrive within {deadline:g} s", code="timeout") from None
    if len(body) > max_bytes:
        raise NotReadable(f"{feed.name} is larger than {max_bytes} bytes; use a shorter feed", code="too_large")
    if not body.strip():
        raise NotReadable(f"{feed.name} is empty", code="empty")
    return body


async def _bytes_of(feed: Feed, root: Path, max_bytes: int) -> bytes:
    if not feed.remote:
        return await asyncio.to_thread(_read_file, root / feed.source, feed.name, max_bytes + 1)
    # aiohttp takes 0.4 s to import, which projects with local feeds should not pay.
    from overnight.feeds.download import download  # noqa: PLC0415

    return await download(feed, limit=max_bytes + 1)


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
