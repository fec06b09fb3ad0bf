"""Send each subscriber the digest of the day: what is new in the feeds, put together once, in their topics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from itertools import accumulate
from typing import Any

from overnight import Run, Skip, Stop, Subscriber, active_subscribers, job
from overnight.clock import iso
from overnight.feeds import Entry, Feed, Reading, choose, read
from overnight.schedule.values import duration

MOST_STORIES = 20
MOST_BYTES = 90_000  # of all stories in the HTML: Gmail hides what is beyond 102 kB of a mail
SUBJECT_MAX = 120  # characters; the prompt asks for less, and nobody is to miss the mail because of a talkative editor
TITLE_MAX = 60  # of it, in a subject without an editor
INTRO_MAX = 600
WHY_MAX = 400


@dataclass(frozen=True)
class Story:
    """One story as the templates see it; `why` says in one line why it matters."""

    id: str
    title: str
    url: str
    why: str
    topic: str
    feed: str
    published: str


@dataclass(frozen=True)
class Line:
    """What the editor writes about one story, named by its id."""

    id: str
    why: str


@dataclass(frozen=True)
class Draft:
    """What the editor writes."""

    subject: str
    intro: str
    lines: list[Line]


@dataclass(frozen=True)
class Edition:
    """The digest of the day; `source` says who wrote it: `model`, `repaired`, `replayed` or `fallback`."""

    subject: str
    intro: str
    stories: list[Story]
    source: str

    def only(self, topics: Sequence[str]) -> "Edition":
        """The edition for somebody with these topics; no topics means everything.

        The editor wrote subject and intro about all stories: who gets fewer, gets plain ones about those.
        """
        kept = [story for story in self.stories if not topics or not story.topic or story.topic in topics]
        if len(kept) == len(self.stories):
            return self
        titles = [story.title for story in kept]
        return replace(self, subject=plain_subject(titles), intro=plain_intro(titles), stories=kept)


async def edition(run: Run) -> Edition:
    """Put the edition together, once per slot: paid for once, also after a crash."""
    stories = await unseen_stories(run)
    if not stories:
        return Edition("", "", [], "nothing new")
    material = {"stories": [{"id": s.id, "title": s.title, "topic": s.topic, "text": s.text} for s in stories]}
    answer = await run.agent("editor", data=material, output=Draft, fallback=plain_draft(stories))
    return compose(answer.value, stories, answer.source)


async def unseen_stories(run: Run) -> list[Entry]:
    """Entries no earlier edition has used, published before the edition was due. Stop when no feed can be read."""
    seen = await run.seen("stories")
    reading = await read(feeds(run.params), root=run.root)
    for error in reading.errors:
        run.warn("feeds", f"{error.source}: {error.message}")
    if reading.errors and not reading.entries:
        raise Stop(_unreadable(reading), code="no_feed")
    news = partial(
        choose,
        reading.entries,
        seen=seen,
        until=min(run.now(), run.scheduled_for),
        since=run.scheduled_for - duration(run.params.get("window", "3d")),
    )
    chosen = news(limit=fitting(news(limit=MOST_STORIES).stories))
    run.mark_seen("stories", chosen.seen)
    return chosen.stories


def fitting(stories: Sequence[Entry]) -> int:
    """How many of the stories, from the first on, make a mail that no mailbox cuts; the others come next time."""
    sizes = accumulate(2_000 + 2 * _size(s.url) + _size(s.title) + _size(s.feed) + 4 * WHY_MAX for s in stories)
    return sum(size <= MOST_BYTES for size in sizes)


def _size(text: str) -> int:
    """Bytes in HTML."""
    return len(escape(text).encode())


def feeds(params: Mapping[str, Any]) -> list[Feed]:
    """`params.feeds` go to everybody; each of `params.topics: {topic: [feed, …]}` to who has chosen the topic."""
    general = [Feed(source) for source in params.get("feeds", ())]
    topics: Mapping[str, Sequence[str]] = params.get("topics", {})
    return general + [Feed(source, topic) for topic, sources in topics.items() for source in sources]


def plain_draft(stories: Sequence[Entry]) -> Draft:
    """The edition without an editor: the feeds' own words."""
    titles = [story.title for story in stories]
    lines = [Line(story.id, first_sentence(story.text)) for story in stories]
    return Draft(plain_subject(titles), plain_intro(titles), lines)


def plain_subject(titles: Sequence[str]) -> str:
    """The first title, and how many follow; empty for an edition that nobody gets."""
    more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return f"{shortened(titles[0], TITLE_MAX)}{more}" if titles else ""


def plain_intro(titles: Sequence[str]) -> str:
    """How many stories there are."""
    return f"{len(titles)} new {'story' if len(titles) == 1 else 'stories'} since the last edition."


def compose(draft: Draft, stories: Sequence[Entry], source: str) -> Edition:
    """Join what the editor wrote to the stories it is about; what the editor forgot is made of their own words."""
    lines = {line.id: line.why for line in draft.lines}
    titles = [story.title for story in stories]
    subject = shortened(_worded(draft.subject) or plain_subject(titles), SUBJECT_MAX)
    intro = shortened(_worded(draft.intro) or plain_intro(titles), INTRO_MAX)
    return Edition(subject, intro, [_story(s, lines.get(s.id)) for s in stories], source)


def first_sentence(text: str, limit: int = 200) -> str:
    """The first sentence of a text, or as much of it as fits."""
    sentence = shortened(text.partition(". ")[0].strip(), limit)
    return sentence if not sentence or sentence[-1] in ".!?…" else sentence + "."


def shortened(text: str, limit: int) -> str:
    """The text, or as many of its words as fit; where words have no blanks between them, as much of it as fits."""
    if len(text) <= limit:
        return text
    words = text[:limit].rpartition(" ")[0]
    return f"{words if len(words) > limit / 2 else text[:limit]} …"


def _worded(text: str) -> str:
    """The text, unless there is nothing in it to read."""
    return text if any(map(str.isalnum, text)) else ""


def _story(entry: Entry, why: str | None) -> Story:
    published = iso(entry.published) if entry.published else ""
    line = shortened(why, WHY_MAX) if why else first_sentence(entry.text)
    return Story(entry.id, entry.title, entry.url, line, entry.topic, entry.feed, published)


def _unreadable(reading: Reading) -> str:
    return "no feed could be read: " + "; ".join(f"{e.source}: {e.message}" for e in reading.errors)


@job(items=active_subscribers, key=lambda subscriber: subscriber.id, concurrency=20)
async def daily_email(subscriber: Subscriber, run: Run) -> str:
    """One subscriber; returns the Message-ID. Nobody gets an empty mail."""
    mine = (await run.once(edition)).only(subscriber.topics)
    if not mine.stories:
        raise Skip("no news")
    return await run.mail.send(subscriber, "daily_email", archive=True, edition=mine)
