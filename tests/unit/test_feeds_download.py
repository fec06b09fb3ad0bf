"""Downloads of feeds: whatever a host does, one feed is an error and the others are read."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from overnight.dependency import Dependencies
from overnight.feeds import Feed, Reading, read
from overnight.feeds.download import NoWayInside
from overnight.feeds.entry import NotReadable
from tests.bucket import counting_bucket
from tests.slots import ManualClock


def rss(*items: str, link: str = "https://site.example.org/") -> bytes:
    body = "".join(f"<item>{item}</item>" for item in items)
    return f"<rss version='2.0'><channel><title>News</title><link>{link}</link>{body}</channel></rss>".encode()


def codes(reading: Reading) -> list[str]:
    return [error.code for error in reading.errors]


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 100_000)
    except ConnectionError:
        return response


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"<rss>")
    await asyncio.Event().wait()
    return response


async def bomb(_: web.Request) -> web.Response:
    body = gzip.compress(bytes(50_000_000), compresslevel=1)
    return web.Response(body=body, headers={"Content-Encoding": "gzip"}, content_type="application/xml")


async def loop(_: web.Request) -> web.Response:
    raise web.HTTPFound("/loop")


async def hop(request: web.Request) -> web.Response:
    left = int(request.match_info["left"])
    raise web.HTTPFound(f"/hop/{left - 1}" if left > 1 else "/good")


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"<rss>")
    assert request.transport is not None
    request.transport.abort()
    return response


def answers(body: bytes, **headers: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    return handler


async def who(request: web.Request) -> web.Response:
    return web.Response(body=rss(f"<title>{request.headers['User-Agent']}</title>"))


async def to_file(_: web.Request) -> web.Response:
    raise web.HTTPFound("file:///etc/passwd")


@pytest.fixture
async def site() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/good", answers(rss("<title>Good</title><link>/a</link>", link="")))
    app.router.add_get("/html", answers(b"<!doctype html><html><body><h1>Hello</h1></body></html>"))
    app.router.add_get("/words", answers(b"just words"))
    app.router.add_get("/large", answers(b" " * 6_000_000))
    app.router.add_get("/nothing", answers(b""))
    app.router.add_get("/garbled", answers(b"not gzip at all", **{"Content-Encoding": "gzip"}))
    for handler in (endless, trickle, bomb, loop, cut_short, who, to_file):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_get("/hop/{left}", hop)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing", "http_404"),
        ("html", "not_a_feed"),
        ("words", "not_a_feed"),
        ("nothing", "empty"),
        ("large", "too_large"),
        ("endless", "too_large"),
        ("bomb", "too_large"),
        ("loop", "too_many_redirects"),
        ("hop/6", "too_many_redirects"),
        ("garbled", "unreachable"),
        ("cut_short", "unreachable"),
        ("to_file", "invalid_url"),
    ],
)
async def test_a_broken_feed_is_an_error_of_that_feed_only(site: str, path: str, code: str, tmp_path: Path) -> None:
    reading = await read([Feed(f"{site}/{path}"), Feed(f"{site}/good")], root=tmp_path)
    assert [(error.source, error.code) for error in reading.errors] == [(f"{site}/{path}", code)]
    assert [entry.title for entry in reading.entries] == ["Good"]


async def test_a_feed_that_trickles_is_given_up_at_the_deadline(site: str, tmp_path: Path) -> None:
    reading = await read([Feed(f"{site}/trickle")], root=tmp_path, deadline=0.1)
    assert codes(reading) == ["timeout"]


async def test_a_host_in_trouble_is_asked_once_more_and_then_left_alone(tmp_path: Path) -> None:
    with counting_bucket() as host, Dependencies({}, ManualClock()).in_use():
        host.failure = (503, "")
        feed = Feed(f"http://127.0.0.1:{host.port}/feed.xml")
        first, second = [await read([feed], root=tmp_path) for _ in range(2)]
        assert len(host.asked) == 2
    assert (codes(first), codes(second)) == (["http_503"], ["breaker_open"])
    assert f"feed:127.0.0.1:{host.port} has failed too often" in second.errors[0].message


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_an_error_of_one_page_leaves_its_host_in_use(status: int, tmp_path: Path) -> None:
    with counting_bucket() as host, Dependencies({}, ManualClock()).in_use():
        host.failure = (status, "")
        feed = Feed(f"http://127.0.0.1:{host.port}/feed.xml")
        readings = [await read([feed], root=tmp_path) for _ in range(6)]
        assert len(host.asked) == 6
    assert [codes(reading) for reading in readings] == [[f"http_{status}"]] * 6


async def test_a_host_that_asks_for_patience_gets_it(tmp_path: Path) -> None:
    clock = ManualClock()
    with counting_bucket() as host, Dependencies({}, clock).in_use():
        host.failure, host.headers = (429, ""), {"Retry-After": "30"}
        reading = await read([Feed(f"http://127.0.0.1:{host.port}/feed.xml")], root=tmp_path)
        assert (codes(reading), len(host.asked)) == (["http_429"], 2)
        assert clock.monotonic() >= 30
        host.headers = {"Retry-After": "800"}
        clock.move(31)
        await read([Feed(f"http://127.0.0.1:{host.port}/feed.xml")], root=tmp_path)
        assert len(host.asked) == 3
        later = await read([Feed(f"http://127.0.0.1:{host.port}/other.xml")], root=tmp_path)
        assert (codes(later), len(host.asked)) == (["rate_limit"], 3)


async def test_five_redirects_are_followed(site: str, tmp_path: Path) -> None:
    reading = await read([Feed(f"{site}/hop/5")], root=tmp_path)
    assert [entry.title for entry in reading.entries] == ["Good"]


async def test_links_without_a_site_start_from_the_feeds_address(site: str, tmp_path: Path) -> None:
    reading = await read([Feed(f"{site}/good")], root=tmp_path)
    assert reading.entries[0].url == f"{site}/a"


async def test_the_request_says_who_asks(site: str, tmp_path: Path) -> None:
    reading = await read([Feed(f"{site}/who")], root=tmp_path)
    assert reading.entries[0].title.startswith("overnight/")


async def test_passwords_in_a_source_appear_nowhere(site: str, tmp_path: Path) -> None:
    with_password = site.replace("http://", "http://ann:s3same@")
    dead = "http://ann:s3same@127.0.0.1:1/feed?to=x@y"
    sources = [
        f"{with_password}/good",
        f"{with_password}/missing",
        dead,
        "https://ann:s3same@:bad/",
        "http://a:s3same@[",
    ]
    reading = await read([Feed(source) for source in sources], root=tmp_path)
    assert codes(reading) == ["http_404", "unreachable", "invalid_url", "invalid_url"]
    assert "s3same" not in repr(reading)
    assert reading.errors[1].source == "http://127.0.0.1:1/feed?to=x@y"


def test_a_public_site_cannot_lead_into_the_private_network() -> None:
    def address(host: str, family: socket.AddressFamily = socket.AF_INET) -> tuple[object, ...]:
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 80)

    guard = NoWayInside("https://site.example.org/feed")
    guard(address("127.0.0.1")).close()  # type: ignore[arg-type]  # the operator's own choice
    guard(address("1.1.1.1")).close()  # type: ignore[arg-type]
    for host, family in (("169.254.169.254", socket.AF_INET), ("::ffff:127.0.0.1", socket.AF_INET6)):
        with pytest.raises(NotReadable, match="private network"):
            guard(address(host, family))  # type: ignore[arg-type]
