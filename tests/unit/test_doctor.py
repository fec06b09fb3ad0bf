"""`overnight doctor` opens the link to unsubscribe as a mailbox provider would."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overnight.cli import _guarded, common_first
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
