"""Alerts: noted and told in one message for all that changed, as often as a channel needs."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overnight.alerts import Alarm, Alerter, Channel, firing, of_run
from overnight.alerts.book import Told, silence, undelivered
from overnight.errors import Stop
from overnight.ledger import Ledger
from overnight.ledger.controls import alert, notice
from overnight.ledger.flow import Circuit, LedgerRows
from overnight.mail.form import build
from overnight.mail.message import Envelope, Heading, mailbox
from overnight.mail.templates import Templates
from overnight.outcome import Outcome, Scope
from overnight.redact import Redactor
from tests.mailcheck import check
from tests.slots import NOW, ManualClock, open_ledger, rows

ROOT = Path(__file__).parents[2]
DAY = 86_400
BUG = Alarm("bug", "greet", "3 items met a bug")


@dataclass
class Postbox:
    """Takes the mails of alerts; `broken` refuses them."""

    sent: list[tuple[str, list[Told]]] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    broken: bool = False

    async def send_unnoted(self, *_: Any) -> str:
        raise AssertionError("only for a ledger that cannot be written")

    async def send(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str:
        if self.broken:
            raise ConnectionError("relay of sk-123456 is down")
        assert template == "alert"
        self.scopes.append(scope)
        self.sent.append((to, list(context["changes"])))
        return "<id>"

    @property
    def changes(self) -> list[str]:
        return [told.change for _, changes in self.sent for told in changes]


@pytest.fixture
def post() -> Postbox:
    return Postbox()


def alerter(ledger: Ledger, post: Postbox, *webhooks: str) -> Alerter:
    channels = (Channel("ops", "email", "ops@example.org"), *(Channel("chat", "webhook", url) for url in webhooks))
    return Alerter(ledger, ledger.clock, post, Redactor(frozenset({"sk-123456"})), timedelta(hours=24), channels)


async def test_what_lasts_is_told_once_and_again_after_a_day(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    for seconds in (0, 60, DAY - 61, 1, DAY - 1, 1):
        clock.move(seconds)
        await alerter(ledger, post).raise_all([BUG])
    assert post.changes == ["new", "reminder", "reminder"]
    assert rows(ledger, alert)[0]["times"] == 6


async def test_what_is_over_is_told_once_and_may_begin_anew(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG])
    for _ in range(2):
        clock.move(60)
        await tell.settle_run("greet", [], worked=1, pending=0)
    assert post.changes == ["new", "over"]
    assert ledger.reading(firing) == []
    await tell.raise_all([BUG])
    assert post.changes == ["new", "over", "new"]
    assert rows(ledger, alert)[0]["times"] == 1


async def test_what_never_began_is_not_over(ledger: Ledger, post: Postbox) -> None:
    await alerter(ledger, post).raise_all([Alarm("bug", "greet", "fine", firing=False)])
    assert (post.sent, rows(ledger, alert)) == ([], [])


async def test_a_restart_repeats_nothing(tmp_path: Path, post: Postbox, clock: ManualClock) -> None:
    for _ in range(3):
        ledger = open_ledger(tmp_path, clock)
        await alerter(ledger, post).raise_all([BUG])
        ledger.close()
    assert post.changes == ["new"]


async def test_a_run_settles_its_own_job_and_leaves_standing_rules_alone(ledger: Ledger, post: Postbox) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all(
        [BUG, Alarm("bug", "other", "-"), Alarm("missed", "greet", "-"), Alarm("success_rate", "greet", "-")]
    )
    await tell.settle_run("greet", [Alarm("stopped", "greet", "401")], worked=1, pending=0)
    assert {row["key"] for row in ledger.reading(firing)} == {
        "bug:other",
        "success_rate:greet",
        "stopped:greet",
    }
    assert [told.line for told in post.sent[-1][1]] == [
        "Alert: 401",
        "Resolved after 0s: greet: over since the last run; it was: 3 items met a bug",
        "Resolved after 0s: greet: over since the last run; it was: -",
    ]


async def test_what_is_over_of_another_job_keeps_no_alert_of_this_one_going(ledger: Ledger, post: Postbox) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG, Alarm("bug", "former", "-")])
    await tell.settle_run("greet", [Alarm("bug", "former", "it is gone", firing=False)], worked=1, pending=0)
    assert ledger.reading(firing) == []


async def test_only_a_run_that_worked_ends_an_alert_and_a_stop_only_when_nothing_is_left(
    ledger: Ledger, post: Postbox
) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG, Alarm("stopped", "greet", "401")])
    left = []
    for worked, pending in ((0, 0), (1, 5), (1, 0)):
        await tell.settle_run("greet", [], worked=worked, pending=pending)
        left.append({row["rule"] for row in ledger.reading(firing)})
    assert left == [{"bug", "stopped"}, {"stopped"}, set()]


def test_a_budget_that_runs_out_is_an_alert_of_its_own() -> None:
    [alarm] = of_run(SCOPE, [], None, {"budget": ["no budget for 2 items"]}, [], ["nearly spent"])
    assert alarm.key == "budget:greet"
    assert alarm.message.endswith("no budget for 2 items; nearly spent")


async def test_a_channel_that_fails_raises_no_alert_of_its_own_and_the_others_are_told(
    ledger: Ledger, post: Postbox
) -> None:
    post.broken = True
    async with hook() as (url, got):
        await alerter(ledger, post, "http://127.0.0.1:1/", url).raise_all([BUG])
    assert got == [{"text": "Alert: 3 items met a bug"}]
    assert [row["key"] for row in ledger.reading(firing)] == ["bug:greet"]


async def test_a_webhook_that_leads_elsewhere_has_told_nobody(ledger: Ledger, post: Postbox) -> None:
    async with hook() as (url, got):
        await alerter(ledger, post, f"{url}moved").raise_all([BUG])
    assert got == []
    assert [row["error"] for row in rows(ledger, notice)] == ["OSError: HTTP 302"]


async def test_a_text_from_outside_pings_nobody_and_hides_no_link_in_a_chat(ledger: Ledger, post: Postbox) -> None:
    async with hook() as (url, got):
        await alerter(ledger, post, url).raise_all([Alarm("bug", "greet", "<!channel> <https://evil|login> & more")])
    assert got == [{"text": "Alert: &lt;!channel&gt; &lt;https://evil|login&gt; &amp; more"}]


async def test_what_a_channel_refuses_waits_in_the_ledger_without_its_address_and_is_sent_once(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    post.broken, tell = True, alerter(ledger, post)
    for _ in range(3):
        await tell.raise_all([BUG])
        clock.move(120)
    [waits] = rows(ledger, notice)
    assert "ops@example.org" not in str(waits)
    assert "sk-123456" not in str(waits)
    assert (waits["tries"], waits["error"]) == (3, "ConnectionError: relay of [redacted] is down")
    assert [(row["channel"], row["waiting"]) for row in ledger.reading(undelivered)] == [(tell.channels[0].id, 1)]
    post.broken = False
    await tell.tell()
    assert post.sent == [], "each attempt comes later than the one before"
    for _ in range(2):
        clock.move(120)
        await tell.tell()
    assert post.changes == ["new"]
    assert rows(ledger, notice) == []


async def test_of_a_channel_that_fails_the_newest_error_is_told(ledger: Ledger, clock: ManualClock) -> None:
    class Failing(Postbox):
        async def send(self, *_: Any) -> str:
            raise ConnectionError(errors.pop(0))

    errors = ["z: first", "a: second", "m: third"]
    for n in range(3):
        await alerter(ledger, Failing()).raise_all([Alarm("bug", f"job{n}", "a bug")])
        clock.move(1)
    [row] = ledger.reading(undelivered)
    assert (row["waiting"], row["error"]) == (3, "ConnectionError: m: third")


async def test_what_nobody_takes_for_a_day_is_given_up(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    post.broken, tell = True, alerter(ledger, post)
    await tell.raise_all([BUG])
    for _ in range(26):
        clock.move(3600)
        await tell.tell()
    assert rows(ledger, notice) == []
    assert [row["key"] for row in rows(ledger, alert)] == ["bug:greet"]


async def test_a_crash_between_noting_and_telling_loses_nothing(ledger: Ledger, post: Postbox) -> None:
    class Killed(BaseException):
        """The process ends here."""

    class Dying(Postbox):
        async def send(self, *_: Any) -> str:
            raise Killed

    with pytest.raises(Killed):
        await alerter(ledger, Dying()).raise_all([BUG])
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.move(61)
    await alerter(ledger, post).tell()
    assert post.changes == ["new"]


async def test_a_message_for_a_channel_that_was_taken_out_is_dropped(ledger: Ledger, post: Postbox) -> None:
    post.broken = True
    await alerter(ledger, post).raise_all([BUG])
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.move(3600)
    await Alerter(ledger, ledger.clock, post, Redactor(), timedelta(hours=24)).tell()
    assert rows(ledger, notice) == []


async def test_fifty_seven_changes_are_one_message(ledger: Ledger, post: Postbox) -> None:
    await alerter(ledger, post).raise_all([Alarm("bug", f"job{n}", f"job{n} met a bug") for n in range(57)])
    assert [len(changes) for _, changes in post.sent] == [57]
    mail = Templates(ROOT).render("alert", {"changes": post.sent[0][1], "now": NOW})
    assert mail.subject.startswith("Alert: bug in job0, bug in job1, bug in job2 and 54 more.")
    assert mail.text.count("met a bug\nIt began at 2026-11-22 07:00 UTC.\n\n") == 57


async def test_the_mail_of_an_alert_goes_out_however_many_things_began_and_ended_and_whatever_they_are_called(
    ledger: Ledger, post: Postbox
) -> None:
    scopes = [f"a_job_with_a_long_name_{n}/2026-11-22T01:00Z\n=?utf-8?q?=0A?=" for n in range(5)]
    tell = alerter(ledger, post)
    await tell.raise_all([Alarm("success_rate", scope, "below 95 %") for scope in scopes])
    await tell.raise_all(
        [Alarm("success_rate", scope, "all well", firing=False) for scope in scopes]
        + [Alarm("p95_duration", scope, "above 5 min") for scope in scopes]
    )
    content = Templates(ROOT).render("alert", {"changes": post.sent[-1][1], "now": NOW})
    who = mailbox("ops@example.org")
    mail = build(Heading(who), Envelope(who, "<1@example.org>", NOW), content)
    check(mail)
    assert str(message_from_bytes(mail, policy=default)["Subject"]).startswith(
        "Alert: p95 duration in a_job_with_a_long"
    )


async def test_a_chat_gets_no_more_than_it_takes_and_the_number_of_what_is_left_out(
    ledger: Ledger, post: Postbox
) -> None:
    async with hook() as (url, got):
        tell = alerter(ledger, post, url)
        await tell.raise_all([Alarm("bug", f"job{n:02}", f"job{n:02} met a bug: {'x' * 80}") for n in range(57)])
        await tell.raise_all([Alarm("bug", "wordy", "y" * 5000), Alarm("bug", "last", "-")])
    many, long = (one["text"] for one in got)
    lines = many.splitlines()
    assert (len(many) <= 2000, len(lines), lines[-1]) == (True, 19, "and 39 more: overnight alerts")
    assert [line[:18] for line in lines[:-1]] == [f"Alert: job{n:02} met a" for n in range(18)]
    assert sorted(map(len, long.splitlines())) == [len("Alert: -"), 1000]
    assert [len(changes) for _, changes in post.sent] == [57, 2], "a mail has room"


async def test_a_resolve_message_says_how_long_it_lasted(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    async with hook() as (url, got):
        tell = alerter(ledger, post, url)
        await tell.raise_all([BUG])
        clock.move(2 * 3600 + 10 * 60 + 7)
        await tell.raise_all([Alarm("bug", "greet", "all well", firing=False)])
    assert [one["text"] for one in got] == ["Alert: 3 items met a bug", "Resolved after 2h10m: all well"]
    mail = Templates(ROOT).render("alert", {"changes": post.sent[-1][1], "now": NOW})
    assert mail.subject == "Resolved: bug in greet."
    assert "Resolved after 2h10m: it began at 2026-11-22 07:00 UTC." in mail.text


async def test_a_silenced_alert_is_kept_but_not_told_until_the_silence_is_over(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG])
    ledger.writing(lambda connection: silence(connection, BUG.key, NOW + timedelta(hours=30)))
    for _ in range(29):
        clock.move(3600)
        await tell.raise_all([BUG])
    assert post.changes == ["new"], "the reminder of hour 24 is kept back"
    clock.move(3600)
    await tell.raise_all([BUG])
    assert post.changes == ["new", "reminder"]
    assert [row["key"] for row in ledger.reading(firing)] == [BUG.key]


async def test_an_open_breaker_keeps_what_follows_from_it_quiet(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    leave_alone(ledger, "anthropic", NOW + timedelta(minutes=10))
    down = Alarm("breaker", "anthropic", "anthropic fails")
    low, tell = Alarm("success_rate", "greet", "9 of 57 succeeded"), alerter(ledger, post)
    await tell.raise_all([low, down, BUG])
    assert sorted(told.rule for told in post.sent[0][1]) == ["breaker", "bug"]
    clock.move(600)
    await tell.raise_all([Alarm("breaker", "anthropic", "answers again", firing=False), low])
    later = [(told.rule, told.change) for told in post.sent[1][1]]
    assert sorted(later) == [("breaker", "over"), ("success_rate", "new")]


async def test_an_open_breaker_hides_nothing_that_it_does_not_explain(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    low, model = Alarm("success_rate", "greet", "9 of 57 succeeded"), Alarm("model", "greet", "a fallback stood in")
    leave_alone(ledger, "s3:bucket", NOW + timedelta(minutes=10))
    leave_alone(ledger, "smtp:mx", NOW + timedelta(minutes=10))
    await alerter(ledger, post).raise_all([Alarm("breaker", "s3:bucket", "fails"), low])
    assert sorted(told.rule for told in post.sent[-1][1]) == ["breaker", "success_rate"], "the store of reports"
    await alerter(ledger, post).raise_all([Alarm("breaker", "smtp:mx", "fails"), model])
    assert sorted(told.rule for told in post.sent[-1][1]) == ["breaker", "model"], "a relay"
    clock.move(13 * 60)
    await alerter(ledger, post).raise_all([Alarm("p95_duration", "greet", "slow")])
    assert [told.rule for told in post.sent[-1][1]] == ["p95_duration"], "nobody waits for that relay any more"


def leave_alone(ledger: Ledger, side: str, until: datetime) -> None:
    ledger.writing(lambda connection: LedgerRows(connection).put_circuit(side, Circuit("open", 1, 1, until)))


@asynccontextmanager
async def hook() -> AsyncIterator[tuple[str, list[Any]]]:
    """A chat's webhook on this machine."""
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append(json.loads(await request.text()))
        return web.Response()

    application = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.Response()

    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    application.router.add_post("/", take)
    application.router.add_get("/", page)
    application.router.add_post("/moved", moved)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/", got
    await runner.cleanup()


