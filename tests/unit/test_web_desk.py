"""The operator's desk: its pages over a ledger full of hostile text, and whoever calls it with something else.

Rows 15, 52, 67, 68 and 69 of the security note.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html.parser import HTMLParser
from inspect import getsource
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import event, insert, update
from sqlalchemy.exc import OperationalError
from yarl import URL

from overnight.alerts import Alarm, note
from overnight.health import Examiner, Reach
from overnight.ledger import Ledger
from overnight.ledger.controls import alert, breaker
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.rollups import trouble
from overnight.ledger.runs import close_run
from overnight.ledger.tables import call, effect, entry, item, meta, run, slot, tool_call
from overnight.mail.consent import keep as confirm
from overnight.mail.outbox import folder_of, safe_name
from overnight.outcome import Outcome, Scope
from overnight.redact import Redactor
from overnight.runner import Workplace
from overnight.schedule import loads
from overnight.web import server, serving
from overnight.web.access import AT_ONCE, EACH, Access, Tries
from overnight.web.desk import desk_routes, doing, queries, reading
from overnight.web.desk.gate import Gate, Session, _mark
from overnight.web.private import private_routes
from overnight.web.public import public_routes
from tests.slots import NOW, SLOT, ManualClock, begin, locked, open_ledger, rows

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
CANARY = "canary-of-the-desk-0123456789"
TOKEN = "the-token-of-these-tests"
SECRET = "the-secret-of-these-tests"
REF = "<abc.def@example.org>"
KEY = f"k/1?{EVIL}"
SCHEDULE = """version: 1
mail: { from: "The Site <news@example.org>" }
jobs:
  greet:
    at: "07:00"
    overlap: queue
    budget: { per_run: $2 }
    heartbeat: https://ping.example.org/a-secret-of-its-service
    params: { text: "<script>alert(1)</script> canary-of-the-desk-0123456789", feeds: [a, b] }
  other: { every: 1h, timezone: Asia/Tokyo, concurrency: 3 }
"""
HTML = f'<html><body><h1 style="color:red">Dear {EVIL} {CANARY}</h1><img src="cid:pic"></body></html>'
MAIL = (
    "MIME-Version: 1.0\r\nSubject: News for =?utf-8?q?=3Cb=3Eyou?=\r\n"
    'Content-Type: multipart/related; boundary="r"\r\n\r\n'
    '--r\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n'
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    f"plain {EVIL}\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{HTML}\r\n--b--\r\n"
    "--r\r\nContent-Type: image/png\r\nContent-ID: <pic>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
    "--r--\r\n"
)
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
PAGES = ("/", "/runs", "/costs", "/schedule", "/alerts")


@dataclass
class Heart:
    looked_at: datetime | None = NOW
    draining: bool = False


@dataclass
class Starts:
    """Notes what is to be started, and starts nothing."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    code: asyncio.Future[int] | None = None

    def start(self, job: str, slot: str, *arguments: str) -> "asyncio.Task[int]":
        self.asked.append((job, slot, *arguments))
        self.code = asyncio.get_running_loop().create_future()
        return asyncio.create_task(self._wait(self.code))

    async def _wait(self, code: "asyncio.Future[int]") -> int:
        return await code


@dataclass
class Desk:
    """A served desk and a browser of sorts: it keeps cookies and sends forms with what they hold."""

    ledger: Ledger
    clock: ManualClock
    url: str
    client: aiohttp.ClientSession
    starts: Starts
    scope: Scope
    work: Workplace

    async def get(self, path: str, **more: Any) -> tuple[int, str]:
        async with self.client.get(self.url + path, **more) as answer:
            return answer.status, await answer.text()

    async def token(self, path: str = "/") -> str:
        return re.findall(r'name="form" value="([^"]+)"', (await self.get(path))[1])[0]

    async def post(self, path: str, data: Any = None, **more: Any) -> tuple[int, str]:
        """Send a form as a browser does that has just loaded the overview."""
        headers = {"Origin": self.url} | more.pop("headers", {})
        form = {"form": await self.token(more.pop("at", "/"))} | (data or {})
        async with self.client.post(
            self.url + path, data=form, headers=headers, allow_redirects=False, **more
        ) as answer:
            return answer.status, answer.headers.get("Location", await answer.text())


def outcome(key: str, state: Any, **more: Any) -> Outcome:
    return Outcome(key, state, duration_ms=1500, **more)


