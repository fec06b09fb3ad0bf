"""Mail that comes back: each counts once, for the subscriber whom it proves to be about, and none is deleted."""

import io
import mailbox
from contextlib import closing
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from overnight.bounces import Counted, Reader, count, opened
from overnight.bounces.notice import Notice
from overnight.bounces.place import split
from overnight.cli import _guarded, common_first
from overnight.clock import SystemClock, token
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.controls import alert
from overnight.ledger.deliveries import bounced, delivered, pardon, standing
from overnight.ledger.outsiders import STAND_IN
from overnight.ledger.tables import delivery, effect, outsider, subscriber
from overnight.mail.verp import leaving_subject, return_path
from overnight.ports import secret_of
from overnight.subscribers import add, unsubscribe
from tests.slots import NOW, ManualClock, open_ledger, rows

SECRET, BACK_TO = b"a secret of the tests", "bounces@example.org"
ENVID = "0123456789abcdef" * 2
REF = f"<{ENVID}@example.org>"
READER = Reader(SECRET, BACK_TO, "example.org")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Ledger:
    made = open_ledger(tmp_path, clock)
    add(made, clock, "jane@example.com")
    add(made, clock, "joe@example.com")
    return made


def id_of(ledger: Ledger, email: str = "jane@example.com") -> str:
    query = select(subscriber.c.id).where(subscriber.c.email == email)
    return ledger.reading(lambda connection: str(connection.execute(query).scalar_one()))


def status_of(ledger: Ledger, who: str) -> tuple[str, str | None]:
    query = select(subscriber.c.status, subscriber.c.reason).where(subscriber.c.id == who)
    return ledger.reading(lambda connection: tuple(connection.execute(query).one()))


def sent(ledger: Ledger, who: str) -> None:
    """Note that `who` was sent the mail REF."""
    row = {"id": "e", "job": "j", "slot": "s", "key": who, "kind": "mail", "name": "letter", "target": who, "ref": REF,
           "state": "done", "run_id": "r", "intent_at": NOW}  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(effect).values(**row)))


def notification(
    to: str, status: str = "5.1.1", action: str = "failed", envid: str = ENVID, original: str = ""
) -> bytes:
    """What a mail server sends, after RFC 3464."""
    fields = f"Reporting-MTA: dns; mx\n{f'Original-Envelope-Id: {envid}' if envid else 'X: y'}\n\n"
    fields += f"Final-Recipient: rfc822; x@example.com\nAction: {action}\nStatus: {status}\n"
    came = f"--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: {original}\nSubject: x\n" if original else ""
    return (
        f"From: MAILER-DAEMON@mx\nTo: {to}\nSubject: Undelivered\nMIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: text/plain\n\n"
        f"Sorry.\n--b\nContent-Type: message/delivery-status\n\n{fields}\n{came}--b--\n"
    ).encode()


def letter(subject: str, body: str = "") -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "jane@example.com", "unsubscribe@example.org", subject
    mail.set_content(body)
    return mail.as_bytes()


def piped(ledger: Ledger, clock: ManualClock, tmp_path: Path, *mails: bytes) -> Counted:
    total = Counted()
    for mail in mails:
        found = count(ledger, clock, READER, opened("-", io.BytesIO(mail), tmp_path / "aside"))
        total.kinds += found.kinds
        total.suppressed += found.suppressed
        total.left += found.left
    return total