async def test_last_words_reach_one_channel_though_another_says_nothing(ledger: Ledger) -> None:
    class Silent(Postbox):
        async def send_unnoted(self, *_: Any) -> str:
            await heard.wait()
            return "<id>"

    heard = asyncio.Event()
    async with hook() as (url, got), asyncio.timeout(15):  # a channel has 20 s
        saying = asyncio.create_task(alerter(ledger, Silent(), url).last_words("the disk is full"))
        while not got:
            await asyncio.wait({saying}, timeout=0.01)
        heard.set()
        await saying
    assert got == [{"text": "Alert: the disk is full"}]


async def test_secrets_stay_out_of_messages_and_of_the_ledger(ledger: Ledger, post: Postbox) -> None:
    await alerter(ledger, post).raise_all([Alarm("bug", "greet", "refused sk-123456")])
    assert "sk-123456" not in post.sent[0][1][0].message
    assert "sk-123456" not in rows(ledger, alert)[0]["message"]


async def test_each_message_has_a_scope_of_its_own_so_that_none_is_taken_for_another(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    tell = alerter(ledger, post)
    for _ in range(3):
        await tell.raise_all([BUG])
        clock.move(DAY)
    assert len({(scope.slot, scope.key) for scope in post.scopes}) == 3


SCOPE = Scope("greet", "2026-11-22", "", "r_1")


def failed(*keys: str) -> list[Outcome]:
    return [Outcome(key, "failed", error_class="bug", error_code="ValueError", error=f"oops {key}") for key in keys]


def test_a_good_run_has_nothing_to_tell() -> None:
    assert of_run(SCOPE, [], None, {}, []) == []


def test_many_bugs_are_one_alert_that_names_the_first() -> None:
    [alarm] = of_run(SCOPE, failed("a", "b", "c", "d", "e"), None, {}, [])
    assert alarm.key == "bug:greet"
    assert alarm.message == ("greet 2026-11-22 (r_1): 5 items met a bug in the job: a: oops a; b: oops b; c: oops c")


def test_a_run_tells_why_it_stopped_what_its_job_warned_of_and_of_fallbacks() -> None:
    found = of_run(SCOPE, [], Stop("the key is refused"), {"feeds": ["a: 404", "a: 404"]}, ["x", "y", "z", "w"])
    assert {alarm.rule: alarm.message.partition(": ")[2] or alarm.message for alarm in found} == {
        "stopped": "the key is refused",
        "model": "a fallback stood in for the model: x; y; z; and 1 more",
        "feeds": "a: 404",
    }
