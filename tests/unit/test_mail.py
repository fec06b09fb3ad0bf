"""The mailer: one mail per item, template and recipient, also after a crash."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from aiosmtpd.smtp import SMTP
from sqlalchemy import select, update

from overnight.clock import SystemClock
from overnight.effects import Effects
from overnight.errors import ConfigError, Deferred, Permanent, Skip, Stop, Unknown
from overnight.ledger import Ledger
from overnight.ledger.tables import effect as effect_table
from overnight.ledger.tables import subscriber as subscriber_table
from overnight.mail import STAND_IN, Mailer, MailSettings
from overnight.mail.message import mailto
from overnight.mail.outbox import Outbox
from overnight.mail.replies import RETRY_FOR, Bounced
from overnight.mail.transport import Intent, Letter
from overnight.mail.verp import leaving_subject, subscriber_of
from overnight.outcome import Scope
from overnight.subscribers import Subscriber, add, leave, unsubscribe
from overnight.tokens import Tokens

SCOPE = Scope("daily", "2026-11-22", "s_1", "r_1")
JANE = Subscriber("s_1", "jane@example.com", "Jane Doe")
SECRET = b"a secret of the tests"


def settings(transport: str = "outbox:outbox", on_unknown: Literal["park", "resend"] = "park") -> MailSettings:
    return MailSettings(
        transport, "The Site <news@example.org>", "unsubscribe@example.org", "http://127.0.0.1:8650", on_unknown
    )


class Office:
    """A ledger, templates, and mailers over them; each mailer stands for one process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = SystemClock()
        self.ledger = Ledger.open(f"sqlite:///{root}/ledger.db", clock=self.clock)
        self.effects = Effects(self.ledger, self.clock)
        folder = root / "templates"
        folder.mkdir()
        (folder / "daily.subject.j2").write_text("{{ title }} of {{ slot }}")
        (folder / "daily.txt.j2").write_text("{{ site }} {{ to.name if to else 'operator' }} {{ unsubscribe_mailto }}")

    def mailer(self, chosen: MailSettings | None = None, **parts: Any) -> Mailer:
        opened = Mailer.open(
            chosen or settings(), root=self.root, secret=SECRET, effects=self.effects, ledger=self.ledger,
            clock=self.clock, zone=ZoneInfo("Europe/Paris"),
        )  # fmt: skip
        return replace(opened, **parts)

    def states(self) -> list[str]:
        query = select(effect_table.c.state).order_by(effect_table.c.target)
        return self.ledger.reading(lambda connection: list(connection.execute(query).scalars()))

    def mails(self) -> list[Any]:
        paths = sorted((self.root / "outbox").rglob("*.eml"))
        return [message_from_bytes(path.read_bytes(), policy=default) for path in paths]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.ledger.close()


class Faulty:
    """A transport that fails as told: `before` or `after` its intent."""

    real = True
    reconciles = False
    place = "faulty"

    def __init__(self, before: Exception | None = None, after: BaseException | None = None) -> None:
        self.before = before
        self.after = after
        self.sent: list[Letter] = []

    async def send(self, letter: Letter, intent: Intent) -> None:
        if self.before is not None:
            raise self.before
        await intent()
        if self.after is not None:
            raise self.after
        self.sent.append(letter)

    async def delivered(self, _letter: Letter) -> bool:
        raise AssertionError("a transport that does not reconcile is not asked")

    async def close(self) -> None:
        """Nothing to let go of."""


async def test_a_mail_arrives_with_all_its_headers(office: Office) -> None:
    mailer = office.mailer()
    id_ = await mailer.send(SCOPE, JANE, "daily", {"title": "News"})
    await mailer.close()
    (mail,) = office.mails()
    assert mail["Message-ID"] == id_
    assert str(mail["From"]) == "The Site <news@example.org>"
    assert str(mail["To"]) == "Jane Doe <jane@example.com>"
    assert mail["Subject"] == "News of 2026-11-22"
    link = mailto("unsubscribe@example.org", leaving_subject(SECRET, "s_1"))
    assert mail["List-Unsubscribe"] == f"<{link}>"
    assert (mail["List-Id"], mail["Feedback-ID"]) == (
        "<daily.example.org>", "2026-11-22:daily:daily:example-org",
    )  # fmt: skip
    assert "List-Unsubscribe-Post" not in mail, "one click needs a page that can be called"
    assert mail["Date"].datetime.utcoffset().total_seconds() in (3600, 7200)
    assert mail.get_content().strip() == f"The Site Jane Doe {link}"
    assert office.states() == ["done"]
    assert (office.root / "outbox" / "index.html").exists()
    assert "jane" not in id_


