"""The public pages: leaving, signing up, confirming; and whoever calls them with something else.

Rows 60 to 65 and 68 of the security note: tokens that were altered, cut, of another purpose or very long; scanners of
links; replays; SQL in an address; forged hosts, slow and large requests.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from sqlalchemy import text, update

from overnight.ledger import Ledger
from overnight.ledger.tables import signup, subscriber
from overnight.redact import Redactor
from overnight.runner import Workplace
from overnight.schedule import loads
from overnight.subscribers import add, everyone, unsubscribe
from overnight.tokens import Tokens
from overnight.web import door, server, serving
from tests.slots import NOW, ManualClock, locked, open_ledger, rows

ADA = "ada@example.org"
SECRET = "the-secret-of-these-tests"
SCHEDULE = 'version: 1\nmail: { from: "The <b>Site</b> <news@example.org>" }\njobs: { good: { every: 1h } }\n'
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@dataclass
class Heart:
    looked_at: datetime | None = NOW


@dataclass
class Site:
    """A ledger with Ada in it, and the pages over it."""

    ledger: Ledger
    clock: ManualClock
    url: str
    client: aiohttp.ClientSession
    signed_up: list[int] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        return Tokens(SECRET.encode(), self.clock)

    @property
    def ada(self) -> str:
        return next(who.subscriber.id for who in everyone(self.ledger) if who.subscriber.email == ADA)

    @property
    def leaving(self) -> str:
        return f"/u/{self.tokens.make('unsubscribe', self.ada)}"

    def status(self, email: str = ADA) -> str:
        return {who.subscriber.email: who.status for who in everyone(self.ledger)}[email]

    async def get(self, path: str, **more: Any) -> tuple[int, str]:
        async with self.client.get(self.url + path, **more) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, data: Any = None, **more: Any) -> tuple[int, str]:
        async with self.client.post(self.url + path, data=data, **more) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def opened(root: Path, schedule: str = SCHEDULE) -> AsyncIterator[Site]:
    clock, called, secret = ManualClock(), list[int](), [SECRET]
    ledger = open_ledger(root, clock)

    def work() -> Workplace:
        loaded = loads(schedule, {"OVERNIGHT_SECRET": secret[0]})
        return Workplace(root, loaded, ledger, clock, Redactor(frozenset()))

    add(ledger, clock, ADA, name="Ada")
    try:
        async with (
            serving(work, Heart(), lambda: None, "127.0.0.1", 0, lambda: called.append(1)) as url,
            aiohttp.ClientSession() as client,
        ):
            yield Site(ledger, clock, url, client, called, secret)
    finally:
        ledger.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as site:
        yield site


async def test_one_click_as_gmail_sends_it_unsubscribes_and_again_is_fine(site: Site) -> None:
    for _ in range(2):
        code, page = await site.post(site.leaving, ONE_CLICK)
        assert (code, "You are unsubscribed" in page) == (200, True)
    [ada] = everyone(site.ledger)
    assert (ada.status, ada.reason, ada.changed_at) == ("unsubscribed", "one-click", NOW)


async def test_a_secret_that_was_changed_is_the_one_that_links_are_read_with(tmp_path: Path) -> None:
    async with opened(tmp_path) as site:
        site.secret[0] = "another secret"
        assert (await site.post(site.leaving, ONE_CLICK))[0] == 400
        new = Tokens(b"another secret", site.clock).make("unsubscribe", site.ada)
        assert (await site.post(f"/u/{new}", ONE_CLICK))[0] == 200
        assert site.status() == "unsubscribed"


async def test_one_click_as_multipart_and_a_post_that_is_no_form_unsubscribe_too(site: Site) -> None:
    form = aiohttp.FormData(ONE_CLICK)
    form.add_field("x", b"1", filename="x")
    assert (await site.post(site.leaving, form))[0] == 200
    assert next(everyone(site.ledger)).reason == "one-click"
    add(site.ledger, site.clock, "eve@example.org")
    eve = next(who.subscriber.id for who in everyone(site.ledger) if who.subscriber.email != ADA)
    broken = {"Content-Type": "application/x-www-form-urlencoded; charset=none-such"}
    assert (await site.post(f"/u/{site.tokens.make('unsubscribe', eve)}", b"\xff", headers=broken))[0] == 200
    assert site.status("eve@example.org") == "unsubscribed"


async def test_a_scanner_that_follows_the_link_unsubscribes_nobody(site: Site) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        async with site.client.request(method, site.url + site.leaving, allow_redirects=True) as answer:
            assert answer.status == (200 if method in ("GET", "HEAD") else 405)
    assert site.status() == "active"
    code, page = await site.get(site.leaving)
    assert (code, '<form method="post">' in page, "<button>Unsubscribe</button>" in page) == (200, True, True)
    assert (await site.post(site.leaving, {}))[0] == 200  # what the button sends
    assert next(everyone(site.ledger)).reason == "page"


WRONG: dict[str, Callable[[Site], str]] = {
    "flipped": lambda site: site.leaving[:-9] + ("A" if site.leaving[-9] != "A" else "B") + site.leaving[-8:],
    "slack bits": lambda site: site.leaving[:-1] + chr(ord(site.leaving[-1]) + 1),
    "cut": lambda site: site.leaving[:-2],
    "cut before the signature": lambda site: site.leaving.partition(".")[0],
    "other purpose": lambda site: f"/u/{site.tokens.make('confirm', site.ada)}",
    "bounce": lambda site: f"/u/{site.tokens.make('bounce', site.ada)}",
    "other subscriber": lambda site: site.leaving.replace(site.ada, "s_other"),
    "empty": lambda _site: "/u/",
    "a path": lambda site: f"{site.leaving}/more",
    "SQL": lambda _site: "/u/'; DROP TABLE subscriber; --.x",
    "NUL": lambda _site: "/u/%00",
    "another project": lambda site: f"/u/{Tokens(b'another', site.clock).make('unsubscribe', site.ada)}",
    "long": lambda _site: f"/u/{'A' * 3000}",
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_token_is_a_calm_400_and_changes_nothing(site: Site, wrong: str) -> None:
    path = WRONG[wrong](site)
    for code, page in (await site.get(path), await site.post(path, ONE_CLICK)):
        assert (code, "This link does not work" in page) == (400, True)
    assert site.status() == "active"


async def test_a_token_of_a_megabyte_is_refused_before_it_is_read_and_fills_no_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        host, port = site.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /u/" + b"A" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read(12)
        writer.close()
    assert answer in {b"HTTP/1.0 431", b"HTTP/1.1 431"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (await site.get("/subscribe"))[0] == 200


async def test_the_link_of_somebody_who_was_forgotten_is_answered_as_any_other(site: Site) -> None:
    token = site.tokens.make("unsubscribe", "s_nobody")
    assert (await site.post(f"/u/{token}", ONE_CLICK))[0] == 200


async def test_pages_run_nothing_load_nothing_and_are_kept_by_nobody(site: Site) -> None:
    for path in (site.leaving, "/subscribe", "/u/wrong"):
        async with site.client.get(site.url + path) as answer:
            page, headers = await answer.text(), answer.headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy.split("; "))
        assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
        assert "<script" not in page
        assert "style=" not in page
        assert "The &lt;b&gt;Site&lt;/b&gt;" in page, "names are text"


async def test_who_signs_up_gets_the_same_answer_whoever_it_is(site: Site) -> None:
    for email, status in (("left@example.org", "unsubscribed"), ("gone@example.org", "suppressed")):
        add(site.ledger, site.clock, email)
        change = update(subscriber).where(subscriber.c.email == email).values(status=status)
        site.ledger.writing(lambda connection, change=change: connection.execute(change))
    answers = [
        await site.post("/subscribe", {"email": email})
        for email in ("new@example.org", ADA, "left@example.org", "gone@example.org", " NEW@example.org ")
    ]
    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert len(site.signed_up) == len(answers)
    assert {who.status for who in everyone(site.ledger)} == {"active", "unsubscribed", "suppressed"}
    assert len(rows(site.ledger, signup)) == 4


NO_ADDRESSES = [
    *("", "x", "x@", "@x", "a@b@c.org", "a@x.org,b@x.org", "Ada <ada@x.org>", "a@x.org\nBcc: b@x.org"),
    *("'; DROP TABLE subscriber", f"{'a' * 300}@x.org", '"><script>1</script>@x.org', "jörg@x.org"),
]  # fmt: skip


@pytest.mark.parametrize("email", NO_ADDRESSES)
async def test_what_is_no_address_is_told_so_and_kept_nowhere(site: Site, email: str) -> None:
    code, page = await site.post("/subscribe", {"email": email})
    assert (code, "This is no e-mail address" in page) == (400, True)
    assert "<script" not in page
    assert rows(site.ledger, signup) == []
    with site.ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM subscriber")).scalar() == 1


async def test_a_sign_up_becomes_a_subscriber_by_the_button_behind_the_link_alone(site: Site) -> None:
    await site.post("/subscribe", {"email": "new@example.org"})
    [row] = rows(site.ledger, signup)
    link = site.tokens.confirm_url("", row["id"])
    assert (await site.get(link))[0] == 200
    assert [who.subscriber.email for who in everyone(site.ledger)] == [ADA]
    for _ in range(2):
        code, page = await site.post(link)
        assert (code, "You are subscribed" in page) == (200, True)
    assert site.status("new@example.org") == "active"
    unsubscribe(site.ledger, site.clock, "new@example.org")
    assert "used before" in (await site.post(link))[1], "an old link brings nobody back"
    assert site.status("new@example.org") == "unsubscribed"


async def test_a_link_to_confirm_ends_after_three_days_and_one_to_leave_is_no_such_link(site: Site) -> None:
    await site.post("/subscribe", {"email": "new@example.org"})
    link = site.tokens.confirm_url("", rows(site.ledger, signup)[0]["id"])
    assert (await site.post(site.leaving.replace("/u/", "/confirm/")))[0] == 400
    site.clock.move(timedelta(days=3, seconds=2).total_seconds())
    code, page = await site.post(link)
    assert (code, "too old" in page) == (400, True)
    assert [who.subscriber.email for who in everyone(site.ledger)] == [ADA]


async def test_all_sign_ups_together_have_a_rate_which_a_restart_does_not_reset(tmp_path: Path) -> None:
    limited = f"{SCHEDULE}limits: {{ subscribe: {{ requests: 60/h }} }}\n"
    for first in (True, False):
        async with opened(tmp_path, limited) as site:
            codes = [(await site.post("/subscribe", {"email": f"n{n}@example.org"}))[0] for n in range(21)]
            assert codes == ([200] * 20 + [429] if first else [429] * 21)
            if not first:
                site.clock.move(60)
                assert (await site.post("/subscribe", {"email": "late@example.org"}))[0] == 200
                assert (await site.post("/subscribe", {"email": "later@example.org"}))[0] == 429
            assert len(rows(site.ledger, signup)) == (20 if first else 21), "who is over the limit leaves no trace"


async def test_a_large_body_is_refused(site: Site) -> None:
    assert (await site.post("/subscribe", {"email": "a" * 5000}))[0] == 413
    form = aiohttp.FormData()
    form.add_field("email", b"x" * 100_000, filename="x")
    assert (await site.post("/subscribe", form))[0] == 413
    assert (await site.post(site.leaving, b"x" * 1_000_000, headers={"Content-Type": "text/plain"}))[0] == 200


@pytest.mark.slow
async def test_who_is_slow_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    monkeypatch.setitem(door._LIMITS, "keepalive_timeout", 0.2)
    async with opened(tmp_path) as site:
        host, port = site.url.removeprefix("http://").split(":")
        head = b"GET /subscribe HTTP/1.1\r\nHost: x\r\nX-Slow: "
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        body = b"POST /subscribe HTTP/1.1\r\nHost: x\r\n" + kind + b"Content-Length: 99\r\n\r\nemail"
        for begun in (b"", head, body):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(begun)
            async with asyncio.timeout(5):
                answer = await reader.read()
            assert answer == b"" or b" 503 " in answer.partition(b"\r\n")[0]
            writer.close()


async def test_the_rest_is_for_this_machine_alone(site: Site) -> None:
    for host in ("news.example.org", "127.0.0.1.example.org", "[", "evil.example:8650", "0.0.0.0"):  # noqa: S104  a forged header
        assert (await site.get("/api/health", headers={"Host": host}))[0] == 400, host
        assert (await site.get("/subscribe", headers={"Host": host}))[0] == 200, host
    assert (await site.get("/api/health?verbose=1"))[0] == 200
    assert (await site.post("/api/health"))[0] == 405
    assert (await site.get("/api/health", headers={"X-Large": "x" * 20_000}))[0] == 431
    with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00garbage\r\n\r\n")
        assert b" 400 " in await asyncio.to_thread(raw.recv, 100)


async def test_who_holds_many_connections_takes_no_more_files_and_lets_others_in_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST", 3)
    host, port = site.url.removeprefix("http://").split(":")
    held: list[asyncio.StreamWriter] = []

    async def asked() -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        held.append(writer)
        writer.write(b"GET /subscribe HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionError):
            return await reader.read(12)
        return b""

    async def let_go() -> None:
        for writer in held:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        held.clear()

    assert [await asked() for _ in range(5)] == [b"HTTP/1.1 200"] * 3 + [b""] * 2
    await let_go()
    async with asyncio.timeout(20):
        while await asked() != b"HTTP/1.1 200":  # the server hears of it a little later
            await let_go()
    await let_go()


async def test_no_answer_says_what_we_are_made_of(site: Site) -> None:
    for path, headers in (("/subscribe", {}), ("/none", {}), ("/", {"X-Large": "x" * 9000})):
        async with site.client.get(site.url + path, headers=headers) as answer:
            assert answer.headers["Server"] == "overnight", path


async def test_a_header_that_is_too_long_is_answered_in_words_and_not_repeated(site: Site) -> None:
    for path, headers in (("/", {"Cookie": "a=" + "secret" * 2000}), (f"/runs?job={'secret' * 2000}", {})):
        code, said = await site.get(path, headers=headers)
        assert (code, "longer than 8192 bytes" in said, "secret" in said) == (431, True, False)
    assert (await site.get("/subscribe", headers={"Cookie": "; ".join(f"c{n}={'x' * 90}" for n in range(80))}))[
        0
    ] == 200


async def test_a_ledger_that_somebody_locks_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    async with opened(tmp_path) as site:
        with locked(site.ledger):
            code, page = await site.post(f"/u/{site.tokens.make('unsubscribe', 's_1')}", ONE_CLICK)
        assert (code, "try again" in page) == (503, True)
        assert cast("str", page).count("sqlite") == 0