def furnish(ledger: Ledger, root: Path) -> Scope:
    """A run that has ended partial, whose every text is hostile; a mail, a call, an alert, an unknown effect."""
    scope = begin(ledger)
    keys = [KEY, "fine", "lost", *(f"x{n:03}" for n in range(130))]
    ledger.writing(lambda c: plan(c, scope, [(n, key, f'"{EVIL}"') for n, key in enumerate(keys)]))
    ledger.writing(lambda c: planned(c, scope, NOW))
    failed = {"error_class": "permanent", "error_code": EVIL[:30], "error": f"{EVIL} {CANARY}"}
    outcomes = [
        outcome(KEY, "failed", **failed),
        outcome("fine", "ok", result=f'"{EVIL}"'),
        outcome("lost", "unknown", reason=EVIL),
        *(outcome(key, "failed", error_class="transient", error_code="http_503", error="no") for key in keys[3:]),
    ]
    ledger.writing(lambda c: record(c, [Recorded(scope, "pending", one, NOW) for one in outcomes]))
    base = {"job": "greet", "slot": SLOT, "run_id": scope.run_id}
    sent = {"kind": "mail", "name": EVIL, "target": "s_1", "intent_at": NOW}
    mails = [("e1", "fine", REF, "done"), ("e2", "lost", "<lost@example.org>", "unknown")]
    told = {
        "role": "editor",
        "model": EVIL,
        "status": "ok",
        "budget_day": SLOT,
        "started_at": NOW,
        "hash": "h",
        "nth": 0,
    }

    def write(connection: Any) -> None:
        for id_, key, ref, state in mails:
            connection.execute(
                insert(effect).values(id=id_, key=key, ref=ref, state=state, detail=EVIL, **base, **sent)
            )
        connection.execute(
            insert(call).values(id="c1", key="fine", response=f"{EVIL} {CANARY}", cost_nano=5_000_000, **base, **told)
        )
        asked = {"role": EVIL, "tool": EVIL, "arguments": EVIL, "verdict": "denied", "at": NOW, "job": "greet"}
        connection.execute(
            insert(tool_call).values(id="t1", slot=SLOT, key="fine", run_id=scope.run_id, result=CANARY, **asked)
        )
        note(connection, Alarm("bug", EVIL, f"{EVIL} {CANARY}"), NOW, timedelta(days=1))
        connection.execute(
            insert(breaker).values(name=EVIL, state="open", opened_until=NOW + timedelta(hours=1), generation=1)
        )
        close_run(connection, scope, "partial", f"{EVIL} {CANARY}", NOW + timedelta(minutes=2))
        old = {"job": "gone", "slot": "2026-11-01", "day": "2026-11-01", "scheduled_for": NOW}
        connection.execute(insert(slot).values(created_at=NOW, ok=1, **old))

    ledger.writing(write)
    begin(ledger, "renamed", SLOT, run_id="r_old")
    folder = folder_of(root / "var" / "outbox", "greet", SLOT)
    folder.mkdir(parents=True)
    (folder / f"{safe_name(REF.strip('<>'))}.eml").write_bytes(MAIL.encode())
    log = root / "var" / "log"
    log.mkdir(parents=True)
    line = f'{{"timestamp":"2026-11-22T07:00:00Z","level":"error","message":"{CANARY}","run_id":"{scope.run_id}"}}\n'
    (log / "overnight.jsonl").write_text("not json\n[]\n" + line)
    return scope


@asynccontextmanager
async def opened(root: Path, problem: str | None = None, token: str = "", text: str = SCHEDULE) -> AsyncIterator[Desk]:
    clock, starts = ManualClock(), Starts()
    ledger = open_ledger(root, clock)
    environ = {"OVERNIGHT_SECRET": SECRET} | ({"OVERNIGHT_TOKEN": token} if token else {})
    work = Workplace(root, loads(text, environ), ledger, clock, Redactor([CANARY, *environ.values()]))
    scope = furnish(ledger, root)
    clock.move(600)
    try:
        async with (
            serving(lambda: work, Heart(clock.now()), lambda: problem, "127.0.0.1", 0, lambda: None, starts) as url,
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
        ):
            yield Desk(ledger, clock, url, client, starts, scope, work)
    finally:
        ledger.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path, f"schedule.yaml:3:9: error: {EVIL}\n  3 | jobs {CANARY}\n    | ^^^^") as desk:
        yield desk


