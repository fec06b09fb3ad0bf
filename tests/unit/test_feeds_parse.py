"""What arrives as a feed is cleaned, and what is broken in it is named."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.feeds import Entry, Feed, Reading, read
from overnight.feeds.entry import NotReadable
from overnight.feeds.parse import parse
from overnight.feeds.plain import cut, plain

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rss(*items: str, link: str = "https://site.example.org/") -> bytes:
    body = "".join(f"<item>{item}</item>" for item in items)
    return f"<rss version='2.0'><channel><title>News</title><link>{link}</link>{body}</channel></rss>".encode()


def one(item: str) -> Entry:
    return parse(Feed("feed.xml", "city"), rss(item)).entries[0]


async def read_body(folder: Path, body: bytes) -> Reading:
    (folder / "feed.xml").write_bytes(body)
    return await read([Feed("feed.xml")], root=folder)


def codes(reading: Reading) -> list[str]:
    return [error.code for error in reading.errors]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("nowhere.xml", "missing"),
        (".", "unreadable"),
        ("a\0b", "unreadable"),
        ("pipe", "unreadable"),
        ("x" * 300, "unreadable"),
    ],
)
async def test_a_path_that_is_no_file_is_an_error(source: str, code: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert codes(await read([Feed(source)], root=tmp_path)) == [code]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b" " * 5_000_001, "too_large"),
        (rss(*["<title>x</title>"] * 5001), "too_large"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not_a_feed"),
        (b"<a><b></a>", "not_a_feed"),
        (b"<?xml version='1.0' encoding='no-such-thing'?><a/>", "not_a_feed"),
    ],
)
async def test_a_file_that_is_no_feed_is_an_error(body: bytes, code: str, tmp_path: Path) -> None:
    assert codes(await read_body(tmp_path, body)) == [code]


async def test_a_body_that_names_a_file_does_not_open_it(tmp_path: Path) -> None:
    (tmp_path / "private.xml").write_bytes(rss("<title>private</title>"))
    reading = await read_body(tmp_path, str(tmp_path / "private.xml").encode())
    assert codes(reading) == ["not_a_feed"]


async def test_a_feed_without_entries_is_no_error(tmp_path: Path) -> None:
    assert await read_body(tmp_path, rss()) == Reading([], [])


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("", "utf-8"),
        ("", "cp1252"),
        ("", "utf-16"),
        ("<?xml version='1.0' encoding='utf-8'?>", "utf-8-sig"),
        ("<?xml version='1.0' encoding='iso-8859-1'?>", "iso-8859-1"),
        ("<?xml version='1.0' encoding='us-ascii'?>", "utf-8"),
    ],
)
async def test_letters_arrive_whatever_the_encoding(declaration: str, encoding: str, tmp_path: Path) -> None:
    document = declaration + rss("<title>Zoë Müller</title>").decode()
    reading = await read_body(tmp_path, document.encode(encoding))
    assert [entry.title for entry in reading.entries] == ["Zoë Müller"]


async def test_a_truncated_feed_still_gives_its_whole_entries(tmp_path: Path) -> None:
    whole = rss("<title>One</title>", "<title>Two</title>")
    reading = await read_body(tmp_path, whole[: whole.index(b"Two")])
    assert "One" in [entry.title for entry in reading.entries]


BOMB = "<!DOCTYPE rss [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>"
EXTERNAL = "<!DOCTYPE rss [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>"


@pytest.mark.parametrize(
    "head",
    [
        BOMB,
        EXTERNAL,
        f"<!-- <a> --> {BOMB}",
        f"<?note <!-- ?> {BOMB} <?note --> ?>",
        f'<!DOCTYPE rss SYSTEM "><!--" {BOMB.removeprefix("<!DOCTYPE rss")} <!-- -->',
        BOMB.replace("DOCTYPE", "doctype"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_documents_that_declare_entities_are_refused(head: str, encoding: str) -> None:
    document = f"{head}{rss('<title>&b;&x;</title>').decode()}"
    with pytest.raises(NotReadable) as caught:
        parse(Feed("feed.xml"), document.encode(encoding))
    assert caught.value.code == "forbidden_doctype"


def test_a_post_that_quotes_an_entity_declaration_is_read() -> None:
    entry = one(
        f"<title>XXE</title><description><![CDATA[<pre>{BOMB.replace('<', '&lt;')}</pre>{BOMB}]]></description>"
    )
    assert "<!ENTITY a" in entry.text


def test_a_doctype_without_declarations_is_read() -> None:
    head = b'<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://127.0.0.1:1/rss.dtd">'
    assert parse(Feed("feed.xml"), head + rss("<title>Old</title>")).entries[0].title == "Old"


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["<!--", "<![CDATA[", "<?", "<!DOCTYPE ", '<!DOCTYPE "', "<", "&", "<p>"])
async def test_a_body_of_repeated_openings_does_not_take_for_ever(piece: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        body = rss("<title>").removesuffix(b"</item></channel></rss>") + piece.encode() * (1_000_000 // len(piece))
        assert len((await read_body(tmp_path, body)).entries) <= 1


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two<br>three</p>", "One two three"),
        ("a<script>alert(1)</script>b<style>p{}</style>c", "abc"),
        ("<b>AT&amp;T</b> &lt;i&gt; &eacute;", "AT&T <i> é"),
        ("<scr<script>ipt>alert(1)</script>", "ipt>alert(1)"),
        ("<img src=x onerror=alert(1)>picture", "picture"),
        ("a\x00\x1b[2J\u202eb\u2066\U000e0041\ud800 \n\t c&#x202e;&#0;&#xd800;", "a[2Jb c��"),
        ("<p>never closed <script>alert(1)", "never closed"),
    ],
)
def test_html_becomes_plain_text(html: str, text: str) -> None:
    assert plain(html, is_html=True) == text


@pytest.mark.parametrize(
    "text", ["if a < b and c > d", "List<String>", "Ann <ann@example.org>", "use <name> here", "&amp;"]
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(text, is_html=False) == text


def test_html_that_claims_to_be_text_is_cleaned_too() -> None:
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>A</title><entry><id>urn:a</id>
        <title type="text">Hello &lt;script&gt;alert(1)&lt;/script&gt;world</title></entry></feed>"""
    assert parse(Feed("a.xml"), atom).entries[0].title == "Hello world"


