"""What is read from feeds, as plain values that survive JSON."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from overnight.errors import Permanent


class NotReadable(Permanent):
    """This feed cannot be read; `code` and message say why."""


@dataclass(frozen=True)
class Feed:
    """One feed of the operator: a path relative to the project or an http(s) URL, and the topic of its entries."""

    source: str
    topic: str = ""

    @property
    def remote(self) -> bool:
        """Whether the source is fetched over the network."""
        return self.source.lower().startswith(("http://", "https://"))

    @property
    def name(self) -> str:
        """The source without user name and password: what logs, errors and the ledger may show."""
        if not self.remote:
            return self.source
        scheme, _, rest = self.source.partition("://")
        authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
        return f"{scheme}://{authority.rpartition('@')[2]}{rest[len(authority) :]}"

    @property
    def host(self) -> str:
        """Who is asked for a remote source: its host, with the port where one is named."""
        return self.name.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0].lower()

    @property
    def base(self) -> str:
        """What relative links start from when the feed names no site of its own; empty for files."""
        return self.name if self.remote and urlsplit(self.name).hostname else ""


@dataclass(frozen=True)
class Entry:
    """One story.

    `title` and `text` are plain text (text at most 1500 characters, cut at a word) and still untrusted: they have to
    be escaped in HTML and fenced in prompts. `url` is http(s) or empty, `published` aware UTC or None, `feed` the
    feed's own title, `source` the name of the `Feed`. `also` holds the ids under which other feeds carry the story.
    """

    id: str
    title: str
    url: str
    text: str
    published: datetime | None
    feed: str
    topic: str
    source: str
    also: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id of this story, its own first."""
        return (self.id, *self.also)


@dataclass(frozen=True)
class FeedError:
    """Why a feed, or some entries of it, could not be read; `code` is a short stable word."""

    source: str
    code: str
    message: str


@dataclass(frozen=True)
class Reading:
    """The outcome of reading feeds."""

    entries: list[Entry]
    errors: list[FeedError]


@dataclass(frozen=True)
class Chosen:
    """The stories of an edition, newest first, and the marks to store with it so that nothing is news twice."""

    stories: list[Entry]
    seen: list[str]