async def test_with_a_page_that_can_be_called_one_click_unsubscribes(office: Office) -> None:
    chosen = replace(settings(), public_url="https://news.example.org")
    await office.mailer(chosen).send(SCOPE, JANE, "daily", {"title": "News"})
    (mail,) = office.mails()
    page = Tokens(SECRET, office.clock).unsubscribe_url("https://news.example.org", "s_1")
    link = mailto("unsubscribe@example.org", leaving_subject(SECRET, "s_1"))
    assert "".join(mail["List-Unsubscribe"].split()) == f"<{page}>,<{link}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_bounces_come_back_under_the_name_of_their_subscriber(office: Office) -> None:
    transport = Faulty()
    mailer = office.mailer(replace(settings(), bounces_to="bounces@example.org"), transport=transport)
    await mailer.send(SCOPE, JANE, "daily", {"title": "x"})
    await mailer.send(SCOPE, "ops@example.org", "daily", {"title": "x"})
    hers, theirs = transport.sent
    assert subscriber_of(SECRET, "bounces@example.org", hers.sender) == "s_1"
    assert theirs.sender == "bounces@example.org"
    assert f"<{hers.envid}@example.org>" == hers.message_id


async def test_the_same_mail_is_sent_once_and_keeps_its_id(office: Office) -> None:
    ids = {await office.mailer().send(SCOPE, JANE, "daily", {"title": title}) for title in ("a", "b", "c")}
    assert len(ids) == 1
    assert [mail["Subject"] for mail in office.mails()] == ["a of 2026-11-22"]


async def test_twenty_at_once_send_one_mail(office: Office) -> None:
    mailer = office.mailer()
    ids = await asyncio.gather(*(mailer.send(SCOPE, JANE, "daily", {"title": "x"}) for _ in range(20)))
    assert len(set(ids)) == len(office.mails()) == 1
    assert office.states() == ["done"]


async def test_one_item_may_write_to_several_operators(office: Office) -> None:
    mailer = office.mailer()
    for address in ("ops@example.org", "boss@example.org"):
        await mailer.send(SCOPE, address, "daily", {"title": "x"})
    assert sorted(str(mail["To"]) for mail in office.mails()) == ["boss@example.org", "ops@example.org"]
    assert all(mail["List-Unsubscribe"] is None for mail in office.mails())


async def test_the_ledger_holds_no_address_of_an_operator(office: Office) -> None:
    await office.mailer().send(SCOPE, "ops@example.org", "daily", {"title": "x"})
    (row,) = office.ledger.reading(lambda connection: connection.execute(select(effect_table)).all())
    assert "ops" not in " ".join(str(value) for value in row)


async def test_who_left_since_the_run_began_gets_nothing(office: Office) -> None:
    add(office.ledger, office.clock, JANE.email)
    (id_,) = office.ledger.reading(lambda c: list(c.execute(select(subscriber_table.c.id)).scalars()))
    unsubscribe(office.ledger, office.clock, JANE.email)
    with pytest.raises(Skip, match="unsubscribed"):
        await office.mailer().send(SCOPE, replace(JANE, id=id_), "daily", {"title": "x"})
    suppress = update(subscriber_table).values(status="suppressed")
    office.ledger.writing(lambda connection: connection.execute(suppress))
    with pytest.raises(Skip, match="suppressed"):
        await office.mailer().send(SCOPE, replace(JANE, id=id_), "daily", {"title": "x"})
    assert office.mails() == []


async def test_a_reader_whom_only_the_job_knows_can_leave_and_can_bounce(office: Office) -> None:
    """Nobody of these is a subscriber: the job reads them from a database of its own."""
    left, gone, full, well = (Subscriber(f"User.{n}", f"user{n}@example.com") for n in range(4))
    token = Tokens(SECRET, office.clock).unsubscribe_url("https://news.example.org", left.id).rpartition("/u/")[2]
    leaver = Tokens(SECRET, office.clock).leaver(token)
    office.ledger.writing(lambda connection: leave(connection, leaver, "one-click", office.clock.now()))
    hard = Bounced("550 5.1.1", code="smtp_550", verdict="hard", status="5.1.1")
    with pytest.raises(Bounced):
        await office.mailer(transport=Faulty(before=hard)).send(SCOPE, gone, "daily", {"title": "x"})
    soft = Bounced("452 5.2.2", code="smtp_452", verdict="soft", status="5.2.2")
    for day in range(3):
        scope = replace(SCOPE, slot=f"2026-11-2{day}")
        with pytest.raises(Bounced):
            await office.mailer(transport=Faulty(before=soft)).send(scope, full, "daily", {"title": "x"})
    for who, status in ((left, "unsubscribed"), (gone, "suppressed"), (full, "suppressed")):
        with pytest.raises(Skip, match=status):
            await office.mailer().send(SCOPE, who, "daily", {"title": "x"})
    await office.mailer().send(SCOPE, well, "daily", {"title": "x"})
    assert [mail["To"] for mail in office.mails()] == [well.email]


