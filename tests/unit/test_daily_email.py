"""The daily mail as its readers get it: what is put together, and that it always fits."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from overnight import Subscriber, project
from overnight.feeds import Entry
from overnight.testing import Bench

project.attach(Path(__file__).parents[2])

from jobs.daily_email import MOST_BYTES, MOST_STORIES, WHY_MAX, Draft, Line, compose, daily_email, fitting  # noqa: E402

ANN = Subscriber("s_ann", "ann@example.org", "Ann")
LINK = r'href="https://example.org/(\d+)\?'


def entry(n: int, **changes: str) -> Entry:
    said = {"title": f"Story {n}", "url": f"https://example.org/{n}", "text": "It is told.", "feed": "Feed", **changes}
    return Entry(id=f"story-{n}", source="feed.xml", published=datetime(2026, 11, 21, tzinfo=UTC), topic="", **said)


def test_as_many_ordinary_stories_as_there_may_be_fit() -> None:
    assert (
        fitting([entry(n, title="x" * 120, url="https://example.org/" + "y" * 150) for n in range(20)]) == MOST_STORIES
    )


def test_what_does_not_fit_comes_with_the_next_edition_and_no_feed_makes_a_mail_too_large(bench: Bench) -> None:
    title = "&amp;" * 250
    (bench.folder / "feed.xml").write_text(
        "<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>&lt;&lt;&lt;</title>"
        + "".join(
            f"<entry><id>story-{n}</id><title>{n} {title}</title>"
            f"<link href='https://example.org/{n}?{'a&amp;' * 900}'/>"
            f"<updated>2026-11-22T06:00:{59 - n:02}Z</updated><summary>{'&amp;' * 900}</summary></entry>"
            for n in range(20)
        )
        + "</feed>",
        encoding="utf-8",
    )
    editions = []
    for day in ("2026-11-22", "2026-11-23"):
        bench.slot = day
        assert bench.batch(daily_email, ANN, params={"feeds": ["feed.xml"]}).states == {"s_ann": "ok"}
        (html,) = [mail.html for mail in bench.outbox if set(re.findall(LINK, mail.html)) not in editions]
        assert len(html.encode()) < MOST_BYTES + 10_000
        editions.append(set(re.findall(LINK, html)))
    first, second = editions
    assert len(first) == len(second) > 4
    assert not first & second


LONG_TITLE = "The mill at the river that runs through the whole town is open"


@pytest.mark.parametrize(
    ("title", "subject", "wanted"),
    [
        ("The mill is open", "word " * 60, "word " * 23 + "word …"),
        ("The mill is open", "", "The mill is open"),
        ("The mill is open", " \x00\n—", "The mill is open"),
        ("The mill is open", "=?utf-8?q?a=0D=0ABcc:_v=40x.com?=", "= ?utf-8?q?a=0D=0ABcc:_v=40x.com?="),
        ("=?utf-8?q?a=0D=0ABcc:_v=40x.com?=", "", "= ?utf-8?q?a=0D=0ABcc:_v=40x.com?="),
        ("=?no-such?q?a?= and so on", "", "= ?no-such?q?a?= and so on"),
        (LONG_TITLE, "", "The mill at the river that runs through the whole town is …"),
    ],
)
def test_neither_a_feed_nor_the_editor_can_keep_the_mail_from_going_out_by_a_subject(
    bench: Bench, title: str, subject: str, wanted: str
) -> None:
    bench.feed(title)
    bench.script.answers = [Draft(subject, "", [])]
    assert bench.batch(daily_email, ANN, params={"feeds": ["feed.xml"]}).states == {"s_ann": "ok"}
    (mail,) = bench.outbox
    assert mail.subject == wanted
    assert "1 new story since the last edition." in mail.text


def test_a_long_line_of_the_editor_is_shortened_at_a_word() -> None:
    stories = [entry(0)]
    edition = compose(Draft("s", "i", [Line("story-0", "word " * 500)]), stories, "model")
    assert len(edition.stories[0].why) <= WHY_MAX + 2
    assert edition.stories[0].why.endswith("word …")


@pytest.mark.parametrize("why", ["x" * 1000, "\U0001f600" * 1000])
def test_a_line_without_words_is_cut(why: str) -> None:
    assert len(compose(Draft("s", "i", [Line("story-0", why)]), [entry(0)], "model").stories[0].why) <= WHY_MAX + 2
