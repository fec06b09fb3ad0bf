"""Nothing is news twice: duplicates, order, editions, and the feeds of the demo."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.feeds import Entry, Feed, choose, merge, read
from overnight.feeds.entry import Chosen

PROJECT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("OVERNIGHT_SHARED_DATA", PROJECT / "../shared/data"))
REAL_FEED = SHARED / "feeds" / "defined-misbehaviour.atom.xml"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def story(
    identity: str, published: datetime | None = NOON, *, source: str = "a", url: str = "", title: str = ""
) -> Entry:
    return Entry(identity, title or f"Title of {identity}", url, "", published, "News", "", source)


def test_of_two_feeds_with_one_story_the_first_wins() -> None:
    address = story("a1", url="https://Site.example.org?utm_source=x&b=1#top", source="a")
    same_address = story("b1", NOON - DAY, url="HTTPS://site.example.org/?b=1", source="b", title="Other words")
    same_title = story("c1", NOON.replace(hour=1), source="c", title="TITLE  of a1")
    other_day = story("c2", NOON - DAY, source="c", title="Title of a1")
    entries = merge([[address, story("x")], [same_address, story("x", source="b")], [same_title, other_day]])
    assert [entry.id for entry in entries] == ["a1", "x", "c2"]
    assert entries[0].also == ("b1", "c1")


def test_entries_of_one_feed_may_share_a_page_and_a_title() -> None:
    entries = [story(identity, url="https://example.org/", title="Notice") for identity in ("1", "2")]
    assert merge([entries]) == entries


def test_entries_are_ordered_newest_first_undated_last_ties_by_id() -> None:
    entries = [
        story("u2", None),
        story("b"),
        story("old", NOON - DAY),
        story("a"),
        story("u1", None),
        story("new", NOON + DAY),
    ]
    assert [entry.id for entry in merge([entries])] == ["new", "a", "b", "old", "u1", "u2"]


def edition(
    entries: list[Entry], seen: set[str], until: datetime, *, window: timedelta = 3 * DAY, limit: int = 99
) -> Chosen:
    chosen = choose(entries, seen=seen, until=until, since=until - window, limit=limit)
    seen.update(chosen.seen)
    return chosen


def ids(chosen: Chosen) -> list[str]:
    return [entry.id for entry in chosen.stories]


def test_an_entry_published_at_the_scheduled_instant_belongs_to_the_next_edition() -> None:
    seen: set[str] = set()
    assert ids(edition([story("a")], seen, NOON)) == []
    assert ids(edition([story("a")], seen, NOON + DAY)) == ["a"]
    assert ids(edition([story("a")], seen, NOON + 2 * DAY)) == []


def test_what_is_too_old_for_the_first_edition_is_never_news() -> None:
    seen: set[str] = set()
    entries = [story("new", NOON - DAY), story("edge", NOON - 3 * DAY), story("old", NOON - 4 * DAY)]
    assert ids(edition(entries, seen, NOON)) == ["new", "edge"]
    assert ids(edition(entries, seen, NOON + DAY)) == []


def test_a_late_entry_of_a_known_feed_is_news_however_old() -> None:
    seen: set[str] = set()
    edition([story("a", NOON - DAY)], seen, NOON)
    assert ids(edition([story("late", NOON - 9 * DAY)], seen, NOON + DAY)) == ["late"]


def test_a_feed_added_later_has_a_first_edition_of_its_own() -> None:
    seen: set[str] = set()
    edition([story("a", NOON - DAY)], seen, NOON)
    added = [story("b", NOON, source="b"), story("old", NOON - 9 * DAY, source="b")]
    assert ids(edition(added, seen, NOON + DAY)) == ["b"]


def test_entries_over_the_limit_come_with_the_next_edition_even_if_too_old_by_then() -> None:
    seen: set[str] = set()
    entries = [story("1", NOON - DAY), story("2", NOON - 2 * DAY), story("3", None)]
    assert [ids(edition(entries, seen, NOON + n * DAY, limit=1)) for n in range(4)] == [["1"], ["2"], ["3"], []]


def test_a_story_does_not_return_under_the_id_of_another_feed() -> None:
    seen: set[str] = set()
    ours = story("a1", NOON - DAY, url="https://example.org/x", source="a")
    theirs = story("b1", NOON - DAY, url="https://example.org/x", source="b")
    assert ids(edition(merge([[theirs]]), seen, NOON)) == ["b1"]
    assert ids(edition(merge([[ours], [theirs]]), seen, NOON + DAY)) == []
    assert ids(edition(merge([[ours]]), seen, NOON + 2 * DAY)) == []


@given(
    hours=st.lists(st.none() | st.integers(-200, 200), max_size=25),
    sources=st.lists(st.sampled_from("abc"), min_size=25, max_size=25),
    limit=st.integers(1, 30),
    window=st.integers(1, 200),
)
def test_every_entry_is_in_exactly_one_edition_unless_too_old_at_the_first(
    hours: list[int | None], sources: list[str], limit: int, window: int
) -> None:
    instants = [None if hour is None else NOON + timedelta(hours=hour) for hour in hours]
    entries = merge([[story(str(n), at, source=sources[n], title=f"{n}") for n, at in enumerate(instants)]])
    seen: set[str] = set()
    printed: list[str] = []
    for night in range(40):  # more nights than it takes to print 25 entries one by one after the last date
        until = NOON + night * DAY
        chosen = edition(entries, seen, until, window=timedelta(hours=window), limit=limit)
        assert all(entry.published is None or entry.published < until for entry in chosen.stories)
        assert len(chosen.stories) <= limit
        printed += ids(chosen)
    too_old = {entry.id for entry in entries if entry.published and entry.published < NOON - timedelta(hours=window)}
    assert sorted(printed) == sorted({entry.id for entry in entries} - too_old)


async def test_the_demo_feeds_read_without_errors_and_without_their_traps() -> None:
    names = {"feed": "city", "science": "science", "culture": "culture"}
    reading = await read([Feed(f"content/{name}.xml", topic) for name, topic in names.items()], root=PROJECT)
    chosen = choose(reading.entries, seen=(), until=NOON.replace(hour=6), since=NOON - 4 * DAY, limit=99)
    assert reading.errors == []
    assert {entry.topic for entry in chosen.stories} == {"city", "science", "culture"}
    assert "tram-works" not in repr(chosen.stories)  # dated after the edition closes
    assert sum("library" in entry.url for entry in chosen.stories) == 1
    assert sum(entry.published is None for entry in chosen.stories) == 1
    assert "must never reach a reader" not in repr(reading.entries)


@pytest.mark.skipif(not REAL_FEED.exists(), reason="the real feed is not on this machine (OVERNIGHT_SHARED_DATA)")
async def test_a_real_feed_gives_each_morning_its_own_stories() -> None:
    reading = await read([Feed(str(REAL_FEED))], root=PROJECT)
    seen: set[str] = set()
    mornings = [datetime.combine(date(2016, 8, day), datetime.min.time(), UTC).replace(hour=7) for day in (15, 16, 17)]
    editions = [edition(reading.entries, seen, morning, window=400 * DAY) for morning in mornings]
    assert [[entry.title for entry in chosen.stories] for chosen in editions] == [
        ["Leaking Clipboard Contents With Flash: Let's Explore User-Initiated Actions!"],
        ["JetBrains IDE Remote Code Execution and Local File Disclosure"],
        [],
    ]
    assert editions[0].stories[0].id.startswith("http://blog.saynotolinux.com/blog/2015/08/02/")
    assert editions[1].stories[0].published == mornings[0]
