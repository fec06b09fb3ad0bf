"""The mailing through a relay that refuses, defers, hangs up, or is not there: proved by the relay's own spool."""

import socket
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.conftest import Project, RelayBooks

pytestmark = pytest.mark.slow

PEOPLE = [f"{name}@example.org" for name in ("ada", "bela", "chiara", "dmitri", "elif", "femke")]
SLOT = "2026-11-22"
RUN = ("run", "daily_email", "--date", SLOT, "--yes")


@pytest.fixture
def site(project: Project, smtp: RelayBooks) -> Project:
    """A project with six subscribers that mails through the relay."""
    project.env["MAIL_URL"] = smtp.url
    project.subscribe(*PEOPLE)
    return project


def test_one_refused_and_one_deferred_recipient_hold_up_nobody(site: Project, smtp: RelayBooks) -> None:
    smtp.rules(refuse={PEOPLE[0]: "550 5.1.1 No such user", PEOPLE[1]: "451 4.7.1 Come back later"})
    document = site.json(*RUN, code=3)
    assert document["status"] == "partial"
    assert document["items"] == {"total": 6, "ok": 4, "failed": 1, "retry": 1, "skipped": 0, "unknown": 0}
    assert {error["error_code"] for error in document["errors"]} == {"smtp_550", "smtp_451"}
    readers = {mail["X-Recipient"] for mail in smtp.mails() if mail["Subject"]}
    assert set(PEOPLE[2:]) <= readers
    states = site.states("daily_email")
    refused, deferred = states[PEOPLE[0]], states[PEOPLE[1]]
    assert (refused["state"], refused["error_class"], refused["error_code"]) == ("failed", "permanent", "smtp_550")
    assert (deferred["state"], deferred["error_class"]) == ("retry", "transient")
    assert deferred["next_at"] < deferred["expires_at"]

    smtp.rules(refuse={PEOPLE[0]: "550 5.1.1 No such user"})
    again = site.json(*RUN)
    assert again["items"]["total"] == 0, "its time has not come, and what has failed waits for `retry`"

    site.let_time_pass()
    ticked = site.run("tick")
    assert ticked.code == 0, ticked.text
    assert site.states("daily_email")[PEOPLE[1]]["state"] == "ok"
    readers_now = smtp.recipients()
    assert {who: readers_now[who] for who in PEOPLE} == {PEOPLE[0]: 0} | dict.fromkeys(PEOPLE[1:], 1)

    smtp.rules()
    retried = site.run("--json", "retry", "daily_email", "--yes")
    assert retried.document["items"] | {"total": 1, "skipped": 1} == retried.document["items"], (
        "only the one that failed"
    )
    assert "  1/1  1 skipped\n" in retried.err, "there is no such mailbox: it is not named to the relay again"
    assert smtp.asked()[PEOPLE[0]] == 1
    listed = {who["email"]: who for who in site.json("subscribers", "list")}
    assert (listed[PEOPLE[0]]["status"], listed[PEOPLE[0]]["reason"]) == ("suppressed", "bounced 5.1.1")
    assert {who["status"] for email, who in listed.items() if email != PEOPLE[0]} == {"active"}


def test_a_deferred_recipient_gets_the_mail_when_the_slot_is_run_again(site: Project, smtp: RelayBooks) -> None:
    smtp.rules(refuse={PEOPLE[1]: "451 4.7.1 Come back later"})
    site.json(*RUN, code=3)
    smtp.rules()
    site.let_time_pass()
    assert site.json(*RUN)["items"]["ok"] == 1
    assert {who: smtp.recipients()[who] for who in PEOPLE} == dict.fromkeys(PEOPLE, 1)


def test_a_refused_login_stops_the_run_before_anything_is_sent(site: Project, smtp: RelayBooks) -> None:
    smtp.rules(login=["news", "right"])
    site.env["MAIL_URL"] = smtp.url.replace("//", "//news:mistaken-password@")
    document = site.json(*RUN, code=1)
    assert (document["status"], document["items"]["total"]) == ("stopped", 0)
    assert "MAIL_URL" in document["reason"]
    assert smtp.count() == 0
    shown = site.json("show", "daily_email")
    assert shown["slot"]["pending"] == len(PEOPLE)
    assert [alert["key"] for alert in site.json("alerts") if alert["rule"] == "stopped"] == ["stopped:daily_email"]
    log = (site.root / "var" / "log" / "overnight.jsonl").read_text(encoding="utf-8")
    assert "mistaken-password" not in log + str(document)

    site.env["MAIL_URL"] = smtp.url.replace("//", "//news:right@")
    assert site.json(*RUN)["items"]["ok"] == len(PEOPLE)
    assert {who: smtp.recipients()[who] for who in PEOPLE} == dict.fromkeys(PEOPLE, 1)
    assert not [alert for alert in site.json("alerts") if alert["rule"] == "stopped"]


def test_a_message_without_an_answer_is_unknown_and_not_sent_twice(site: Project, smtp: RelayBooks) -> None:
    smtp.rules(hang_up=[PEOPLE[3]])
    document = site.json(*RUN, code=3)
    assert document["items"]["unknown"] == 1
    item = site.states("daily_email")[PEOPLE[3]]
    assert item["state"] == "unknown"
    shown = site.json("show", "daily_email")
    ours = next(mail for mail in smtp.mails() if mail["X-Recipient"] == PEOPLE[3])
    assert [effect["ref"] for effect in shown["unknown_effects"]] == [ours["Message-ID"]]

    smtp.rules()
    assert site.json(*RUN)["items"]["total"] == 0
    assert site.json("retry", "daily_email", "--yes")["items"]["total"] == 0, "nobody decided that it may be sent again"
    assert {who: smtp.recipients()[who] for who in PEOPLE} == dict.fromkeys(PEOPLE, 1)


def test_a_relay_that_is_not_there_loses_nobody(site: Project, smtp: RelayBooks) -> None:
    with socket.socket() as free:  # bound and never listening: nobody answers
        free.bind(("127.0.0.1", 0))
        site.env["MAIL_URL"] = f"smtp://127.0.0.1:{free.getsockname()[1]}"
        document = site.json(*RUN, code=3)
    assert document["items"]["retry"] == len(PEOPLE)
    codes = {error["error_code"] for error in document["errors"]}
    assert "smtp_unreachable" in codes
    assert codes <= {"smtp_unreachable", "breaker_open"}, "after five in a row the relay is left alone"

    site.env["MAIL_URL"] = smtp.url
    site.let_time_pass()
    assert site.json(*RUN)["items"]["ok"] == len(PEOPLE)
    assert {who: smtp.recipients()[who] for who in PEOPLE} == dict.fromkeys(PEOPLE, 1)


def test_run_now_at_the_page_mails_the_edition_of_today_however_late_it_is(site: Project, smtp: RelayBooks) -> None:
    site.schedule('cron: "0 7 * * *"', 'cron: "0 0 * * *"\n    max_age: 1m')
    site.json("run", "daily_email", "--date", "2026-11-20", "--limit", "1", "--yes")  # the relay is confirmed by it
    today = datetime.now(ZoneInfo("Europe/Paris")).date().isoformat()
    by_hand = site.run("run", "daily_email", "--slot", today)
    assert (by_hand.code, "longer than its max_age (1m)" in by_hand.err) == (4, True), "who names a slot may mistype it"
    ended = site.json("run", "daily_email", "--slot", today, "--as", "r_20261122070000abcd")  # as the page begins it
    assert (ended["run_id"], ended["items"]["ok"]) == ("r_20261122070000abcd", 6)