class Seen(HTMLParser):
    """What a browser would make of a page: nothing that runs, nothing that CSP would block."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def check(self) -> None:
        for tag, attributes in self.tags:
            assert tag not in ("img", "object", "embed", "style"), tag
            assert not any(name.startswith("on") or name == "style" for name in attributes), attributes
            if tag == "script":
                assert (attributes["src"] or "").startswith("/static/desk.js"), attributes
            if tag == "iframe":
                assert attributes["sandbox"] in ("", None), attributes
            if tag == "svg":
                assert "aria-hidden" in attributes or attributes["role"] == "img"


def every_page(desk: Desk) -> list[str]:
    of = f"/runs/{desk.scope.run_id}"
    items = [f"{of}/item?key={quote(key, safe='')}" for key in (KEY, "fine", "lost")]
    parts = [f"{items[1]}&part={part}" for part in ("html", "text", "headers", "<b>")]
    more = [f"{of}?items=all", f"{of}?items=trouble&code=http_503", f"{of}?items=all&after=100", "/runs/r_old"]
    lists = ["/runs?job=greet&status=partial", f"/runs?before={desk.scope.run_id}", "/runs?job=none"]
    jobs = ["/jobs/greet", "/jobs/other", "/jobs/gone", "/jobs/renamed"]
    return [*PAGES, of, *items, *parts, *more, *lists, *jobs]


@pytest.mark.slow
async def test_every_page_is_shown_and_nothing_in_the_ledger_becomes_markup_or_tells_a_secret(desk: Desk) -> None:
    for path in every_page(desk):
        code, html = await desk.get(path)
        assert code == 200, (path, html)
        assert CANARY not in html, path
        Seen(html).check()
        assert (html.count("<h1"), html.count('<main id="main"')) == (1, 1), path


async def test_health_tells_no_secret_either(desk: Desk) -> None:
    code, said = await desk.get("/api/health")
    assert (code, "schedule.yaml:3:9" in said, CANARY in said) == (200, True, False)


@pytest.mark.slow
async def test_a_secret_is_not_shown_in_part_where_a_text_is_cut(desk: Desk) -> None:
    """Half of one is known to nobody but to who guesses the rest."""

    def astride(most: int) -> str:
        return "x" * (most - 20) + CANARY

    def write(connection: Any) -> None:
        long = {"error": astride(300), "payload": astride(20_000), "result": astride(20_000)}
        connection.execute(update(item).where(item.c.key == KEY).values(long))
        connection.execute(update(item).where(item.c.key == "fine").values(result=astride(300)))
        connection.execute(update(call).values(response=astride(20_000)))
        connection.execute(update(effect).values(detail=astride(500)))
        connection.execute(update(tool_call).values(arguments=astride(20_000), result=astride(20_000)))
        connection.execute(update(trouble).where(trouble.c.job == "greet").values(sample=astride(300)))
        connection.execute(update(run).values(reason=astride(160)))
        connection.execute(update(alert).values(message=astride(80)))
        connection.execute(update(slot).where(slot.c.job == "greet").values(failed=0, unknown=0, retry=0))

    desk.ledger.writing(write)
    for path in every_page(desk):
        code, html = await desk.get(path)
        assert (code, CANARY[:12] in html) == (200, False), path


async def test_the_overview_says_what_needs_somebody_with_the_action_on_each_line(desk: Desk) -> None:
    code, html = await desk.get("/")
    assert code == 200
    assert "Degraded" in html
    assert "^^^^" in html
    for said in ("Retry failed", "Say what became of it", "Quiet for 8 hours", "until 2026-11-22T08:00", "Run now"):
        assert said in html, said
    assert f'action="/runs/{desk.scope.run_id}/retry"' in html
    assert "132 failed" not in html
    assert "131 failed" in html
    assert "0.8" in html, "the share of the items that succeeded"
    assert html.count("<dt>") == 5
    assert all(f"/jobs/{job}" in html for job in ("gone", "renamed")), "jobs that schedule.yaml has no longer"


async def test_numbers_that_cannot_be_had_are_not_available_and_the_page_is_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the query is broken")

    names = [
        name
        for name, one in vars(queries).items()
        if callable(one) and getattr(one, "__module__", "") == queries.__name__
    ]
    asked = {"run_of", "progress_of", "days_to", "Troubled", "mail_of"}
    for name in set(names) - asked:
        monkeypatch.setattr(queries, name, broken)
    of = f"/runs/{desk.scope.run_id}"
    for path in (*PAGES, of, f"{of}/item?key=fine", "/jobs/greet", "/jobs/gone"):
        code, html = await desk.get(path)
        assert code == 200, (path, html)
        assert path in {"/schedule", "/alerts"} or "n/a" in html, path


async def test_a_job_that_was_removed_or_renamed_still_shows_its_runs(desk: Desk) -> None:
    _, html = await desk.get("/runs?job=renamed")
    assert "/runs/r_old" in html
    code, html = await desk.get("/runs/r_old")
    assert (code, "renamed" in html, "Retry failed" in html) == (200, True, False)
    assert (await desk.post("/jobs/renamed/run"))[0] == 404
    code, html = await desk.get("/jobs/renamed")
    assert (code, "/runs/r_old" in html, "this job no longer" in html, "Run now" in html) == (200, True, True, False)
    assert (await desk.get("/jobs/never"))[0] == 404


async def test_a_run_of_a_job_that_is_gone_needs_attention_and_has_no_button(desk: Desk) -> None:
    values = {"status": "interrupted", "ended_at": NOW}
    desk.ledger.writing(lambda c: c.execute(run.update().where(run.c.id == "r_old").values(values)))
    _, html = await desk.get("/")
    assert "renamed 2026-11-22 interrupted" in html
    assert 'action="/runs/r_old/retry"' not in html


async def test_each_tick_of_the_overview_leads_to_its_run(desk: Desk) -> None:
    begin(desk.ledger, run_id="r_second")
    _, html = await desk.get("/")
    [drawn] = re.findall(r'<svg class="ticks"[^>]*><title>Last 2 runs.*?</svg>', html, re.DOTALL)
    assert re.findall(r'<a href="/runs/([^"]+)"', drawn) == [desk.scope.run_id, "r_second"]


async def test_the_page_of_a_job_has_its_runs_its_next_times_and_its_settings_as_they_count(desk: Desk) -> None:
    begin(desk.ledger, run_id="r_second")
    _, html = await desk.get("/jobs/greet")
    assert re.findall(r'<th scope="row"><a href="/runs/([^"]+)"', html) == ["r_second", desk.scope.run_id]
    assert [f"{day} Nov 07:00 UTC" in html for day in ("Mon 23", "Tue 24", "Fri 27", "Sat 28")] == [True] * 3 + [False]
    told = dict(re.findall(r'<th scope="row">([\w.]+)</th><td data-label="Value" class="long">(.*?)</tr>', html))
    value, origin = '{}</td><td data-label="From">{}</td>'.format, ("schedule.yaml", "the engine&#39;s")
    assert told["overlap"] == value("queue", origin[0])
    assert told["catch_up"] == value("latest", origin[1])
    assert told["timeout"] == value("1h", f"{origin[1]}, unless @job says another")
    assert told["budget.per_run"] == value("$2.00", origin[0])
    assert told["params.feeds"] == value("[&#34;a&#34;, &#34;b&#34;]", origin[0])
    assert told["heartbeat"] == value("is pinged", origin[0])
    _, html = await desk.get("/jobs/other")
    assert "every 1h, in Asia/Tokyo" in html


async def test_a_job_is_paused_with_a_reason_and_resumed_at_its_page(desk: Desk) -> None:
    asked = {"from": "job", "reason": "a holiday"}
    assert await desk.post("/jobs/greet/pause", asked, at="/jobs/greet") == (303, "/jobs/greet")
    _, html = await desk.get("/jobs/greet")
    assert ("Paused: a holiday" in html, "None, as it is paused" in html) == (True, True)
    assert await desk.post("/jobs/greet/resume", {"from": "job"}, at="/jobs/greet") == (303, "/jobs/greet")
    assert "Paused" not in (await desk.get("/jobs/greet"))[1]


async def test_items_in_trouble_come_first_and_page_by_page(desk: Desk) -> None:
    path, seen = f"/runs/{desk.scope.run_id}", list[str]()
    while path:
        _, html = await desk.get(path)
        found = re.findall(r'<th scope="row"><a href="/runs/[^/]+/item\?key=([^"]+)">', html)
        assert 0 < len(found) <= queries.PAGE
        seen += found
        more = re.search(r'href="(\?[^"#]+)#items" rel="next"', html)
        path = f"/runs/{desk.scope.run_id}{more[1].replace('&amp;', '&')}" if more else ""
    assert len(seen) == len(set(seen)) == 132
    assert "fine" not in seen
    _, html = await desk.get(f"/runs/{desk.scope.run_id}?items=trouble&code=http_503&after=x100")
    assert len(re.findall(r"item\?key=x", html)) == 29


async def test_a_page_of_items_is_read_by_an_index_however_many_there_are(desk: Desk) -> None:
    said: list[str] = []

    def explained(_c: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.extend(str(row[3]) for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    event.listen(desk.ledger.engine, "before_cursor_execute", explained)
    for query, arguments in (
        (queries.troubled_items, ("greet", SLOT, "", None)),
        (queries.troubled_items, ("greet", SLOT, "x050", "http_503")),
        (queries.planned_items, ("greet", SLOT, 7)),
        (queries.failures, ("greet", SLOT)),
        (queries.effects_of_item, ("greet", SLOT, "fine")),
        (queries.calls_with_text, ("greet", SLOT, "fine", 9)),
    ):
        said.clear()
        desk.ledger.reading(query, *arguments)
        assert said, query.__name__
        assert not any("SCAN" in one for one in said), said
        assert query is not queries.troubled_items or "item_in_trouble" in said[0], said
    said.clear()
    desk.ledger.reading(queries.unknown_effects)
    assert any("effect_unknown" in one for one in said), said


async def test_the_mail_is_shown_in_a_frame_that_runs_nothing(desk: Desk) -> None:
    of = f"/runs/{desk.scope.run_id}"
    _, html = await desk.get(f"{of}/item?key=fine")
    frame = next(attributes for tag, attributes in Seen(html).tags if tag == "iframe")
    assert "sandbox" in frame
    assert not frame["sandbox"]
    async with desk.client.get(desk.url + str(frame["src"])) as answer:
        body, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert answer.status == 200
    assert "Dear" in body
    assert CANARY not in body
    assert policy.split("; ")[:2] == ["sandbox", "default-src 'none'"]
    assert "script" not in policy
    assert "allow" not in policy
    assert "frame-ancestors 'self'" in policy
    assert "data:image/png;base64,iVBORw0KGgo=" in body
    assert "&lt;b&gt;you" in (await desk.get(f"{of}/item?key=fine&part=headers"))[1]
    assert "plain &lt;script&gt;" in (await desk.get(f"{of}/item?key=fine&part=text"))[1]
    for wrong in ("key=lost&ref=%3Clost%40example.org%3E", "key=fine&ref=..%2F..%2Fvar", "key=fine", "key=none&ref=x"):
        assert (await desk.get(f"{of}/mail?{wrong}"))[0] == 404
    assert "no longer in the outbox" in (await desk.get(f"{of}/item?key=lost"))[1]


async def test_of_a_relay_the_page_says_that_the_text_is_not_kept(tmp_path: Path) -> None:
    text = SCHEDULE.replace("mail: {", "mail: { transport: smtp://127.0.0.1:2525,")
    async with opened(tmp_path, text=text) as desk:
        assert "its text is not kept" in (await desk.get(f"/runs/{desk.scope.run_id}/item?key=fine"))[1]
        code, said = await desk.post("/jobs/greet/run")
        assert (code, "before that is confirmed" in said, desk.starts.asked) == (409, True, [])


async def test_run_now_starts_a_process_and_leads_to_its_page(desk: Desk) -> None:
    code, place = await desk.post("/jobs/other/run")
    assert code == 303
    assert place.startswith("/runs/r_")
    run_id = place.removeprefix("/runs/")
    assert desk.starts.asked == [("other", "2026-11-22T07:10Z", "--slot", "2026-11-22T07:10Z", "--as", run_id)]
    code, html = await desk.get(place)
    assert (code, "It is starting" in html, "data-live" in html) == (200, True, True)
    assert await desk.post("/jobs/other/run") == (303, place), "a second click leads to the same run"
    assert desk.starts.code is not None
    desk.starts.code.set_result(4)
    await asyncio.sleep(0.01)
    code, html = await desk.get(place)
    assert (code, "with exit code 4: it was refused" in html, "data-live" in html) == (200, True, False)
    begin(desk.ledger, "other", "2026-11-22T07:10Z", run_id=run_id, host="elsewhere")
    assert "running" in (await desk.get(place))[1]
    assert await desk.post("/jobs/other/run") == (303, place), "nor is a slot run twice"
    assert len(desk.starts.asked) == 1


async def test_two_clicks_at_once_are_one_run(tmp_path: Path) -> None:
    relay = SCHEDULE.replace("mail: {", "mail: { transport: smtp://127.0.0.1:2525,")
    async with opened(tmp_path, text=relay) as desk:
        desk.ledger.writing(lambda connection: confirm(connection, "smtp 127.0.0.1:2525", NOW))
        form, headers, url = {"form": await desk.token()}, {"Origin": desk.url}, f"{desk.url}/jobs/other/run"

        async def click() -> str:
            async with desk.client.post(url, data=form, headers=headers, allow_redirects=False) as answer:
                return answer.headers["Location"]

        places = await asyncio.gather(*(click() for _ in range(5)))
        assert (len(set(places)), len(desk.starts.asked)) == (1, 1)


async def test_retry_takes_up_what_failed_under_an_id_that_is_known_before(desk: Desk) -> None:
    code, place = await desk.post(f"/runs/{desk.scope.run_id}/retry")
    assert (code, place.startswith("/runs/r_")) == (303, True)
    [(job, slot_, *arguments)] = desk.starts.asked
    assert (job, slot_) == ("greet", SLOT)
    assert arguments == ["--slot", SLOT, "--as", place.removeprefix("/runs/"), "--retry-of", desk.scope.run_id]
    assert (await desk.post("/runs/none/retry"))[0] == 404


@pytest.mark.parametrize("transport", ["smtp://127.0.0.1:2525", "outbox:var/outbox"])
async def test_an_old_edition_is_mailed_to_people_from_where_somebody_is_asked(tmp_path: Path, transport: str) -> None:
    text = SCHEDULE.replace("mail: {", f"mail: {{ transport: '{transport}',")
    async with opened(tmp_path, text=text) as desk:
        path, real = f"/runs/{desk.scope.run_id}/retry", transport.startswith("smtp")
        code, said = await desk.post(path)
        assert (code, f"confirmed, once: overnight retry {desk.scope.run_id}" in said) == (
            (409, True) if real else (303, False)
        )
        desk.ledger.writing(lambda connection: confirm(connection, "smtp 127.0.0.1:2525", NOW))
        desk.ledger.writing(lambda c: c.execute(update(run).values(scheduled_for=NOW - timedelta(days=2))))
        if not real:
            assert desk.starts.code is not None
            desk.starts.code.set_result(0)
            await asyncio.sleep(0.01)
        code, said = await desk.post(path)
        assert (code, "was due 2d10m ago" in said, len(desk.starts.asked)) == (
            (409, True, 0) if real else (303, False, 2)
        )
        assert real is (f"once you have read that: overnight retry {desk.scope.run_id}" in said)


async def test_pause_resume_silence_cancel_and_settle_do_what_the_commands_do(desk: Desk) -> None:
    assert await desk.post("/jobs/greet/pause", {"reason": EVIL}) == (303, "/")
    assert rows(desk.ledger, entry, job="greet")[0]["pause_reason"] == EVIL
    assert "greet is paused" in (await desk.get("/"))[1]
    code, said = await desk.post("/jobs/greet/run")
    assert (code, "greet is paused" in said, "resume it first" in said, desk.starts.asked) == (409, True, True, [])
    assert await desk.post("/jobs/greet/resume") == (303, "/")
    assert rows(desk.ledger, entry, job="greet")[0]["paused_at"] is None
    key = f"bug:{EVIL}"
    assert await desk.post("/alerts/silence", {"key": key, "span": "8h"}) == (303, "/alerts")
    assert rows(desk.ledger, alert)[0]["silenced_until"] == desk.clock.now() + timedelta(hours=8)
    assert "Quiet for 8 hours" not in (await desk.get("/"))[1], "it is"
    assert (await desk.post("/alerts/silence", {"key": key, "span": EVIL}))[0] == 409
    assert (await desk.post("/alerts/silence", {"key": "none", "span": "8h"}))[0] == 404
    assert await desk.post("/alerts/unsilence", {"key": key}) == (303, "/alerts")
    assert rows(desk.ledger, alert)[0]["silenced_until"] is None
    assert (await desk.post(f"/runs/{desk.scope.run_id}/cancel"))[0] == 409
    assert (await desk.post("/runs/r_old/cancel"))[0] == 303
    assert rows(desk.ledger, run, id="r_old")[0]["status"] == "interrupted"
    code, _ = await desk.post(f"/runs/{desk.scope.run_id}/settle", {"key": "lost", "answer": "sent"})
    assert (code, rows(desk.ledger, item, key="lost")[0]["state"]) == (303, "ok")
    assert (await desk.post(f"/runs/{desk.scope.run_id}/settle", {"key": "lost", "answer": "maybe"}))[0] == 409


async def test_an_item_that_is_unknown_for_other_reasons_than_its_effects_can_be_settled_too(desk: Desk) -> None:
    desk.ledger.writing(lambda connection: connection.execute(effect.update().values(state="done")))
    page = f"/runs/{desk.scope.run_id}/item?key="
    assert "Nobody knows what became of it" in (await desk.get(f"{page}lost"))[1]
    assert "Nobody knows what became of it" not in (await desk.get(f"{page}fine"))[1]


ACTIONS = (
    "/jobs/greet/run", "/jobs/greet/pause", "/jobs/greet/resume", "/runs/{run}/retry", "/runs/{run}/cancel",
    "/runs/{run}/settle", "/alerts/silence", "/alerts/unsilence", "/logout",
)  # fmt: skip


@pytest.mark.slow
async def test_a_forged_origin_form_or_host_changes_nothing(desk: Desk) -> None:
    for path in (one.format(run=desk.scope.run_id) for one in ACTIONS):
        for origin in ("http://evil.example", "null", "", desk.url.replace("127.0.0.1", "localhost"), "http://["):
            code, html = await desk.post(path, headers={"Origin": origin})
            assert (code, "refused" in html) == (403, True), (path, origin)
        good = await desk.token()
        for forged in ("", "x", good[:-1], good[:-1] + ("a" if good[-1] != "a" else "b"), f"{good}.x", "\0" * 9):
            code, html = await desk.post(path, {"form": forged})
            assert (code, "too old" in html) == (403, True), (path, forged)
        assert (await desk.post(path, headers={"Host": "evil.example"}))[0] == 400
    assert desk.starts.asked == []
    assert rows(desk.ledger, entry) == []


async def test_the_form_of_another_visitor_is_refused(desk: Desk) -> None:
    theirs = await desk.token()
    desk.client.cookie_jar.clear()
    assert (await desk.post("/jobs/greet/run", {"form": theirs}))[0] == 403
    async with desk.client.post(
        f"{desk.url}/jobs/greet/run", data={"form": theirs}, headers={"Origin": desk.url, "Cookie": "x=y"}
    ) as answer:
        assert answer.status == 403
    desk.clock.move(13 * 3600)
    old = await desk.token()
    desk.clock.move(13 * 3600)
    assert (await desk.post("/jobs/greet/run", {"form": old}))[0] == 403
    assert desk.starts.asked == []


async def test_a_name_that_was_pointed_here_sees_nothing(desk: Desk) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "[::1", "127.0.0.1:1@evil.example", "192.0.2.1"):
        for path in (*every_page(desk), "/login"):
            code, html = await desk.get(path, headers={"Host": host})
            assert (code, "OVERNIGHT_TOKEN" in html, "<main" in html) == (400, True, False), (host, path)


async def test_without_a_token_neither_another_machine_nor_a_proxy_sees_anything(desk: Desk) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Forwarded-Host"):
        assert (await desk.get("/", headers={name: "192.0.2.1"}))[0] == 400
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))  # stands for an address that is not ours
    async with aiohttp.ClientSession(connector=elsewhere) as client:
        for path in ("/", "/login", "/api/health", "/metrics"):
            async with client.get(desk.url + path) as answer:
                assert (answer.status, "OVERNIGHT_TOKEN" in await answer.text()) == (400, True), path
        async with client.get(desk.url + "/subscribe") as answer:
            assert answer.status == 200


async def test_every_answer_forbids_the_browser_what_it_can(desk: Desk) -> None:
    for path in (*PAGES, "/runs/none", "/static/desk.css", "/static/desk.js"):
        async with desk.client.get(desk.url + path) as answer:
            headers = answer.headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert policy["script-src"] == "'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cache-Control"] == ("max-age=86400" if "static" in path else "no-store")
    async with desk.client.get(desk.url, cookies={}) as answer:
        assert not answer.cookies, "a visitor who is known gets no new cookie"
    desk.client.cookie_jar.clear()
    async with desk.client.get(desk.url) as answer:
        [cookie] = answer.cookies.values()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")


@pytest.mark.slow
async def test_with_a_token_nobody_sees_anything_without_it(tmp_path: Path) -> None:
    async with opened(tmp_path, token=TOKEN) as desk:
        for path in every_page(desk):
            async with desk.client.get(desk.url + path, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/login"), path
            assert (await desk.get(path, headers={"Authorization": "Bearer wrong"}))[1].count("OVERNIGHT_TOKEN")
            desk.clock.move(EACH)
            assert (await desk.get(path, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200
        for path in (one.format(run=desk.scope.run_id) for one in ACTIONS):
            assert await desk.post(path, at="/login") == (303, "/login")
        assert desk.starts.asked == []
        for wrong in ("", "x", TOKEN[:-1], f"{TOKEN}x", "ü", EVIL):
            desk.clock.move(EACH)
            code, html = await desk.post("/login", {"token": wrong}, at="/login")
            assert (code, "not the token" in html) == (403, True)
            Seen(html).check()
        assert (await desk.post("/login", {"token": TOKEN, "form": "x"}, at="/login"))[0] == 403
        assert await desk.post("/login", {"token": TOKEN}, at="/login") == (303, "/")
        assert (await desk.get("/"))[0] == 200
        html = (await desk.get("/"))[1]
        assert (TOKEN in html, "Log out" in html) == (False, True)
        assert (await desk.get("/", headers={"Host": "desk.example.org"}))[0] == 200
        assert await desk.post("/jobs/greet/run") == (
            303,
            f"/runs/{desk.starts.asked[0][5]}" if desk.starts.asked else "",
        )


def renew(desk: Desk, **environ: str) -> None:
    """Reload the settings with other variables, as `serve` does."""
    object.__setattr__(desk.work, "schedule", loads(SCHEDULE, {"OVERNIGHT_SECRET": SECRET, **environ}))


async def inside(desk: Desk, **cookies: str) -> bool:
    """Whether the overview is shown to who brings these cookies; without any, those of the desk's browser."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession()) if cookies else desk.client
        answer = await stack.enter_async_context(client.get(desk.url, cookies=cookies, allow_redirects=False))
        assert answer.status in (200, 303)
        return answer.status == 200


