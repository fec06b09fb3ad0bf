"""News from RSS and Atom feeds: read, cleaned, without duplicates, and what of it is new for an edition."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from overnight.feeds.entry import Chosen, Entry, Feed, FeedError, NotReadable, Reading
from overnight.feeds.news import choose, merge
from overnight.feeds.source import MAX_BYTES, load

__all__ = ["Chosen", "Entry", "Feed", "FeedError", "Reading", "choose", "merge", "read"]

PARALLEL = 10  # bodies held in memory at once: 10 x 5 MB


async def read(feeds: Sequence[Feed], *, root: Path, deadline: float = 15.0, max_bytes: int = MAX_BYTES) -> Reading:
    """All entries of `feeds`, newest first, and what was wrong with feeds that could not be read.

    `root` is the folder that relative paths start from; `deadline` is seconds for one attempt at a feed, of which there
    are two. Raises nothing for a bad feed: it becomes a `FeedError` and the others are read. Of two feeds with one
    story the first one wins.
    """
    slots = asyncio.Semaphore(PARALLEL)
    readings = await asyncio.gather(*(_read_one(feed, root, deadline, max_bytes, slots) for feed in feeds))
    return Reading(
        entries=merge([reading.entries for reading in readings]),
        errors=[error for reading in readings for error in reading.errors],
    )


async def _read_one(feed: Feed, root: Path, deadline: float, max_bytes: int, slots: asyncio.Semaphore) -> Reading:
    # feedparser takes 0.1 s to import, which jobs without feeds should not pay.
    from overnight.feeds.parse import parse  # noqa: PLC0415

    try:
        async with slots:
            body = await load(feed, root=root, deadline=deadline, max_bytes=max_bytes)
            return await asyncio.to_thread(parse, feed, body)
    except NotReadable as error:
        return Reading([], [FeedError(feed.name, error.code, str(error))])
