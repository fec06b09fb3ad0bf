"""Leaving, signing up, the first real mail and a rehearsal: with `overnight serve`, and proved by mailboxes."""

import json
import re
import socket
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from overnight.clock import SystemClock
from overnight.tokens import Tokens
from tests.acceptance.conftest import Project, RelayBooks, text_of, wait_until

pytestmark = pytest.mark.slow

ADA, EVE, NEW = "ada@example.org", "eve@example.org", "new@example.org"
SLOT = "2026-11-22"
RUN = ("run", "daily_email", "--date", SLOT)
FORM = "application/x-www-form-urlencoded"


def call(url: str, body: str | None = None) -> tuple[int, str]:
    """A GET, or a POST as a mail program sends it."""
    request = urllib.request.Request(url, body.encode() if body is not None else None, {"Content-Type": FORM})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  our own server
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ids(project: Project) -> dict[str, str]:
    return {who["email"]: who["id"] for who in project.json("subscribers", "list")}


def tokens(root: Path) -> Tokens:
    return Tokens((root / "var" / "secret").read_bytes().strip(), SystemClock())


def served(project: Project) -> str:
    """Start a scheduler; the address of its pages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project.start("serve", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: any(line.get("url") == url for line in project.log()), "serve to start")
    return url


def test_people_come_by_confirming_and_leave_by_one_click_also_from_an_edition_under_way(project: Project) -> None:
    project.subscribe(ADA, EVE)
    url = served(project)

    assert call(f"{url}/subscribe", urllib.parse.urlencode({"email": NEW}))[0] == 200
    wait_until(lambda: project.outbox("subscribe"), "the mail with the link")
    [mail] = project.outbox("subscribe")
    assert mail["To"] == NEW
    [path] = re.findall(r"http://127\.0\.0\.1:8650(/confirm/\S+)", text_of(mail))
    assert call(f"{url}{path}")[0] == 200
    assert NEW not in ids(project), "a scanner that follows links subscribes nobody"
    assert call(f"{url}{path}", "")[0] == 200

    who = ids(project)
    assert project.json(*RUN, "--only", who[EVE])["items"]["ok"] == 1
    made = tokens(project.root)
    link = f"{url}/u/{made.make('unsubscribe', who[ADA])}"
    wrong = [link[:-2], link[:-1] + "!", f"{url}/u/{made.make('confirm', who[ADA])}", f"{url}/u/{'A' * 6000}"]
    for bad in wrong:
        assert call(bad, "List-Unsubscribe=One-Click")[0] == 400
    assert call(f"{url}/u/{'A' * 20_000}", "List-Unsubscribe=One-Click")[0] == 431
    assert call(link)[0] == 200
    assert project.json("subscribers", "show", ADA)["status"] == "active"
    for _ in range(2):
        assert call(link, "List-Unsubscribe=One-Click")[0] == 200
    left = project.json("subscribers", "list", "--status", "unsubscribed")
    assert [(one["email"], one["reason"]) for one in left] == [(ADA, "one-click")]

    assert project.json(*RUN)["items"] == {"total": 2, "ok": 1, "failed": 0, "retry": 0, "skipped": 1, "unknown": 0}
    skipped = project.states("daily_email")[ADA]
    assert (skipped["state"], skipped["reason"]) == ("skipped", "unsubscribed")
    assert sorted(mail["To"].addresses[0].addr_spec for mail in project.outbox("daily_email")) == [EVE, NEW]
    text = (project.root / "var" / "log" / "overnight.jsonl").read_text(encoding="utf-8")
    assert path not in text
    assert link.rpartition("/")[2] not in text


def test_a_scheduler_mails_nobody_through_a_relay_before_somebody_confirmed_it(
    project: Project, smtp: RelayBooks
) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.subscribe(ADA, EVE)
    project.schedule('cron: "0 7 * * *"', "every: 12h\n    max_age: 1d")
    project.json("tick")
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection, connection:
        connection.execute("UPDATE entry SET effective_since = '2000-01-01T00:00:00.000Z' WHERE job = 'daily_email'")
    said = project.run("tick")
    assert said.code == 1, said.text
    assert "say --yes once" in said.err
    assert set(smtp.recipients()) == {"ops@example.org"}
    [_] = [mail for mail in smtp.mails() if "overnight resume daily_email" in text_of(mail)]
    told = smtp.count()
    assert project.run("tick").code == 0, "what was stopped is left alone"
    assert smtp.count() == told, "one alert"

    refused = project.run("resume", "daily_email")
    assert (refused.code, "--yes" in refused.err) == (4, True)
    assert project.json("resume", "daily_email", "--yes")["items"]["ok"] == 2
    assert {to: smtp.recipients()[to] for to in (ADA, EVE)} == {ADA: 1, EVE: 1}
    assert project.run("run", "hello").code == 0, "asked once"
    project.env["MAIL_URL"] = smtp.url.replace("127.0.0.1", "localhost")
    assert project.run("run", "hello").code == 4, "another relay is asked for anew"


def test_a_rehearsal_mails_the_real_edition_to_one_address_and_leaves_no_trace(
    project: Project, smtp: RelayBooks
) -> None:
    project.env["MAIL_URL"] = smtp.url
    project.subscribe(ADA, EVE)
    rehearse = ("rehearse", "daily_email", "--date", SLOT, "--to", "me@example.net")
    assert project.run(*rehearse).code == 4, "a relay that nobody confirmed is asked for"
    assert project.run("rehearse", "daily_email", "--to", "nobody").code == 2
    assert smtp.count() == 0
    assert project.json(*rehearse, "--yes")["items"]["ok"] == 1
    assert project.run(*RUN).code == 4, "and that was no confirmation"

    assert project.json(*RUN, "--yes")["items"]["ok"] == 2, "no story was marked as seen"
    assert project.json(*rehearse, "--to", "you@example.net")["items"]["ok"] == 2
    mails = {to: [mail for mail in smtp.mails() if mail["X-Recipient"] == to] for to in smtp.recipients()}
    assert {to: len(mails[to]) for to in mails if to != "ops@example.org"} == {
        "me@example.net": 2, ADA: 1, EVE: 1, "you@example.net": 1,
    }  # fmt: skip
    [real], [first, second] = mails[ADA], mails["me@example.net"]
    assert first["Subject"].strip().startswith("[Test] ")
    assert second["Subject"].strip() == f"[Test] {real['Subject'].strip()}"
    assert "Ada" not in text_of(second)
    assert ids(project)[ADA] not in str(second["List-Unsubscribe"])
    assert {who["status"] for who in project.json("subscribers", "list")} == {"active"}
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection:
        payloads = [json.loads(row[0]) for row in connection.execute("SELECT payload FROM item WHERE slot LIKE '%~%'")]
    assert {payload["email"] for payload in payloads} == {"me@example.net", "you@example.net"}
    rates = (project.root / "var/reports/latest/success_rate.csv").read_text(encoding="utf-8")
    assert "~" not in rates