async def log_in(desk: Desk) -> dict[str, str]:
    """Log in by the form; returns the cookie."""
    assert await desk.post("/login", {"token": TOKEN}, at="/login") == (303, "/")
    return {cookie.key: cookie.value for cookie in desk.client.cookie_jar}


async def test_who_logs_out_has_ended_the_session_wherever_its_cookie_is_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, token=TOKEN) as desk:
        copied, _ = await log_in(desk), desk.client.cookie_jar.clear()
        mine = await log_in(desk)
        assert (await inside(desk, **copied), await inside(desk, **mine)) == (True, True)
        assert await desk.post("/logout") == (303, "/login")
        assert not await inside(desk)
        assert (await inside(desk, **mine), await inside(desk, **copied)) == (False, True)
        other = Access(lambda: desk.work, Tries(desk.clock))
        again = Gate(lambda: desk.work, other, 1.0, lambda *_: web.Response())
        session = Session(again.tokens.read("session", next(iter(mine.values()))).partition("-")[0], _mark(TOKEN))
        assert not await again._known(session)
        desk.clock.move(13 * 3600)
        await log_in(desk)
        assert await desk.post("/logout") == (303, "/login")
        kept = [row["name"] for row in rows(desk.ledger, meta) if row["name"].startswith("logged-out:")]
        assert len(kept) == 1, "what would be over by now is forgotten"


