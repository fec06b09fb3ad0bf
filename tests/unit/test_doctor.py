"""`overnight doctor` opens the link to unsubscribe as a mailbox provider would."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overnight.cli import _guarded, common_first, doctor
from tests.unit.test_web_public import SECRET, opened


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is the internet."""
    monkeypatch.setattr("overnight.tokens.reachable", lambda _url: True)
    monkeypatch.setenv("OVERNIGHT_SECRET", SECRET)


async def links(capsys: pytest.CaptureFixture[str], root: Path, public_url: str) -> tuple[str, str]:
    """What the doctor says of the links: ok, note or fail, and the message."""
    (root / "schedule.yaml").write_text(f"version: 1\npublic_url: {public_url}\njobs: {{}}\n", encoding="utf-8")
    await asyncio.to_thread(_guarded, common_first(["--config", str(root), "--json", "doctor"]))
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    [row] = [row for row in rows if row["check"] == "links"]
    return "fail" if not row["ok"] else "note" if row["remedy"] else "ok", row["message"]


@asynccontextmanager
async def elsewhere(to: str = "", **answer: Any) -> AsyncIterator[str]:
    """Another web server, which answers everything alike; with `to` by a redirect to the same path there."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(**answer, headers={"Location": f"{to}{request.path}"} if to else {})

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_link_to_unsubscribe_leads_to_serve_and_looking_unsubscribes_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as site:
        assert await links(capsys, tmp_path, site.url) == ("ok", f"{site.url} shows the page to unsubscribe")
        assert site.status() == "active"


async def test_a_serve_with_another_secret_does_not_know_our_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as site:
        site.secret[0] = "another"
        word, said = await links(capsys, tmp_path, site.url)
    assert (word, "another OVERNIGHT_SECRET" in said) == ("fail", True)


@pytest.mark.parametrize(
    "answer",
    [{"status": 404}, {"text": "Welcome"}, {"body": b"\xff" * 200_000}],
)
async def test_what_does_not_lead_to_serve_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: dict[str, Any]
) -> None:
    async with elsewhere(**answer) as url:
        word, said = await links(capsys, tmp_path, url)
    assert (word, said) == (
        "fail",
        f"{url} answers {answer.get('status', 200)} to the link to unsubscribe: it does not lead to serve",
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [
        *((status, ("note", "does not let this machine in")) for status in (403, 429)),
        *((status, ("fail", "the proxy there does not reach serve: is it running?")) for status in (502, 503, 504)),
    ],
)
async def test_a_proxy_that_refuses_this_machine_says_little_and_one_without_serve_behind_it_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, told: tuple[str, str]
) -> None:
    async with elsewhere(status=status) as url:
        word, said = await links(capsys, tmp_path, url)
    assert (word, told[1] in said, f"answers {status}" in said) == (told[0], True, True)


@asynccontextmanager
async def answering(words: bytes, *, ends: bool) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says this to everybody, then hangs up, or only much later; what it was asked."""
    asked: list[bytes] = []
    over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(words)
        await writer.drain()
        if not ends:
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 2)  # whoever waits for it gets a page that is none
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        over.set()
        server.close()


@pytest.mark.parametrize("code", [b"200 OK", b"404 Not Found"])
@pytest.mark.parametrize(
    ("rest", "ends", "patience", "why"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n9\r\nab", True, None, "IncompleteRead"),
        (b"Content-Length: 9\r\n\r\nab", False, "WEB_TIMEOUT", "its page does not come to an end"),
        (b"Content-Length: 9\r\n\r\nab", False, "PAGE_TIMEOUT", "its page does not come to an end"),
    ],
)
async def test_a_page_that_breaks_off_or_never_ends_is_a_note_and_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    code: bytes, rest: bytes, ends: bool, patience: str | None, why: str,
) -> None:  # fmt: skip
    if patience:
        monkeypatch.setattr(doctor, patience, 0.05)
    async with answering(b"HTTP/1.1 " + code + b"\r\n" + rest, ends=ends) as (url, asked):
        word, said = await links(capsys, tmp_path, url)
    assert (word, why in said) == ("note", True)
    assert b"User-Agent: overnight/" in asked[0]


async def test_a_redirect_is_no_way_to_serve_for_no_mail_program_follows_it_to_unsubscribe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as site, elsewhere(to=site.url, status=301) as url:
        word, said = await links(capsys, tmp_path, url)
    assert (word, said.startswith(f"{url} answers 301")) == ("fail", True)


async def test_an_address_that_cannot_be_called_from_here_is_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await links(capsys, tmp_path, "http://127.0.0.1:9"))[0] == "note"
    monkeypatch.setattr("overnight.tokens.reachable", lambda _url: False)
    assert (await links(capsys, tmp_path, "http://127.0.0.1:9"))[1].startswith("readers leave by mail")