@given(st.text(alphabet="ab ", max_size=60).map(lambda text: " ".join(text.split())), st.integers(2, 40))
def test_a_cut_text_ends_with_a_whole_word(text: str, limit: int) -> None:
    short = cut(text, limit)
    assert len(short) <= limit
    if short != text:
        kept = short.removesuffix("…")
        assert text.startswith(kept)
        assert text[len(kept)] == " " or " " not in text[:limit]


def test_texts_and_titles_are_limited() -> None:
    entry = one(f"<title>{'long ' * 500}</title><description>{'word ' * 4000}</description>")
    assert len(entry.text) <= 1500
    assert len(entry.title) <= 300
    assert entry.text.endswith("word…")


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://Example.org/a?b=c#d", "https://Example.org/a?b=c#d"),
        ("/a b", "https://site.example.org/a%20b"),
        ("//other.example.org/x", "https://other.example.org/x"),
        ("javascript:alert(1)", ""),
        ("JaVaScRiPt:alert(1)", ""),
        ("data:text/html,x", ""),
        ("file:///etc/passwd", ""),
        ("https://[", ""),
        ("https://good.example@evil.example/", ""),
        ("https://example.org/\u202egpj.exe", ""),
        (f"https://example.org/{'a' * 2000}", ""),
    ],
)
def test_only_harmless_web_addresses_stay(link: str, url: str) -> None:
    assert one(f"<title>x</title><link>{link}</link>").url == url


def test_a_missing_title_is_taken_from_the_text_or_the_link() -> None:
    assert one("<description>Some words without a title</description>").title == "Some words without a title"
    assert one("<link>https://example.org/a</link>").title == "https://example.org/a"


def test_a_missing_id_is_the_link_or_a_hash_of_the_words() -> None:
    assert one("<title>x</title><link>https://example.org/a</link>").id == "https://example.org/a"
    first, second = one("<title>x</title>").id, one("<title>y</title>").id
    assert first.startswith("sha256:")
    assert first != second
    assert first == one("<title>x</title>").id


def test_a_number_as_id_is_unique_in_its_site_only() -> None:
    assert one("<title>x</title><guid isPermaLink='false'>42</guid>").id == "https://site.example.org/#42"
    assert one("<title>x</title><guid isPermaLink='false'>urn:x:42</guid>").id == "urn:x:42"
    assert one(f"<title>x</title><guid isPermaLink='false'>urn:{'x' * 9999}</guid>").id.startswith("sha256:")


def test_entries_that_say_nothing_are_dropped_and_counted() -> None:
    reading = parse(
        Feed("feed.xml"), rss("<guid>urn:1</guid>", "<title>Good</title>", "<description> <p> </p></description>")
    )
    assert [entry.title for entry in reading.entries] == ["Good"]
    assert codes(reading) == ["empty_entry"]
    assert reading.errors[0].message.startswith("2 ")


@pytest.mark.parametrize(
    ("dates", "published"),
    [
        ("<pubDate>Sun, 22 Nov 2026 13:00:00 +0100</pubDate>", NOON),
        ("<a:published>2026-11-22T12:00:00Z</a:published><a:updated>2026-11-23T00:00:00Z</a:updated>", NOON),
        ("<a:updated>2026-11-22T07:00:00-05:00</a:updated>", NOON),
        ("<pubDate>soon</pubDate><a:updated>2026-11-22T12:00:00Z</a:updated>", NOON),
        ("<pubDate>the day after tomorrow</pubDate>", None),
        ("<pubDate>Sun, 99 Nov 2026 99:00:00 GMT</pubDate>", None),
        ("", None),
    ],
)
def test_dates_become_utc_or_nothing(dates: str, published: datetime | None) -> None:
    item = f"<title>x</title>{dates}".replace("<a:", "<").replace("</a:", "</")
    entry = one(item)
    assert entry.published == published
    assert entry.published is None or entry.published.tzinfo is UTC


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"<rss version='2.0'><channel><item><title>", b"<?xml version='1.0'?><feed>"]),
)
def test_no_bytes_raise_anything_but_not_readable(noise: bytes, head: bytes) -> None:
    with suppress(NotReadable):
        parse(Feed("feed.xml"), head + noise)