async def test_a_new_token_or_secret_ends_all_sessions_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, token=TOKEN) as desk:
        mine = await log_in(desk)
        form = await desk.token()
        renew(desk, OVERNIGHT_TOKEN="another-token-of-these-tests")
        assert not await inside(desk, **mine)
        renew(desk, OVERNIGHT_TOKEN=TOKEN)
        assert await inside(desk, **mine)
        renew(desk, OVERNIGHT_TOKEN=TOKEN, OVERNIGHT_SECRET="another-secret-of-these-tests")
        assert not await inside(desk, **mine)
        await log_in(desk)
        assert (await desk.post("/jobs/greet/run", {"form": form}))[0] == 403
        assert desk.starts.asked == []


async def test_a_token_that_is_soon_guessed_opens_nothing_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, token=TOKEN) as desk:
        renew(desk, OVERNIGHT_TOKEN="fifteen-letters")
        assert not await inside(desk)
        assert "has 15 of at least 16 characters" in (await desk.get("/login"))[1]
        assert (await desk.post("/login", {"token": "fifteen-letters"}, at="/login"))[0] == 403
        headers = {"Authorization": "Bearer fifteen-letters"}
        assert (await desk.get("/api/health", headers=headers))[1] == '{"status": "degraded"}'
        assert (await desk.get("/metrics", headers=headers))[0] == 401