async def test_neither_a_bounce_nor_a_link_of_a_test_keeps_the_next_one_from_going_out(office: Office) -> None:
    hard = Bounced("550 5.1.1", code="smtp_550", verdict="hard", status="5.1.1")
    test = replace(JANE, id=STAND_IN)
    with pytest.raises(Bounced):
        await office.mailer(transport=Faulty(before=hard)).send(SCOPE, test, "daily", {"title": "x"})
    office.ledger.writing(lambda connection: leave(connection, STAND_IN, "page", office.clock.now()))
    await office.mailer().send(SCOPE, test, "daily", {"title": "x"})
    assert len(office.mails()) == 1


@pytest.mark.parametrize("before", ["nothing", "a failure", "a crash"])
async def test_who_leaves_while_the_mail_is_on_its_way_to_the_relay_gets_nothing(office: Office, before: str) -> None:
    add(office.ledger, office.clock, JANE.email)
    (id_,) = office.ledger.reading(lambda c: list(c.execute(select(subscriber_table.c.id)).scalars()))
    jane = replace(JANE, id=id_)
    if before != "nothing":
        fault = Permanent("no") if before == "a failure" else KeyboardInterrupt()
        with pytest.raises(type(fault)):
            await office.mailer(transport=Faulty(after=fault)).send(SCOPE, jane, "daily", {"title": "x"})

    class Slow(Faulty):
        async def send(self, letter: Letter, intent: Intent) -> None:
            unsubscribe(office.ledger, office.clock, id_)
            await super().send(letter, intent)

    slow = Slow()
    with pytest.raises(Skip, match="unsubscribed"):
        await office.mailer(settings(on_unknown="resend"), transport=slow).send(SCOPE, jane, "daily", {"title": "x"})
    assert slow.sent == []
    assert office.states() == {"nothing": [], "a failure": ["failed"], "a crash": ["intent"]}[before]


async def test_a_mail_that_waits_for_whatever_is_worth_a_day_at_most(office: Office) -> None:
    @asynccontextmanager
    async def turn(_domain: str) -> AsyncIterator[None]:
        raise Deferred("the circuit is open", code="breaker_open", after=60)
        yield

    with pytest.raises(Deferred) as waits:
        await office.mailer(turn=turn).send(SCOPE, JANE, "daily", {"title": "x"})
    assert waits.value.within == RETRY_FOR == 86_400


@pytest.mark.parametrize("address", ["a@b@c.com", "u@x.com\r\nRCPT TO:<v@x.com>", "u,v@x.com", ""])
async def test_a_bad_address_fails_its_item_before_anything_is_noted(office: Office, address: str) -> None:
    with pytest.raises(Permanent) as refused:
        await office.mailer().send(SCOPE, replace(JANE, email=address), "daily", {"title": "x"})
    assert refused.value.code == "address"
    assert office.states() == []


async def test_a_broken_template_stops_the_run_before_anything_is_noted(office: Office) -> None:
    transport = Faulty(before=AssertionError("was connected"))
    with pytest.raises(Stop, match=r"daily\.subject\.j2:1: 'title' is undefined"):
        await office.mailer(transport=transport).send(SCOPE, JANE, "daily", {})
    assert office.states() == []


async def test_a_crash_between_file_and_ledger_is_settled_by_looking(office: Office) -> None:
    mailer = office.mailer()
    id_ = await mailer.send(SCOPE, JANE, "daily", {"title": "first"})
    back = update(effect_table).values(state="intent", done_at=None)
    office.ledger.writing(lambda connection: connection.execute(back))
    assert await office.mailer().send(SCOPE, JANE, "daily", {"title": "second"}) == id_
    assert [mail["Subject"] for mail in office.mails()] == ["first of 2026-11-22"]
    assert office.states() == ["done"]


