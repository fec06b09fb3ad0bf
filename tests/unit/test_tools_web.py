"""`http.get`: no way into the private network by any spelling, redirect or name server; and an end to everything."""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from overnight.dependency import Dependencies
from overnight.errors import OvernightError, Permanent, Transient
from overnight.outcome import Scope
from overnight.tools import BUILT_IN, Denied
from overnight.tools.toolkit import Toolkit
from overnight.tools.web import Hosts, _open_to
from tests.calling import called
from tests.slots import ManualClock

TOOL = BUILT_IN["http.get"]


async def get(url: str, **limits: Any) -> Any:
    """Fetch as the loop does: allowed first, then done."""
    given = Hosts.model_validate({"hosts": ["127.0.0.1"], "plain_http": True, **limits})
    clock = ManualClock()
    kit = Toolkit(Path(), None, clock, Dependencies({}, clock))
    return await called(kit, TOOL, given, {"url": url}, of=Scope("j", "s", "k", "r"))


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/plain"})
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/plain"})
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.01)


async def bomb(_: web.Request) -> web.Response:
    body = gzip.compress(b"\0" * 50_000_000)
    return web.Response(body=body, headers={"Content-Encoding": "gzip"}, content_type="text/plain")


async def page(_: web.Request) -> web.Response:
    return web.Response(text="päivä")


async def odd(_: web.Request) -> web.Response:
    return web.Response(body="päivä".encode(), headers={"content-type": "text/plain; charset=no-such-thing"})


async def image(_: web.Request) -> web.Response:
    return web.Response(body=b"\x89PNG", content_type="image/png")


async def missing(_: web.Request) -> web.Response:
    return web.Response(text="no such page", status=404)


async def circle(_: web.Request) -> web.Response:
    raise web.HTTPFound("/circle")