async def test_ten_wrong_tokens_and_nobody_is_looked_at_for_a_while_but_who_is_inside_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path, token=TOKEN) as desk:
        mine = await log_in(desk)
        desk.client.cookie_jar.clear()
        form, right = await desk.token("/login"), {"Authorization": f"Bearer {TOKEN}"}
        wrong: list[Any] = [desk.get("/api/health", headers={"Authorization": f"Bearer {n}"}) for n in range(20)]
        wrong += [desk.post("/login", {"token": str(n), "form": form}, at="/login") for n in range(20)]
        codes = [code for code, _ in await asyncio.gather(*wrong)]
        assert (len(codes) - codes.count(429), set(codes) <= {200, 403, 429}) == (AT_ONCE, True)
        for path in ("/", "/api/health", "/metrics"):
            async with desk.client.get(desk.url + path, headers=right) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (429, "5"), path
                assert "too many wrong tokens have been tried here: try again in 5 s" in (await answer.text()).lower()
        assert (await desk.post("/login", {"token": TOKEN}, at="/login"))[0] == 429
        assert (await desk.get("/api/health"))[1] == '{"status": "degraded"}', "who shows nothing tries nothing"
        assert await inside(desk, **mine)
        desk.client.cookie_jar.update_cookies(mine, URL(desk.url))
        assert await desk.post("/jobs/greet/pause", headers=right) == (303, "/")
        desk.client.cookie_jar.clear()
        desk.clock.move(EACH)
        assert (await desk.get("/metrics", headers=right))[0] == 200, "a right one costs nothing"
        assert (await desk.get("/metrics", headers={"Authorization": "Bearer x"}))[0] == 401
        assert (await desk.get("/metrics", headers=right))[0] == 429
        desk.clock.move(EACH * 100)
        basic = {"Authorization": "Basic bWU6bXktcGFzc3dvcmQtYXQtdGhlLXByb3h5"}
        assert {(await desk.get("/metrics", headers=basic))[0] for _ in range(12)} == {401}, "no try at our token"
        codes = [(await desk.get("/metrics", headers={"Authorization": "Bearer"}))[0] for _ in range(12)]
        assert codes == [401] * AT_ONCE + [429] * 2