async def test_a_crash_before_the_file_sends_it_after_all(office: Office) -> None:
    crashed = Faulty(after=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        await office.mailer(transport=crashed).send(SCOPE, JANE, "daily", {"title": "x"})
    assert office.states() == ["intent"]
    await office.mailer().send(SCOPE, JANE, "daily", {"title": "x"})
    assert len(office.mails()) == 1
    assert office.states() == ["done"]


async def test_after_a_crash_a_mail_through_a_relay_is_parked(office: Office) -> None:
    with pytest.raises(KeyboardInterrupt):
        await office.mailer(transport=Faulty(after=KeyboardInterrupt())).send(SCOPE, JANE, "daily", {"title": "x"})
    working = Faulty()
    for _ in range(2):
        with pytest.raises(Unknown, match="may or may not"):
            await office.mailer(transport=working).send(SCOPE, JANE, "daily", {"title": "x"})
    assert working.sent == []
    assert office.states() == ["unknown"]


async def test_who_prefers_a_double_to_a_missing_mail_gets_it_sent_again(office: Office) -> None:
    with pytest.raises(KeyboardInterrupt):
        await office.mailer(transport=Faulty(after=KeyboardInterrupt())).send(SCOPE, JANE, "daily", {"title": "x"})
    working = Faulty()
    mailer = office.mailer(settings(on_unknown="resend"), transport=working)
    id_ = await mailer.send(SCOPE, JANE, "daily", {"title": "x"})
    assert [letter.message_id for letter in working.sent] == [id_]
    assert office.states() == ["done"]


async def test_a_refusal_says_nothing_of_an_earlier_attempt_that_may_have_arrived(office: Office) -> None:
    for fault in (Unknown("lost", code="smtp_unknown"), Permanent("no", code="smtp_554")):
        mailer = office.mailer(settings(on_unknown="resend"), transport=Faulty(after=fault))
        with pytest.raises(type(fault)):
            await mailer.send(SCOPE, JANE, "daily", {"title": "x"})
        assert office.states() == ["unknown"]


async def test_a_refusal_is_noted_and_the_mail_may_be_tried_again(office: Office) -> None:
    with pytest.raises(Permanent):
        await office.mailer(transport=Faulty(after=Permanent("no", code="smtp_554"))).send(
            SCOPE, JANE, "daily", {"title": "x"}
        )
    assert office.states() == ["failed"]
    await office.mailer().send(SCOPE, JANE, "daily", {"title": "x"})
    assert office.states() == ["done"]


async def test_a_lost_reply_is_noted_as_unknown(office: Office) -> None:
    with pytest.raises(Unknown):
        await office.mailer(transport=Faulty(after=Unknown("lost", code="smtp_unknown"))).send(
            SCOPE, JANE, "daily", {"title": "x"}
        )
    assert office.states() == ["unknown"]


async def test_each_mail_that_goes_out_waits_its_turn(office: Office) -> None:
    asked: list[int] = []

    @asynccontextmanager
    async def turn(_domain: str) -> AsyncIterator[None]:
        asked.append(len(office.mails()))
        yield

    mailer = office.mailer(turn=turn)
    for id_ in ("s_1", "s_2", "s_2"):
        await mailer.send(replace(SCOPE, key=id_), replace(JANE, id=id_), "daily", {"title": "x"})
    assert asked == [0, 1]


async def test_a_letter_that_is_only_looked_at_is_neither_sent_nor_noted(office: Office) -> None:
    mailer = office.mailer(transport=Faulty(before=AssertionError("was connected")))
    assert b"Subject: x of 2026-11-22" in mailer.letter(SCOPE, JANE, "daily", {"title": "x"}).data
    assert office.states() == []


async def test_an_smtp_url_sends_through_the_relay(office: Office) -> None:
    got: list[Any] = []

    class Handler:
        async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802
            got.append(message_from_bytes(envelope.content, policy=default))
            return "250 ok"

    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), hostname="test"), "127.0.0.1", 0)
    mailer = office.mailer(settings(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    try:
        id_ = await mailer.send(SCOPE, JANE, "daily", {"title": "x"})
    finally:
        await mailer.close()
        server.close()
        await server.wait_closed()
    assert [mail["Message-ID"] for mail in got] == [id_]
    assert mailer.real


@pytest.mark.parametrize(
    "wrong",
    [
        {"transport": "outbox:"},
        {"transport": "sendmail"},
        {"transport": "smtp://"},
        {"sender": "nobody"},
        {"sender": "news@example.org <The Site>"},
        {"unsubscribe_to": ""},
    ],
)
async def test_a_wrong_setting_is_named_before_anything_is_sent(office: Office, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="mail:"):
        office.mailer(replace(settings(), **wrong))


async def test_neither_password_nor_secret_can_be_printed(office: Office) -> None:
    mailer = office.mailer(settings("smtp://user:s3cret@relay.example.org"))
    assert mailer.place == "smtp relay.example.org:587"
    assert "s3cret" not in repr(mailer)
    assert repr(SECRET) not in repr(mailer)
    assert isinstance(office.mailer().transport, Outbox)
    assert office.mailer().place == "outbox outbox"
