"""The mails to who has signed up: one each, whatever happens to the process, the relay and the templates."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP

from overnight.alerts import Alarm
from overnight.clock import iso
from overnight.confirmations import JOB, TEMPLATE, send_waiting
from overnight.effects import Effects
from overnight.errors import Deferred, Transient
from overnight.ledger.controls import alert, bucket
from overnight.ledger.tables import effect, signup
from overnight.mail.consent import is_confirmed, keep
from overnight.outcome import Scope
from overnight.ports import open_dependencies, open_mailer, operator_alerts
from overnight.redact import Redactor
from overnight.runner import Workplace
from overnight.schedule import loads
from overnight.subscriptions import sign_up
from overnight.tokens import Tokens
from tests.slots import ManualClock, open_ledger, rows

TEMPLATES = Path(__file__).parents[2] / "templates"
SECRET = "the-secret-of-these-tests"
SCHEDULE = (
    'version: 1\npublic_url: https://news.example.org/letters\nmail: {{ from: "The Site <news@example.org>", '
    "transport: {} }}\nchannels: {{ ops: {{ email: [ops@example.org] }} }}\nalerts: {{ to: [ops] }}\n"
    "jobs: {{ good: {{ every: 1h }} }}\n"
)


class Office:
    """A project in which somebody has signed up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.ledger = open_ledger(root, self.clock)
        shutil.copytree(TEMPLATES, root / "templates")
        self.ask("new@example.org")

    def ask(self, email: str) -> None:
        self.ledger.writing(lambda connection: sign_up(connection, email, email, self.clock.now()))

    def work(self, transport: str = "outbox:out", more: str = "") -> Workplace:
        schedule = loads(SCHEDULE.format(transport) + more, {"OVERNIGHT_SECRET": SECRET})
        return Workplace(self.root, schedule, self.ledger, self.clock, Redactor(frozenset()))

    def mails(self, to: str = "new@example.org") -> list[EmailMessage]:
        paths = sorted((self.root / "out").rglob("*.eml"))
        read = [cast("EmailMessage", message_from_bytes(path.read_bytes(), policy=default)) for path in paths]
        return [mail for mail in read if mail["To"] == to]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.ledger.close()


async def test_one_mail_goes_out_with_a_link_that_is_good_for_this_sign_up(office: Office) -> None:
    for _ in range(2):
        await send_waiting(office.work())
    [mail] = office.mails()
    assert mail["Subject"] == "Confirm your subscription to The Site"
    for kind in ("plain", "html"):
        body = mail.get_body((kind,))
        assert body is not None
        [link] = set(re.findall(r"https://news\.example\.org/letters/confirm/([\w.-]+)", str(body.get_content())))
        tokens = Tokens(SECRET.encode(), office.clock)
        assert tokens.read("confirm", link) == rows(office.ledger, signup)[0]["id"]
    assert "List-Unsubscribe" not in mail, "who has not subscribed cannot leave"


async def test_after_a_crash_between_the_mail_and_its_note_there_is_one_mail(office: Office) -> None:
    await send_waiting(office.work())
    change = signup.update().values(mailed_at=None, mails=0)
    office.ledger.writing(lambda connection: connection.execute(change))
    await send_waiting(office.work())
    assert len(office.mails()) == 1
    assert rows(office.ledger, signup)[0]["mailed_at"] == office.clock.now()


async def test_a_relay_that_nobody_confirmed_gets_no_sign_up_and_one_alert_says_what_to_type(office: Office) -> None:
    work = office.work("smtp://127.0.0.1:1")
    for _ in range(2):
        await send_waiting(work)
    [raised] = rows(office.ledger, alert)
    assert raised["times"] == 2
    assert "overnight serve --yes" in raised["message"]
    assert rows(office.ledger, effect, key=rows(office.ledger, signup)[0]["id"]) == []
    assert rows(office.ledger, signup)[0]["mailed_at"] is None
    await send_waiting(office.work())
    assert len(office.mails()) == 1
    assert rows(office.ledger, alert)[0]["state"] == "resolved"


async def test_a_relay_that_is_away_keeps_the_sign_up_waiting(office: Office) -> None:
    office.ledger.writing(lambda connection: keep(connection, "smtp 127.0.0.1:1", office.clock.now()))
    await send_waiting(office.work("smtp://127.0.0.1:1"))
    assert rows(office.ledger, signup)[0]["mailed_at"] is None
    assert rows(office.ledger, alert) == []
    await send_waiting(office.work())
    assert len(office.mails()) == 1


async def test_a_broken_template_is_told_and_an_address_that_is_refused_holds_up_nobody(office: Office) -> None:
    template = office.root / "templates" / "confirm.txt.j2"
    good = template.read_text()
    template.write_text("{{ nobody_gave_this }}")
    await send_waiting(office.work())
    [raised] = rows(office.ledger, alert)
    assert "templates/confirm.txt.j2:1" in raised["message"]
    template.write_text(good)
    office.clock.move(1)
    office.ask("second@example.org")
    (office.root / "out").mkdir(exist_ok=True)
    (office.root / "out" / ".bounces").write_text("new@example.org\n")
    await send_waiting(office.work())
    assert [len(office.mails(to)) for to in ("new@example.org", "second@example.org")] == [0, 1]
    assert all(row["mailed_at"] for row in rows(office.ledger, signup))