async def test_a_program_with_the_token_needs_no_form(tmp_path: Path) -> None:
    async with (
        opened(tmp_path, token=TOKEN) as desk,
        desk.client.post(
            f"{desk.url}/jobs/greet/run", headers={"Authorization": f"Bearer {TOKEN}"}, allow_redirects=False
        ) as answer,
    ):
        assert (answer.status, len(desk.starts.asked)) == (303, 1)


async def test_a_body_that_is_too_large_or_no_form_is_refused(desk: Desk) -> None:
    assert (await desk.post("/jobs/greet/pause", {"reason": "x" * 5000}))[0] == 413
    headers = {"Origin": desk.url, "Content-Type": "application/x-www-form-urlencoded; charset=none-such"}
    for body in (b"\xff\xfe", b"form=%ff", b"form[]=1", b"=&=&&"):
        async with desk.client.post(f"{desk.url}/jobs/greet/run", data=body, headers=headers) as answer:
            assert answer.status == 403


@pytest.mark.slow
async def test_a_form_that_does_not_end_and_a_header_that_is_no_text_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    async with opened(tmp_path, token=TOKEN) as desk:
        host = desk.url.removeprefix("http://")
        head = f"POST /jobs/greet/run HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
        assert b" 408 " in await said(host, head + FORM + b"Content-Length: 900\r\n\r\nform=")
        for bad in (b"Bearer \xff\xfe", b"Bearer", b"\xc3", b"Basic " + TOKEN.encode()):
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: ".encode()
            page = await said(host, head + bad + b"\r\n\r\n")
            assert page.split(b"\r\n")[0] in (b"HTTP/1.1 303 See Other", b"HTTP/1.1 400 Bad Request"), page
        assert desk.starts.asked == []


