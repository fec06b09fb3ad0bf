"""Which entries are news: pure functions over what was read."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from overnight.feeds.entry import Chosen, Entry

_UNDATED = datetime.min.replace(tzinfo=UTC)


def merge(readings: Sequence[Sequence[Entry]]) -> list[Entry]:
    """Return the entries of all feeds without duplicates, newest first, undated last, ties by id.

    An id occurs once. The same address, or the same title on the same day, makes a duplicate only across feeds:
    within one feed all entries may link to one page. The first feed wins and its entry remembers the other's ids,
    because the feed that wins tomorrow may be the other one.
    """
    kept: dict[str, Entry] = {}
    known: dict[tuple[str, ...], str] = {}
    for entry in chain.from_iterable(readings):
        twin = _twin(entry, kept, known)
        if twin is None:
            kept[entry.id] = entry
        elif entry.id not in twin.ids:
            kept[twin.id] = replace(twin, also=(*twin.also, entry.id))
        for trait in _traits(entry):
            known.setdefault(trait, (twin or entry).id)
    return sorted(sorted(kept.values(), key=lambda entry: entry.id), key=_age, reverse=True)


def choose(
    entries: Sequence[Entry], *, seen: Container[str], until: datetime, since: datetime | None, limit: int
) -> Chosen:
    """Return the stories of the edition that closes at `until`, and the marks to store with it.

    `seen` holds all marks stored so far. `entries` are as `read` orders them. An entry is news if none of its ids is
    in `seen` and it is undated or older than `until`: one published at that very instant belongs to the next edition.
    The first edition of a feed (`seen` has no mark of the feed itself) leaves out what is older than `since` and
    marks it, so that it does not come back as news. Entries over `limit` stay unmarked and come with the next
    edition, if their feed still has them by then.
    """
    known, due, old = [], [], []
    for entry in entries:
        if any(mark in seen for mark in entry.ids):
            known.append(entry)
        elif _mark(entry.source) not in seen and _is_before(entry, since):
            old.append(entry)
        elif entry.published is None or entry.published < until:
            due.append(entry)
    stories = due[: max(limit, 0)]
    # A known story can have a new twin in another feed, which must not be news once the known one has scrolled away.
    ids = chain.from_iterable(entry.ids for entry in (*stories, *old, *known))
    marks = chain(ids, (_mark(entry.source) for entry in entries))
    return Chosen(stories, [mark for mark in dict.fromkeys(marks) if mark not in seen])


def _mark(source: str) -> str:
    return f"feed:{source}"


def _is_before(entry: Entry, since: datetime | None) -> bool:
    return since is not None and entry.published is not None and entry.published < since


def _age(entry: Entry) -> datetime:
    return entry.published or _UNDATED


def _twin(entry: Entry, kept: dict[str, Entry], known: dict[tuple[str, ...], str]) -> Entry | None:
    twins = (kept[known[trait]] for trait in _traits(entry) if trait in known)
    return next((twin for twin in twins if entry.id in twin.ids or twin.source != entry.source), None)


def _traits(entry: Entry) -> Iterator[tuple[str, ...]]:
    yield ("id", entry.id)
    if entry.url:
        yield ("url", normal_url(entry.url))
    day = entry.published.date().isoformat() if entry.published else ""
    yield ("title", day, " ".join(entry.title.casefold().split()))


def normal_url(url: str) -> str:
    """`url` with scheme and host in lower case, without fragment and `utm_` parameters."""
    parts = urlsplit(url)
    if "utm_" not in parts.query:  # rewriting a query can change its spelling
        query = parts.query
    else:
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = urlencode([(name, value) for name, value in pairs if not name.lower().startswith("utm_")])
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", query, ""))