class Greylisting:
    """A relay of aiosmtpd that answers as told, by recipient."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked, self.taken = answers, list[str](), list[str]()

    async def handle_RCPT(self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        self.asked.append(address.partition("@")[0])
        if (answer := self.answers.get(self.asked[-1])) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.taken += [address.partition("@")[0] for address in envelope.rcpt_tos]
        return "250 ok"


@pytest.fixture
async def greylisting(office: Office) -> AsyncIterator[tuple[Greylisting, str]]:
    relay = Greylisting(new="451 4.7.1 greylisted, come back later")
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(relay, hostname="test"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    office.ledger.writing(lambda connection: keep(connection, f"smtp 127.0.0.1:{port}", office.clock.now()))
    yield relay, f"smtp://127.0.0.1:{port}"
    server.close()
    await server.wait_closed()


async def test_an_address_that_is_to_wait_holds_up_nobody_and_is_tried_less_and_less_often(
    office: Office, greylisting: tuple[Greylisting, str]
) -> None:
    relay, url = greylisting
    office.clock.move(1)
    office.ask("second@example.org")
    asked: list[int] = []
    for minute in range(150):
        before = relay.asked.count("new")
        await send_waiting(office.work(url))
        asked += [minute] * (relay.asked.count("new") - before)
        office.clock.move(60)
    assert relay.taken == ["second"]
    assert asked == [0, 5, 20, 80, 140]
    assert rows(office.ledger, alert) == []
    relay.answers.clear()
    office.clock.move(3600)
    await send_waiting(office.work(url))
    assert relay.taken == ["second", "new"]


async def test_a_mail_that_another_process_has_under_way_is_not_taken_for_sent(office: Office) -> None:
    """The other one may hear that it was refused: then it is to be tried again."""
    [row] = rows(office.ledger, signup)
    office.ledger.writing(lambda connection: keep(connection, "smtp 127.0.0.1:1", office.clock.now()))
    async with open_mailer(office.root, office.work().schedule, office.ledger, office.clock) as mailer:
        target = mailer._address(row["email"]).target
    scope = Scope(JOB, iso(row["asked_at"]), row["id"], "")
    effects = Effects(office.ledger, office.clock)
    theirs = await effects.begin(scope, "mail", TEMPLATE, target, "<1@example.org>")
    work = office.work("smtp://127.0.0.1:1")
    await send_waiting(work)
    assert rows(office.ledger, signup)[0]["mailed_at"] is None
    await effects.failed(theirs, "refused")
    await send_waiting(office.work())
    assert len(office.mails()) == 1, "it was not swallowed"


async def test_a_mail_of_which_nobody_will_ever_know_is_not_asked_about_for_a_day(office: Office) -> None:
    await test_a_mail_that_another_process_has_under_way_is_not_taken_for_sent(office)
    office.ledger.writing(lambda connection: connection.execute(effect.update().values(state="intent")))
    office.ledger.writing(lambda connection: connection.execute(signup.update().values(mailed_at=None)))
    office.clock.move(661)
    await send_waiting(office.work("smtp://127.0.0.1:1"))
    assert rows(office.ledger, signup)[0]["mailed_at"] == office.clock.now()


async def test_mail_that_belongs_to_no_run_keeps_to_the_rate_of_all(
    office: Office, greylisting: tuple[Greylisting, str]
) -> None:
    relay, url = greylisting
    relay.answers.clear()
    for number in range(3):
        office.clock.move(1)
        office.ask(f"r{number}@example.org")
    work = office.work(url, "limits: { smtp: { messages: 1/h } }\n")
    await send_waiting(work)
    assert relay.taken == ["new"], "the queue is an hour long"
    spent = office.ledger.reading(lambda connection: connection.execute(bucket.select()).all())
    assert spent, "and every other process knows of it"


async def test_an_alert_goes_out_though_readers_have_opened_the_breaker_of_the_relay(
    office: Office, greylisting: tuple[Greylisting, str]
) -> None:
    relay, url = greylisting
    work = office.work(url)
    async with open_dependencies(work.schedule, office.ledger, office.clock) as sides:
        side = sides.of(url.replace("//", ""))
        for _ in range(5):
            with pytest.raises(Transient):
                async with side.request(messages=1):
                    raise Transient("greylisted")
        with pytest.raises(Deferred, match="failed too often"):
            await side.breaker.check()
    await send_waiting(work)
    assert relay.asked == [], "sign-ups wait"
    async with operator_alerts(office.root, work.schedule, office.ledger, office.clock) as alerter:
        await alerter.raise_all([Alarm("missed", "good", "good was missed")])
    assert relay.taken == ["ops"]


def test_a_confirmation_is_for_one_relay_however_long_its_name_is(office: Office) -> None:
    long, other = (f"smtp {'relay.' * 20}{name}.example.org:587" for name in ("a", "b"))
    office.ledger.writing(lambda connection: keep(connection, long, office.clock.now()))
    assert office.ledger.reading(is_confirmed, long)
    assert not office.ledger.reading(is_confirmed, other)