@pytest.mark.slow
async def test_a_button_is_answered_while_somebody_locks_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 3.0)
    async with opened(tmp_path) as desk:
        form, headers = {"form": await desk.token()}, {"Origin": desk.url}
        with locked(desk.ledger):
            pressed = desk.client.post(f"{desk.url}/jobs/greet/pause", data=form, headers=headers)
            async with asyncio.timeout(30), pressed as answer:  # a writer waits for a minute
                assert (answer.status, "That took too long" in await answer.text()) == (503, True)


async def said(host: str, request: bytes) -> bytes:
    """The beginning of the answer to these bytes."""
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(200), 20)
    finally:
        writer.close()


WORDS = [
    "", "0", "-1", "9" * 40, "²", "٣", "\0", "\udcff", "\r\nX: y", "../../etc", "💩", "' OR 1=1--", "{x|y}", EVIL,
    "x" * 900, "-1h", "1h", "9" * 400, "sent",
]  # fmt: skip
ASKED = set(re.findall(r'\.get\("(\w+)"', getsource(reading))) | {"job", "status", "before", "x"}
SENT = set(re.findall(r'\(caller, "(\w+)"\)', getsource(doing))) | {"token", "form", "email", "List-Unsubscribe"}


def every_route(desk: Desk) -> list[tuple[str, str]]:
    """Method and path of all that is served; what is added is here by itself."""

    def work() -> Workplace:
        return desk.work

    access, examiner = Access(work, Tries(desk.clock)), Examiner(work, Heart(), lambda: None, Reach(desk.clock))
    found = [
        *desk_routes(work, access, examiner, lambda: None, desk.starts, 1.0),
        *private_routes(work, access, examiner, lambda: None),
        *public_routes(work, lambda: None, 1.0),
    ]
    return [(route.method, re.sub(r":[^}]*", "", route.path)) for route in found]


def spelled(word: str) -> str:
    return quote(word.encode("utf-8", "surrogateescape"), safe="")


def filled(desk: Desk, path: str) -> list[str]:
    """The path with values that exist, where it takes any, and with each of the words in each place."""
    names = re.findall(r"{(\w+)}", path)
    good = {"run": desk.scope.run_id, "job": "greet", "name": "desk.css", "token": "x"}
    known = {name: good[name] for name in names}
    return [path.format(**known)] + [path.format(**known | {name: spelled(word)}) for name in names for word in WORDS]


@pytest.mark.slow
async def test_no_route_and_no_parameter_is_answered_with_500(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    form, headers = await desk.token(), {"Origin": desk.url}

    async def fine(method: str, path: str, **more: Any) -> None:
        url = URL(desk.url + path, encoded=True)
        async with desk.client.request(method, url, allow_redirects=False, **more) as answer:
            ready = path.startswith("/readyz")  # schedule.yaml is broken here, and it says so
            assert answer.status < 500 or (ready and answer.status == 503), (method, path, more, await answer.text())

    assert {"key", "after", "code", "part", "items", "ref"} <= ASKED
    assert {"key", "span", "answer", "reason"} <= SENT
    routes = every_route(desk)
    assert len(routes) >= 30
    for method, path in routes:
        known, *strange = filled(desk, path)
        for each in (known, *strange):
            await fine(method, each, headers=headers, data={"form": form} if method == "POST" else None)
        for name, word in product(ASKED if method == "GET" else SENT, WORDS):
            if method == "GET":
                await fine(method, f"{known}?{name}={spelled(word)}&key=fine")
                continue
            field = word.encode("utf-8", "surrogateescape").decode("latin-1")
            await fine(method, known, headers=headers, data={"form": form, "key": KEY, name: field})
        for name in SENT if method == "POST" else ():
            upload = aiohttp.FormData({"form": form})
            upload.add_field(name, b"x", filename="x")
            await fine(method, known, headers=headers, data=upload)
        for other in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONE"):
            await fine(other, known)
    assert "met a bug" not in caplog.text


async def test_when_the_ledger_cannot_be_read_the_page_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(Ledger, "reading", gone)
    monkeypatch.setattr(Ledger, "write", gone)
    code, html = await desk.get("/")
    assert (code, "n/a" in html, "Unhealthy" in html) == (200, True, True)
    code, html = await desk.get(f"/runs/{desk.scope.run_id}")
    assert (code, "does not answer" in html) == (503, True)
