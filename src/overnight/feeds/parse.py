"""From bytes to entries: feedparser does the XML, this module distrusts the rest.

feedparser must get a stream: given bytes or text it would open files and URLs that are named there.
"""

import calendar
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urljoin, urlsplit

import feedparser

from overnight.feeds.entry import Entry, Feed, FeedError, NotReadable, Reading
from overnight.feeds.plain import cut, plain

MAX_TEXT = 1500
MAX_TITLE = 300
MAX_URL = 2000
MAX_ID = 500
MAX_ENTRIES = 5000  # 5 MB of empty items kept the parser busy for 48 s, and a thread cannot be stopped
_TITLE_FROM_TEXT = 80
# Declarations are looked for only where they count: a post about XXE may quote one in CDATA or in a comment.
# Each piece ends at the end of the text at the latest: thus the search stays linear for unclosed ones too.
_PIECE = re.compile(
    rb"""<!--.*?(?:-->|\Z) | <!\[CDATA\[.*?(?:\]\]>|\Z) | <\?.*?(?:\?>|\Z)
    | <!DOCTYPE (?: "[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | [^>\["'] )*+ (?: (?P<subset>\[) | > | \Z )
    | (?P<entity><!ENTITY)""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_ENTRY = re.compile(rb"<(?:\w+:)?(?:item|entry)[\s/>]", re.IGNORECASE)
_URI = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def parse(feed: Feed, body: bytes) -> Reading:
    """Return the entries of `body` in its order, and at most one error about entries that say nothing.

    Works for feeds with broken XML as long as entries can be made out. Raises NotReadable for anything that is not
    a feed, for more than 5000 entries and for documents with declarations of their own: a few bytes of entities can
    expand to gigabytes. Broken XML takes up to 4 s per MB.
    """
    _refuse_hostile(feed, body.replace(b"\0", b""))  # makes UTF-16 and UTF-32 legible enough
    parsed = _parsed(feed, body)
    raw: list[Any] = parsed["entries"]
    if not parsed.get("version") or (parsed["bozo"] and not raw):
        raise NotReadable(f"{feed.name} is neither RSS nor Atom; is the address right?", code="not_a_feed")
    site = _Site(feed, parsed["feed"])
    entries = [entry for entry in map(site.entry, raw) if entry]
    return Reading(entries, list(_dropped(feed, len(raw) - len(entries))))


def _refuse_hostile(feed: Feed, text: bytes) -> None:
    if any(piece.lastgroup for piece in _PIECE.finditer(text)):
        raise NotReadable(f"{feed.name} has a DTD of its own, which is not read", code="forbidden_doctype")
    if sum(1 for _ in _ENTRY.finditer(text)) > MAX_ENTRIES:
        raise NotReadable(f"{feed.name} has more than {MAX_ENTRIES} entries; use a shorter feed", code="too_large")


def _parsed(feed: Feed, body: bytes) -> Any:
    # Without a type it would take every document for Latin-1, as old HTTP did.
    headers = {"content-type": "application/xml", "content-location": feed.base}
    try:
        return feedparser.parse(
            io.BytesIO(body), response_headers=headers, sanitize_html=False, resolve_relative_uris=False
        )
    except Exception as error:  # it promises no set of errors, and one feed must not stop the others
        raise NotReadable(f"{feed.name} cannot be parsed ({type(error).__name__})", code="not_a_feed") from error


def _dropped(feed: Feed, count: int) -> Iterator[FeedError]:
    if count:
        yield FeedError(feed.name, "empty_entry", f"{count} entries of {feed.name} have no title, link or text")


class _Site:
    """What all entries of one feed have in common."""

    def __init__(self, feed: Feed, about: Any) -> None:
        self._feed = feed
        self._link = _web_address(_text(about, "link"), feed.base)
        self._title = cut(_plain_field(about, "title"), MAX_TITLE) or feed.name

    def entry(self, raw: Any) -> Entry | None:
        """Return the entry, or None if it has neither title nor link nor text."""
        url = _web_address(_text(raw, "link"), self._link or self._feed.base)
        text = cut(_body(raw), MAX_TEXT)
        title = _plain_field(raw, "title") or cut(text, _TITLE_FROM_TEXT) or url
        if not title:
            return None
        return Entry(
            id=self._identity(_text(raw, "id"), url, title, text),
            title=cut(title, MAX_TITLE),
            url=url,
            text=text,
            published=_instant(raw, "published_parsed") or _instant(raw, "updated_parsed"),
            feed=self._title,
            topic=self._feed.topic,
            source=self._feed.name,
        )

    def _identity(self, declared: str, url: str, title: str, text: str) -> str:
        identity = plain(declared, is_html=False)
        if identity and not _URI.match(identity):  # "42" is unique in its feed only
            identity = f"{self._link or self._feed.name}#{identity}"
        identity = identity or url
        if identity and len(identity) <= MAX_ID:
            return identity
        return "sha256:" + sha256((identity or f"{title}\n{text}").encode()).hexdigest()


def _text(raw: Any, field: str) -> str:
    # dict.get: feedparser's own get() answers with other fields in place of a missing one, and warns about it.
    value = dict.get(raw, field)
    return value.strip() if isinstance(value, str) else ""


def _plain_field(raw: Any, field: str) -> str:
    detail = dict.get(raw, f"{field}_detail") or {}
    return plain(_text(raw, field), is_html=dict.get(detail, "type", "text/html") != "text/plain")


def _body(raw: Any) -> str:
    contents: list[Any] = dict.get(raw, "content") or []
    full = (plain(_text(part, "value"), is_html=dict.get(part, "type") != "text/plain") for part in contents)
    return _plain_field(raw, "summary") or next(filter(None, full), "")


def _web_address(link: str, base: str) -> str:
    try:
        url = urljoin(base, link).replace(" ", "%20") if link else ""
        parts = urlsplit(url)
    except ValueError:
        return ""
    good_host = parts.hostname and "@" not in parts.netloc  # https://bank.example@evil.example/ leads to evil.example
    good = parts.scheme in {"http", "https"} and good_host and url.isprintable() and len(url) <= MAX_URL
    return url if good else ""


def _instant(raw: Any, field: str) -> datetime | None:
    parts = dict.get(raw, field)
    try:
        return datetime.fromtimestamp(calendar.timegm(parts), UTC) if parts else None
    except (ValueError, OverflowError, OSError):
        return None
