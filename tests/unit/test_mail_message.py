"""Messages: nobody injects a header, and the same input gives the same bytes."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from overnight.errors import Permanent, Stop
from overnight.mail.form import build
from overnight.mail.message import HEADERS, SUBJECT_MAX, Envelope, Heading, Mailbox, mailbox, mailto, message_id
from overnight.mail.templates import Rendered
from overnight.outcome import Scope
from tests.mailcheck import check

SCOPE = Scope("daily_email", "2026-11-22", "s_1", "r_1")
SENDER = mailbox("news@example.org", "The Site")
READER = mailbox("jane@example.com", "Jane Doe")
DATE = datetime(2026, 11, 22, 7, tzinfo=UTC)
ALWAYS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}


LISTED = Heading(SENDER, "<daily.example.org>", "2026-11-22:daily:daily:example-org")
LINK = mailto("u@example.org", "unsubscribe s_1")


def envelope(recipient: Mailbox = READER, *unsubscribe: str) -> Envelope:
    id_ = message_id(b"secret", SCOPE, "daily", "s_1", "example.org")
    return Envelope(recipient, id_, DATE, unsubscribe)


def message(subject: str = "Hello", text: str = "Hi\n", html: str | None = "<p>Hi</p>", name: str = "Jane") -> bytes:
    return build(LISTED, envelope(mailbox("jane@example.com", name), LINK), Rendered(subject, text, html))


@pytest.mark.parametrize(
    "subject",
    [
        "a\r\nBcc: v@x.com",
        "a\nBcc: v@x.com",
        "a\rBcc: v@x.com",
        "a\u2028Bcc: v@x.com",
        "a\x0bBcc: v@x.com",
        "a\x0cBcc: v@x.com",
        "a\x85Bcc: v@x.com",
        "=?utf-8?q?a=0D=0ABcc:_v=40x.com?=",
        "=?iso-8859-1?b?YQ0KQmNjOiB2QHguY29t?=",
        "a\x00b",
        "a\x7fb",
        "\ud800",
        "",
        "   ",
    ],
)
def test_a_subject_that_could_break_a_header_is_refused(subject: str) -> None:
    with pytest.raises(Permanent, match=r"subject|header"):
        message(subject)


@pytest.mark.parametrize(
    "address",
    [
        "u@x.com, v@evil.com",
        "u@x.com,v@evil.com",
        "boss@corp.com <u@evil.com>",
        "u@x.com>\r\nRCPT TO:<v@evil.com",
        "a\r\nRCPT TO:<v@evil.com>",
        "u@x.com\x00",
        "u\n@x.com",
        "u@ex ample.com",
        "a" * 250 + "@x.com",
        "",
        "a@",
        "@b",
        "a@@b.com",
        "a@b@c.com",
        "\ud800@x.com",
    ],
)
def test_what_is_not_one_plain_address_is_refused(address: str) -> None:
    with pytest.raises(Permanent) as refused:
        mailbox(address)
    assert refused.value.code == "address"


_LOCALS = st.text("abcXYZ019_+.-", min_size=1, max_size=70)
_DOMAINS = st.lists(st.text("abcz019-A", min_size=1, max_size=66), min_size=0, max_size=3)
_TOPS = st.sampled_from(["com", "org", "test", "local", "invalid", "localhost", "onion", "arpa", "c", "1", "x1", "COM"])


@given(local=_LOCALS, domain=_DOMAINS, top=_TOPS)
def test_an_ordinary_address_is_taken_as_the_validator_would(local: str, domain: list[str], top: str) -> None:
    address = f"{local}@{'.'.join([*domain, top])}"
    try:
        checked = validate_email(address, check_deliverability=False, globally_deliverable=False).ascii_email
    except EmailNotValidError:
        with pytest.raises(Permanent):
            mailbox(address)
    else:
        assert mailbox(address).address == checked


def test_an_international_domain_becomes_punycode() -> None:
    assert mailbox("u@exämple.com").address == "u@xn--exmple-cua.com"


def test_an_address_beyond_ascii_is_for_servers_that_know_such() -> None:
    box = mailbox("jörg@exämple.com", "Jörg")
    assert (box.address, box.utf8) == ("jörg@xn--exmple-cua.com", True)
    data = build(Heading(SENDER), envelope(box), Rendered("Hello", "Hi\n", None))
    assert "To: =?utf-8?b?SsO2cmc=?=\r\n <jörg@xn--exmple-cua.com>\r\n".encode() in data


@pytest.mark.parametrize("name", ["Jane\r\nBcc: v@x.com", "Jane\x00", "=?utf-8?q?J=0D=0ABcc:_v=40x.com?="])
def test_a_name_with_a_line_break_is_refused(name: str) -> None:
    with pytest.raises(Permanent, match="name"):
        message(name=name)


@pytest.mark.parametrize("name", ["Jane\nBcc: v@x.com", "=?utf-8?q?J=0D=0ABcc:_v=40x.com?=", "=?utf-8?b?SgpC?="])
def test_a_name_is_refused_before_a_message_is_built(name: str) -> None:
    with pytest.raises(Permanent, match="the name contains a control character"):
        mailbox("jane@example.com", name)


@pytest.mark.parametrize("name", ["boss@corp.com", "a, b@evil.com", '"<b@evil.com>"', "x <b@evil.com>", "; group: a"])
def test_a_name_that_looks_like_an_address_stays_a_name(name: str) -> None:
    parsed = message_from_bytes(message(name=name), policy=default)
    assert [address.addr_spec for address in parsed["To"].addresses] == ["jane@example.com"]
    assert parsed["To"].addresses[0].display_name == name


def test_a_line_break_in_the_unsubscribe_link_is_refused() -> None:
    with pytest.raises(Permanent, match="List-Unsubscribe"):
        build(LISTED, envelope(READER, "mailto:u@x.com\r\nBcc: v@x.com"), Rendered("Hello", "Hi\n", None))


@given(subject=st.text(max_size=220), name=st.text(max_size=80))
def test_any_subject_and_name_are_refused_or_leave_only_our_headers(subject: str, name: str) -> None:
    try:
        data = message(subject, name=name)
    except Permanent:
        return
    parsed = message_from_bytes(data, policy=default)
    assert sorted(parsed.keys()) == sorted(ALWAYS | {"List-Id", "Feedback-ID", "List-Unsubscribe", "Precedence"})
    assert set(parsed.keys()) <= HEADERS
    assert len(parsed["To"].addresses) == 1


@given(subject=st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=200))
def test_a_subject_of_ordinary_characters_arrives_as_it_was(subject: str) -> None:
    wanted = subject.strip()
    if not wanted or "=?" in wanted:
        return
    got = str(message_from_bytes(message(wanted), policy=default)["Subject"])
    assert got.split() == wanted.split()


@pytest.mark.parametrize("mark", ["", "[Test] "])
@pytest.mark.parametrize("subject", ["many alerts " * 40, "x" * 500, "größer " * 50])
def test_a_subject_that_is_too_long_ends_at_a_word_and_the_mail_goes_out(subject: str, mark: str) -> None:
    data = build(Heading(mailbox("news@example.org"), mark=mark), envelope(), Rendered(subject, "Hi\n", None))
    check(data)
    got = str(message_from_bytes(data, policy=default)["Subject"])
    assert SUBJECT_MAX / 2 < len(got) <= SUBJECT_MAX
    kept = got.removesuffix(" …")
    assert f"{mark}{subject}".startswith(kept)
    assert subject.startswith("x") or f"{mark}{subject}"[len(kept)] in " ="


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=3000), html=st.none() | st.text(max_size=3000))
def test_lines_are_short_and_end_in_crlf_whatever_the_text(text: str, html: str | None) -> None:
    try:
        data = message(text=text, html=html)
    except Permanent:
        return
    assert max(len(line) for line in data.split(b"\r\n")) <= 100
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert data.isascii()


def test_long_lines_and_many_lines_are_encoded_and_come_back() -> None:
    text = "\n".join("ä" * 5000 if n % 10 == 0 else "x" * 998 for n in range(1000)) + "\n.\nMAIL FROM:<a@b>\n"
    data = message(text=text, html=None)
    assert max(len(line) for line in data.split(b"\r\n")) <= 100
    assert message_from_bytes(data, policy=default).get_content().replace("\r\n", "\n") == text


@pytest.mark.parametrize(
    "body", ["a\n.\nMAIL FROM:<v@x.com>\n", "a\r.\rRCPT TO:<v@x.com>\r", "a\r\n.\r\nQUIT", ".", ".."]
)
def test_no_line_of_a_body_can_end_the_message(body: str) -> None:
    data = message(text=body, html=f"<pre>{body}</pre>")
    assert b"\r\n.\r\n" not in data
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", data)
    parts = [part.get_content() for part in message_from_bytes(data, policy=default).iter_parts()]
    assert parts[0].split() == body.split()


def test_the_same_input_gives_the_same_bytes() -> None:
    assert message() == message()


def test_both_parts_are_there_and_the_plain_one_comes_first() -> None:
    parsed = message_from_bytes(message(text="plain ä\n", html="<p>rich ä</p>\n"), policy=default)
    parts = [(part.get_content_type(), part.get_content()) for part in parsed.iter_parts()]
    assert parts == [("text/plain", "plain ä\r\n"), ("text/html", "<p>rich ä</p>\r\n")]


def test_a_long_unsubscribe_link_stays_one_line() -> None:
    link = mailto("unsubscribe-" + "x" * 40 + "@a-rather-long-domain.example.org", "unsubscribe s_abcdefghijklmnop")
    data = build(LISTED, envelope(READER, link), Rendered("Hello", "Hi\n", None))
    assert f"List-Unsubscribe:\r\n <{link}>\r\n".encode() in data
    assert message_from_bytes(data, policy=default)["List-Unsubscribe"].strip() == f"<{link}>"


def test_mail_to_operators_is_no_list_mail() -> None:
    parsed = message_from_bytes(build(Heading(SENDER), envelope(), Rendered("Hello", "Hi\n", None)), policy=default)
    assert not {"List-Id", "List-Unsubscribe", "Precedence"} & set(parsed.keys())
    assert parsed["Auto-Submitted"] == "auto-generated"


def test_a_message_id_is_stable_and_tells_nothing() -> None:
    id_ = message_id(b"secret", SCOPE, "daily", "s_1", "example.org")
    assert id_ == message_id(b"secret", Scope("daily_email", "2026-11-22", "s_1", "r_2"), "daily", "s_1", "example.org")
    others = {
        message_id(b"other", SCOPE, "daily", "s_1", "example.org"),
        message_id(b"secret", SCOPE, "weekly", "s_1", "example.org"),
        message_id(b"secret", SCOPE, "daily", "s_2", "example.org"),
        message_id(b"secret", Scope("daily_email", "2026-11-23", "s_1", "r_1"), "daily", "s_1", "example.org"),
    }
    assert len(others | {id_}) == 5
    assert len(id_) == len("<@example.org>") + 32


def test_a_picture_comes_with_the_mail_and_is_found_by_its_name() -> None:
    picture = bytes(range(256)) * 40
    content = Rendered("Costs", "text\n", '<img src="cid:costs">\n', {"costs": picture})
    parsed = message_from_bytes(build(LISTED, envelope(), content), policy=default)
    kinds = [part.get_content_type() for part in parsed.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    image = list(parsed.walk())[-1]
    assert (image["Content-ID"], image.get_content()) == ("<costs>", picture)
    assert max(map(len, build(LISTED, envelope(), content).split(b"\r\n"))) <= 78


@pytest.mark.parametrize("name", ["a>\r\nBcc: x@y", "", "ü", "a b"])
def test_no_picture_brings_a_header_with_it(name: str) -> None:
    with pytest.raises(Stop, match="no name of a picture"):
        build(LISTED, envelope(), Rendered("Costs", "text\n", "<p>\n", {name: b"png"}))