@pytest.mark.parametrize(
    ("status", "action", "kind", "becomes"),
    [
        ("5.1.1", "failed", "hard", "suppressed"),
        ("5.1.10", "failed", "hard", "suppressed"),
        ("5.2.1", "failed", "hard", "suppressed"),
        ("5.2.2", "failed", "soft", "active"),
        ("5.4.4", "failed", "soft", "active"),
        ("4.4.7", "failed", "soft", "active"),
        ("4.4.1", "delayed", "delayed", "active"),
        ("2.0.0", "delivered", "delayed", "active"),
        ("5.7.26", "failed", "policy", "active"),
        ("5.7.1", "failed", "policy", "active"),
        ("4.7.26", "failed", "policy", "active"),
        ("4.7.28", "failed", "policy", "active"),
        ("5.1.8", "failed", "policy", "active"),
        ("5.1.7", "failed", "policy", "active"),
        ("5.3.4", "failed", "content", "active"),
        ("5.6.0", "failed", "content", "active"),
    ],
)
def test_a_notification_says_what_becomes_of_its_subscriber(
    ledger: Ledger, clock: ManualClock, tmp_path: Path, status: str, action: str, kind: str, becomes: str
) -> None:
    who = id_of(ledger)
    counted = piped(ledger, clock, tmp_path, notification(return_path(SECRET, BACK_TO, who), status, action))
    assert counted.kinds == {kind: 1}
    assert counted.suppressed == ([who] if becomes == "suppressed" else [])
    assert status_of(ledger, who)[0] == becomes
    assert status_of(ledger, id_of(ledger, "joe@example.com"))[0] == "active"