async def move(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.query["to"])


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    app = web.Application()
    for handler in (page, odd, image, missing, endless, trickle, bomb, move, circle):
        app.router.add_get(f"/{handler.__name__}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_page_is_fetched_as_text_with_its_status() -> None:
    async with serving() as url:
        told = await get(f"{url}/page", private=True)
        assert (told["text"], told["status"], told["cut"]) == ("päivä", 200, False)
        assert (await get(f"{url}/odd", private=True))["text"] == "päivä", "in letters that nobody knows"
        assert (await get(f"{url}/missing", private=True))["status"] == 404
        with pytest.raises(Permanent, match="image/png, not text"):
            await get(f"{url}/image", private=True)


NOT_ASKED = {
    "47 a file": "file:///etc/passwd",
    "47 gopher": "gopher://example.org/",
    "47 ftp": "ftp://example.org/",
    "47 data": "data:text/plain,x",
    "48 a user name": "https://example.org@evil.example/",
    "48 a user name before it": "https://evil.example@example.org/",
    "no host": "https:///path",
    "another host": "https://evil.example/",
    "a host that ends alike": "https://notexample.org/",
    "a host below": "https://a.example.org/",
    "a backslash": "https://example.org\\@evil.example/",
    "a line break": "https://example.org/\r\nHost: evil.example",
    "a blank": "https://example.org/ x",
    "no address": "example.org",
    "a port that is none": "https://example.org:99999999/",
    "plain": "http://example.org/",
}


@pytest.mark.parametrize("url", NOT_ASKED.values(), ids=NOT_ASKED)
async def test_an_address_outside_the_limits_is_not_asked(url: str) -> None:
    with pytest.raises(Denied):
        await get(url, hosts=["example.org"], plain_http=False)


PRIVATE = {
    "43 metadata": "169.254.169.254",
    "44 loopback": "127.0.0.1",
    "44 version 6": "[::1]",
    "44 zero": "0",
    "44 one number": "2130706433",
    "44 hexadecimal": "0x7f.1",
    "44 octal": "0177.0.0.1",
    "44 mapped": "[::ffff:127.0.0.1]",
    "44 by name": "localhost",
    "a network of one's own": "10.0.0.1",
    "another": "192.168.1.1",
    "shared by carriers": "100.64.0.1",
    "link-local of version 6": "[fe80::1]",
    "unique local": "[fc00::1]",
}


@pytest.mark.parametrize("host", PRIVATE.values(), ids=PRIVATE)
async def test_an_address_of_a_private_network_is_not_connected_to_in_any_spelling(host: str) -> None:
    with pytest.raises(OvernightError) as refused:
        await get(f"http://{host}:9/", hosts=[host.strip("[]")])
    assert refused.value.code in ("private_address", "unreachable", "host", "url")
    assert not isinstance(refused.value, Transient) or refused.value.code == "unreachable"


async def test_loopback_is_refused_before_anything_is_sent_and_metadata_always() -> None:
    seen: list[str] = []

    async def count(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(text="inside")

    app = web.Application()
    app.router.add_get("/{any:.*}", count)
    async with TestServer(app) as server:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1"):
            with pytest.raises(OvernightError):
                await get(f"http://{host}:{server.port}/x", hosts=[host])
    assert seen == []
    assert not _open_to("169.254.169.254", private=True)
    assert not _open_to("::ffff:169.254.169.254", private=True)
    assert _open_to("10.0.0.1", private=True)
    assert _open_to("93.184.216.34", private=False)


@pytest.mark.parametrize("to", ["http://169.254.169.254/", "http://evil.example/", "file:///etc/passwd", "//10.0.0.1/"])
async def test_a_redirect_is_looked_at_like_the_first_address(to: str) -> None:
    async with serving() as url:
        with pytest.raises(Denied):
            await get(f"{url}/move?to={to}", private=True)


async def test_a_redirect_within_the_limits_is_followed_but_not_for_ever() -> None:
    async with serving() as url:
        told = await get(f"{url}/move?to={url}/page", private=True)
        assert told["url"] == f"{url}/page"
        with pytest.raises(Permanent, match="redirects more than"):
            await get(f"{url}/circle", private=True)


async def test_a_second_answer_of_a_name_server_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 46: whatever a name stands for at the second look, it is the connected address that counts."""
    answers = iter(["93.184.216.34", "127.0.0.1"])

    async def rebound(_self: Any, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        address = next(answers, "127.0.0.1")
        return [{"hostname": host, "host": address, "port": port, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", rebound)
    next(answers)  # whoever has looked before has seen a public one
    with pytest.raises(Denied, match="private network"):
        await get("http://rebound.example/", hosts=["rebound.example"])


@pytest.mark.parametrize("path", ["endless", "bomb"])
async def test_a_page_without_end_is_cut(path: str) -> None:
    async with serving() as url:
        told = await get(f"{url}/{path}", private=True, max_bytes=100_000)
        assert (told["cut"], len(told["text"])) == (True, 100_000)


async def test_a_page_that_trickles_is_given_up() -> None:
    async with serving() as url:
        with pytest.raises(Transient) as given_up:
            await get(f"{url}/trickle", private=True, seconds=0.2)
        assert given_up.value.code == "timeout"


def test_hosts_below_a_domain_are_named_with_a_star() -> None:
    limits = Hosts(hosts=["*.example.org"])
    limits.checked("https://a.example.org/")
    limits.checked("https://a.b.EXAMPLE.org./")
    for url in ("https://example.org/", "https://aexample.org/"):
        with pytest.raises(Denied):
            limits.checked(url)


@pytest.mark.parametrize(
    "host",
    [
        "https://example.org",
        "example.org/",
        "example.org:8443",
        "*",
        "*.",
        "*example.org",
        "a.*.org",
        "",
        "example.org.",
    ],
)
def test_a_limit_that_no_host_is_like_is_a_mistake(host: str) -> None:
    with pytest.raises(ValidationError, match="is no host"):
        Hosts(hosts=[host])


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1",
        "224.0.0.1",
        "::",
        "ff02::1",
        "2002:7f00:1::",
        "::ffff:10.0.0.1",
        "fe80::1%1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "fec0::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "192.0.0.192",
        "::ffff:192.0.0.192",
        "192.88.99.1",
    ],
)
def test_what_is_no_public_address_is_not_connected_to(address: str) -> None:
    assert ipaddress.ip_address(address.partition("%")[0])
    assert not _open_to(address, private=False)


async def test_a_name_that_a_pattern_allows_and_nobody_has_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", unknown)
    with pytest.raises(Permanent, match="there is no such host"):
        await get("https://made.up.example/", hosts=["*.up.example"])
    with pytest.raises(Transient):  # the operator wrote it: the name server may be wrong for now
        await get("https://made.up.example/", hosts=["made.up.example"])