def test_a_mail_counts_once_however_it_is_read_and_read_again(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    who = id_of(ledger)
    mails = [notification(return_path(SECRET, BACK_TO, who), "5.2.2", envid=f"{n:032x}") for n in range(3)]
    assert piped(ledger, clock, tmp_path, mails[0], mails[0], mails[1], mails[0]).kinds == {"soft": 2, "again": 2}
    assert status_of(ledger, who)[0] == "active"
    other_copy = mails[0].replace(b"Sorry", b"So sorry")  # a second notification about the same mail
    assert piped(ledger, clock, tmp_path, other_copy).kinds == {"soft": 1}
    assert status_of(ledger, who)[0] == "active"
    assert piped(ledger, clock, tmp_path, mails[2]).suppressed == [who]
    assert status_of(ledger, who) == ("suppressed", "bounced 5.2.2 in 3 of the last 5 mails")


def test_without_a_signed_address_the_envelope_or_the_message_id_names_the_subscriber(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    who = id_of(ledger)
    sent(ledger, who)
    for mail in (notification(BACK_TO), notification(BACK_TO, envid="", original=REF)):
        assert piped(ledger, clock, tmp_path, mail).kinds == {"hard": 1}
    assert status_of(ledger, who)[0] == "suppressed"


def test_a_reader_whom_only_a_job_knows_leaves_and_is_suppressed_by_mail_too(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    sent(ledger, "Y" * 60)
    mails = [
        notification(return_path(SECRET, BACK_TO, "User.42").upper()),
        notification(BACK_TO),  # of one whose id fits into no return path: the envelope names the mail
        letter(leaving_subject(SECRET, "Ann/7")),
    ]
    counted = piped(ledger, clock, tmp_path, *mails)
    assert (counted.suppressed, counted.left) == (["User.42", "Y" * 60], ["Ann/7"])
    states = {who: ledger.reading(standing, who).status for who in ("User.42", "Y" * 60, "Ann/7", "other")}
    assert states == {"User.42": "suppressed", "Y" * 60: "suppressed", "Ann/7": "unsubscribed", "other": None}
    ledger.writing(lambda c: pardon(c, {REF: "Y" * 60, "<x>": "Ann/7"}, NOW))
    assert ledger.reading(standing, "Y" * 60).status is None
    assert ledger.reading(standing, "Ann/7").status == "unsubscribed"


def test_what_comes_back_to_an_operator_or_from_a_test_is_about_no_reader(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    for number, target in enumerate(("a_" + "0" * 32, STAND_IN)):
        row = {"id": target, "job": "j", "slot": "s", "key": "k", "kind": "mail", "name": "letter", "target": target,
               "ref": f"<{number:032}@example.org>", "state": "done", "run_id": "r", "intent_at": NOW}  # fmt: skip
        ledger.writing(lambda connection, row=row: connection.execute(insert(effect).values(**row)))
        assert piped(ledger, clock, tmp_path, notification(BACK_TO, envid=f"{number:032}")).kinds == {"unclear": 1}
    assert rows(ledger, outsider) == []


def test_who_only_knows_the_address_or_the_id_suppresses_nobody(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    who = id_of(ledger)
    genuine = return_path(SECRET, BACK_TO, who)
    forged = [
        notification("jane@example.com", envid=""),
        notification(f"bounces+{who}@example.org"),
        notification(return_path(b"another secret", BACK_TO, who)),
        notification(genuine.replace("example.org", "evil.example")),
        notification(return_path(SECRET, BACK_TO, "s_nobodynobodynobo")),
    ]
    counted = piped(ledger, clock, tmp_path, *forged)
    assert counted.kinds == {"unclear": len(forged)}
    assert status_of(ledger, who)[0] == "active"
    assert len(list((tmp_path / "aside").glob("*.eml"))) == len(forged), "none is lost"


@pytest.mark.parametrize(
    ("reason", "kind", "status"),
    [
        ("Sorry, no mailbox here by that name. (#5.1.1)", "hard", "5.1.1"),
        ("The users mailfolder is over the allowed quota (size). (#5.2.2)", "soft", "5.2.2"),
        ("Remote host said: 550-5.7.26 This mail is unauthenticated", "policy", "5.7.26"),
        ("Remote host said: 550 Blocked [5.1.12.34] by EasyMail 5.1.2", "soft", ""),
        ("Sorry, it did not work.", "soft", ""),
    ],
)
def test_a_notice_in_a_form_of_its_own_is_judged_by_the_status_it_tells(
    ledger: Ledger, reason: str, kind: str, status: str
) -> None:
    who = id_of(ledger)
    qmail = (
        f"From: MAILER-DAEMON@mx.example.net\nTo: {return_path(SECRET, BACK_TO, who)}\nSubject: failure notice\n\n"
        "Hi. This is the qmail-send program at mx.example.net.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
        f"<jane@example.com>:\n{reason}\n\n"
        "--- Below this line is a copy of the message.\n\nSubject: what 550 5.1.1 and (#5.1.1) mean\n"
    ).encode()
    assert READER.read(qmail) == Notice(kind, who, status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", ["{signed}", "Re: {shouted}"])
def test_who_leaves_by_mail_has_left(ledger: Ledger, clock: ManualClock, tmp_path: Path, subject: str) -> None:
    who = id_of(ledger)
    signed = leaving_subject(SECRET, who)
    mail = letter(subject.format(signed=signed, shouted=signed.upper()), "Please.")
    assert piped(ledger, clock, tmp_path, mail, mail).kinds == {"left": 1, "again": 1}
    assert status_of(ledger, who) == ("unsubscribed", "asked")


def complaint(original: str, kind: str = "abuse", back_to: str = "") -> bytes:
    """What a mailbox provider sends, after RFC 5965: who complained is left out."""
    fields = f"Feedback-Type: {kind}\nUser-Agent: Some-FBL/1.0\nVersion: 1\n"
    fields += f"Original-Mail-From: <{back_to}>\n" if back_to else ""
    return (
        "From: fbl@mx\nTo: abuse@example.org\nSubject: FW: Night buses\nMIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: text/plain\n\n"
        f"This is an abuse report.\n--b\nContent-Type: message/feedback-report\n\n{fields}\n"
        f"--b\nContent-Type: message/rfc822\n\nFrom: news@example.org\nMessage-ID: {original}\n"
        "Subject: Night buses\n\nHello\n--b--\n"
    ).encode()


def test_who_calls_our_mail_spam_has_left(ledger: Ledger, clock: ManualClock, tmp_path: Path) -> None:
    jane, joe = id_of(ledger), id_of(ledger, "joe@example.com")
    sent(ledger, jane)
    forged = [
        complaint("<other@example.org>"),
        complaint("<other@example.org>", back_to=f"bounces+{joe}.0@example.org"),
    ]
    found = piped(ledger, clock, tmp_path, *forged, complaint(REF, "not-spam"))
    assert (found.kinds, found.left) == ({"unclear": 3}, [])
    named = complaint("<other@example.org>", back_to=return_path(SECRET, BACK_TO, joe))
    found = piped(ledger, clock, tmp_path, complaint(REF), complaint(REF), named)
    assert (found.kinds, found.left) == ({"complained": 2, "again": 1}, [jane, joe])
    assert status_of(ledger, jane) == status_of(ledger, joe) == ("unsubscribed", "complained")
    assert found.alarm is None


def test_a_forged_signature_makes_nobody_leave(ledger: Ledger, clock: ManualClock, tmp_path: Path) -> None:
    who = id_of(ledger)
    forged = [f"unsubscribe {who}", f"unsubscribe {who}.{'0' * 16}", "unsubscribe", leaving_subject(b"another", who)]
    assert piped(ledger, clock, tmp_path, *map(letter, forged)).kinds == {"unclear": 4}
    assert status_of(ledger, who)[0] == "active"


def test_a_maildir_is_sorted_and_nothing_of_it_is_deleted(ledger: Ledger, clock: ManualClock, tmp_path: Path) -> None:
    who = id_of(ledger)
    box = mailbox.Maildir(tmp_path / "box")
    mails = [notification(return_path(SECRET, BACK_TO, who)), letter("hello"), b"\x00\xff" * 50]
    for mail in mails:
        box.add(mail)
    place = str(tmp_path / "box")
    assert count(ledger, clock, READER, opened(place, io.BytesIO(), tmp_path)).kinds == {"hard": 1, "unclear": 2}
    kept = [path.read_bytes() for path in (tmp_path / "box").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(mails)
    assert len(list((tmp_path / "box" / ".Unclear" / "cur").iterdir())) == 2
    box.add(mails[0])
    assert count(ledger, clock, READER, opened(place, io.BytesIO(), tmp_path)).kinds == {"again": 1}


def test_what_is_no_file_and_what_another_pass_has_put_away_stop_nothing(
    ledger: Ledger, clock: ManualClock, tmp_path: Path
) -> None:
    who = id_of(ledger)
    box = mailbox.Maildir(tmp_path / "box")
    (tmp_path / "box" / "new" / "a folder").mkdir()
    for mail in (notification(return_path(SECRET, BACK_TO, who)), letter("hello")):
        box.add(mail)
    first, second = (opened(str(tmp_path / "box"), io.BytesIO(), tmp_path) for _ in range(2))
    both = list(second.mails())
    assert count(ledger, clock, READER, first).kinds == {"hard": 1, "unclear": 1}
    second.mails = lambda: iter(both)  # type: ignore[method-assign]  it has read them before the first was done
    assert count(ledger, clock, READER, second).kinds == {"again": 2}


def test_one_alert_says_that_our_mail_as_such_comes_back_and_one_that_it_is_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = 'version: 1\nmail: {bounces_to: bounces@example.org}\njobs: {greet: {cron: "0 8 * * *"}}\n'
    (tmp_path / "schedule.yaml").write_text(settings)
    secret, box = secret_of(tmp_path, {}), mailbox.Maildir(tmp_path / "box")
    with closing(Ledger.open("sqlite:///var/overnight.db", root=tmp_path, clock=SystemClock())) as made:
        add(made, SystemClock(), "jane@example.com")
        back_to = return_path(secret, BACK_TO, id_of(made))
        passes: list[tuple[list[bytes], str]] = [
            ([], ""),
            ([notification(back_to, "5.2.2")], ""),
            ([notification(back_to, "5.7.26"), notification(back_to, "4.7.26"), letter("hello")], "firing"),
            ([letter("an answer"), letter(leaving_subject(b"another", id_of(made)))], "firing"),
            ([], "firing"),
            ([notification(back_to, "5.1.1")], "resolved"),
        ]
        for mails, state in passes:
            for mail in mails:
                box.add(mail)
            assert _guarded(common_first(["--config", str(tmp_path), "--quiet", "bounces", str(tmp_path / "box")])) == 0
            assert [row["state"] for row in rows(made, alert)] == ([state] if state else [])
            if state == "firing":
                assert "2 mails came back because our mail as such is refused" in rows(made, alert)[0]["message"]
        assert [row["key"] for row in rows(made, alert)] == ["mail_policy:bounces"]
    capsys.readouterr()


def test_an_mbox_is_cut_at_its_from_lines_and_left_as_it_is(ledger: Ledger, clock: ManualClock, tmp_path: Path) -> None:
    who = id_of(ledger)
    file = tmp_path / "mbox"
    hard = notification(return_path(SECRET, BACK_TO, who))
    box = mailbox.mbox(file)
    for mail in (hard, letter("hello", "text\n\nFrom the beginning\n")):
        box.add(mail)
    box.close()
    before = file.read_bytes()
    for kinds in ({"hard": 1, "unclear": 1}, {"again": 1, "unclear": 1}):
        assert count(ledger, clock, READER, opened(str(file), io.BytesIO(), tmp_path / "aside")).kinds == kinds
    assert file.read_bytes() == before
    assert len(list((tmp_path / "aside").iterdir())) == 1


def test_what_is_no_place_for_mail_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no maildir"):
        opened(str(tmp_path), io.BytesIO(), tmp_path)


@given(st.binary(max_size=400))
@example(b"Subject: =?utf-8?b?A?=\n\nhello")
def test_no_mail_is_too_broken_to_be_read(data: bytes) -> None:
    assert READER.read(data).kind == "unclear"
    broken = b"Subject: =?utf-8?b?A?=\n" + notification(return_path(SECRET, BACK_TO, "s_a"))
    assert READER.read(broken).kind == "hard", "its subject is not what counts"
    assert READER.read(
        b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n" + data
    )


@given(
    st.lists(
        st.binary(max_size=60).filter(lambda line: b"\n" not in line and not line.startswith(b"From ")), min_size=1
    )
)
def test_a_single_mail_is_one_mail(lines: list[bytes]) -> None:
    whole = b"\n".join(lines)
    assert b"".join(split(io.BytesIO(whole))) == whole


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.sampled_from(["soft", "delivered"]), min_size=1, max_size=14))
def test_the_third_soft_bounce_of_five_mails_suppresses_and_no_other(
    ledger: Ledger, clock: ManualClock, story: list[str]
) -> None:
    email = f"{token(8)}@example.com"
    add(ledger, clock, email)
    who = id_of(ledger, email)
    for number, verdict in enumerate(story):
        at, ref = NOW + timedelta(days=number), f"<{number}@x>"
        found = ledger.reading(standing, who)
        if found.status != "active":
            break
        if verdict == "soft":
            ledger.writing(lambda c, ref=ref, at=at: bounced(c, who, ref, "soft", "5.2.2", at))
        elif found.watched:
            ledger.writing(lambda c, ref=ref, at=at: delivered(c, who, ref, at))
        expected = story[max(0, number - 4) : number + 1].count("soft") >= 3
        assert (status_of(ledger, who)[0] == "suppressed") == expected
        mine = select(delivery).where(delivery.c.subscriber == who)
        kept = ledger.reading(lambda c, mine=mine: len(c.execute(mine).all()))
        assert kept <= 5
        assert kept or "soft" not in story[max(0, number - 4) : number + 1]


def test_a_mail_that_was_taken_and_came_back_later_counts_as_come_back(ledger: Ledger, clock: ManualClock) -> None:
    who = id_of(ledger)
    for number in range(3):
        ref, at = f"<{number}@x>", NOW + timedelta(days=number)
        if ledger.reading(standing, who).watched:
            ledger.writing(lambda c, ref=ref, at=at: delivered(c, who, ref, at))
        later = at + timedelta(hours=3)
        ledger.writing(lambda c, ref=ref, later=later: bounced(c, who, ref, "soft", "5.2.2", later))
    assert status_of(ledger, who)[0] == "suppressed"


def test_who_was_suppressed_in_error_is_pardoned_and_who_left_stays_away(ledger: Ledger, clock: ManualClock) -> None:
    jane, joe = id_of(ledger), id_of(ledger, "joe@example.com")
    unsubscribe(ledger, clock, joe)
    for who in (jane, joe):
        ledger.writing(lambda c, who=who: bounced(c, who, f"<{who}>", "hard", "5.1.1", NOW))
    assert (status_of(ledger, jane)[0], status_of(ledger, joe)[0]) == ("suppressed", "unsubscribed")
    ledger.writing(lambda c: pardon(c, {f"<{who}>": who for who in (jane, joe)}, NOW))
    assert (status_of(ledger, jane)[0], status_of(ledger, joe)[0]) == ("active", "unsubscribed")
    assert not ledger.reading(standing, jane).watched
