"""SMTP against real servers on this machine: each reply and each loss means what it must."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from overnight.clock import SystemClock
from overnight.errors import ConfigError, Deferred, Fenced, OvernightError, Permanent, Stop, Unknown
from overnight.mail import allow_real, forbid_real
from overnight.mail.relay import Relay
from overnight.mail.replies import Bounced, Throttled, Unwanted, classify, enhanced
from overnight.mail.smtp import PER_CONNECTION, Smtp
from overnight.mail.transport import Letter


@dataclass
class Server:
    """An aiosmtpd handler: `replies` by recipient or by the word DATA."""

    replies: dict[str, str] = field(default_factory=dict)
    got: list[Any] = field(default_factory=list)
    conversations: set[int] = field(default_factory=set)
    tls: list[bool] = field(default_factory=list)
    port: int = 0
    made: list[SMTP] = field(default_factory=list)

    def hang_up(self) -> None:
        for smtp in self.made:
            if smtp.transport is not None:
                smtp.transport.close()

    async def handle_RCPT(self, _server: SMTP, session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if address in self.replies:
            return self.replies[address]
        envelope.rcpt_tos.append(address)
        self.conversations.add(id(session))
        return "250 ok"

    async def handle_DATA(self, _server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        if "DATA" in self.replies:
            return self.replies["DATA"]
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        self.tls.append(session.ssl is not None)
        return "250 2.0.0 queued"


@asynccontextmanager
async def serving(handler: Server | None = None, **options: Any) -> AsyncIterator[Server]:
    handler = handler or Server()
    loop = asyncio.get_running_loop()

    def factory() -> SMTP:
        handler.made.append(SMTP(handler, hostname="test", **options))
        return handler.made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    handler.port = server.sockets[0].getsockname()[1]
    try:
        yield handler
    finally:
        server.close()
        handler.hang_up()
        await server.wait_closed()
        await asyncio.sleep(0)


@asynccontextmanager
async def scripted(*replies: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve a script: answer each line by the next reply and hang up at None; each connection begins anew."""
    lines: list[bytes] = []
    done: list[asyncio.Task[None] | None] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(asyncio.current_task())
        try:
            for reply in replies:
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
                line = await reader.readline()
                lines.append(line)
                while line and reply.startswith(b"354") and line != b".\r\n":
                    line = await reader.readline()
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], lines
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        for task in done:
            if task is not None:
                await asyncio.wait([task], timeout=5)


@asynccontextmanager
async def sending(url: str) -> AsyncIterator[Smtp]:
    transport = Smtp(Relay.parse(url), SystemClock())
    try:
        with allow_real():
            yield transport
    finally:
        await transport.close()


def letter(to: str = "jane@example.com", text: bytes = b"Hi\r\n") -> Letter:
    data = b"Subject: Hello\r\n\r\n" + text
    return Letter("<1@example.org>", "news@example.org", to, data, ("daily", "2026-11-22"))


async def intent() -> None:
    """Nothing to note."""


async def test_a_message_arrives_as_it_was_with_its_envelope() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}") as smtp:
        await smtp.send(letter(), intent)
    assert server.got == [("news@example.org", ["jane@example.com"], b"Subject: Hello\r\n\r\nHi\r\n")]


@pytest.mark.parametrize("text", [b"\r\n.\r\nMAIL FROM:<evil@x.com>\r\n", b"a\r\n.\r\nb\r\n", b"..\r\n.x\r\n"])
async def test_a_text_cannot_end_the_message_and_begin_another(text: bytes) -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}") as smtp:
        await smtp.send(letter(text=text), intent)
    assert [content for _, _, content in server.got] == [b"Subject: Hello\r\n\r\n" + text]


async def test_many_messages_share_a_few_connections() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}?connections=3") as smtp:
        await asyncio.gather(*(smtp.send(letter(f"r{n}@example.com"), intent) for n in range(60)))
    assert sorted(rcpt for _, (rcpt,), _ in server.got) == sorted(f"r{n}@example.com" for n in range(60))
    assert len(server.conversations) <= 3


async def test_a_connection_is_renewed_after_a_hundred_messages() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}?connections=1") as smtp:
        for _ in range(PER_CONNECTION + 1):
            await smtp.send(letter(), intent)
    assert len(server.got) == PER_CONNECTION + 1
    assert len(server.conversations) == 2


@pytest.mark.parametrize(
    ("where", "reply", "kind", "code"),
    [
        ("jane@example.com", "550 5.1.1 no such user", Bounced, "smtp_550"),
        ("jane@example.com", "552 5.2.2 mailbox full", Bounced, "smtp_552"),
        ("jane@example.com", "552 5.3.4 too big for this mailbox", Permanent, "smtp_552"),
        ("jane@example.com", "451 4.7.1 greylisted", Deferred, "smtp_451"),
        ("jane@example.com", "450 4.2.0 later", Deferred, "smtp_450"),
        ("jane@example.com", "421 4.7.0 too many", Throttled, "smtp_421"),
        ("jane@example.com", "554 5.7.1 relaying denied", Unwanted, "smtp_554"),
        ("DATA", "451 4.3.0 later", Deferred, "smtp_451"),
        ("DATA", "554 5.6.0 looks like spam", Permanent, "smtp_554"),
        ("DATA", "550 5.7.26 unauthenticated sender", Unwanted, "smtp_550"),
        ("DATA", "550 5.7.515 access denied", Unwanted, "smtp_550"),
        ("DATA", "553 5.7.9 policy", Unwanted, "smtp_553"),
    ],
)
async def test_a_refusal_is_classified_and_the_next_message_still_goes(
    where: str, reply: str, kind: type[OvernightError], code: str
) -> None:
    server = Server({where: reply})
    async with serving(server), sending(f"smtp://127.0.0.1:{server.port}?connections=1") as smtp:
        with pytest.raises(kind) as refused:
            await smtp.send(letter(), intent)
        server.replies.clear()
        await smtp.send(letter("other@example.com"), intent)
    assert type(refused.value) is kind
    assert refused.value.code == code
    assert reply.split()[1] in str(refused.value)
    assert [rcpt for _, rcpt, _ in server.got] == [["other@example.com"]]
    if isinstance(refused.value, Deferred):
        assert refused.value.after is None, "5, 15 and 60 minutes: the batch counts"
        assert refused.value.within == 86_400


async def test_the_intent_comes_after_the_recipient_and_before_the_text() -> None:
    seen: list[int] = []
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}") as smtp:

        async def note() -> None:
            seen.append(len(server.conversations) * 10 + len(server.got))

        await smtp.send(letter(), note)
    assert seen == [10]


async def test_a_refused_intent_sends_nothing_and_the_next_message_goes() -> None:
    async def fenced() -> None:
        raise Fenced("taken over")

    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}?connections=1") as smtp:
        with pytest.raises(Fenced):
            await smtp.send(letter(), fenced)
        await smtp.send(letter("other@example.com"), intent)
    assert [rcpt for _, rcpt, _ in server.got] == [["other@example.com"]]


HELLO = (b"220 test\r\n", b"250 test\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")


@pytest.mark.parametrize("steps", [2, 3])
async def test_a_loss_before_data_is_tried_once_more_and_then_deferred(steps: int) -> None:
    async with scripted(*HELLO[:steps], None) as (port, lines), sending(f"smtp://127.0.0.1:{port}") as smtp:
        with pytest.raises(Deferred) as lost:
            await smtp.send(letter(), intent)
    assert lost.value.code == "smtp_lost"
    assert sum(line.startswith(b"MAIL") for line in lines) == 2


async def test_a_loss_after_the_text_is_unknown_and_not_tried_again() -> None:
    async with scripted(*HELLO, None) as (port, lines), sending(f"smtp://127.0.0.1:{port}") as smtp:
        with pytest.raises(Unknown) as lost:
            await smtp.send(letter(), intent)
    assert lost.value.code == "smtp_unknown"
    assert sum(line.startswith(b"DATA") for line in lines) == 1


async def test_a_server_that_never_answers_the_text_is_unknown_and_its_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("overnight.mail.conversation.TAKING", 0.2)
    silent = (*HELLO, b"")  # the last reply is nothing at all, and then it waits for a line
    async with scripted(*silent) as (port, _), sending(f"smtp://127.0.0.1:{port}?timeout=0.2") as smtp:
        with pytest.raises(Unknown):
            await smtp.send(letter(), intent)
        assert smtp._idle == []


async def test_a_connection_the_server_has_closed_meanwhile_is_replaced() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}?connections=1") as smtp:
        await smtp.send(letter(), intent)
        server.hang_up()  # which the client only finds out with its next message
        await smtp.send(letter(), intent)
    assert len(server.got) == 2


async def test_nobody_there_is_deferred_and_not_asked_again_at_once() -> None:
    async with scripted() as (port, _):
        pass
    async with sending(f"smtp://127.0.0.1:{port}") as smtp:
        for words in ("cannot be reached", "a moment ago"):
            with pytest.raises(Deferred, match=words) as down:
                await smtp.send(letter(), intent)
            assert down.value.code == "smtp_unreachable"


@pytest.mark.parametrize(("greeting", "kind"), [(b"554 go away\r\n", Stop), (b"421 busy\r\n", Deferred)])
async def test_a_refusing_greeting_is_classified(greeting: bytes, kind: type[OvernightError]) -> None:
    async with scripted(greeting, None) as (port, _), sending(f"smtp://127.0.0.1:{port}") as smtp:
        with pytest.raises(kind):
            await smtp.send(letter(), intent)


def refuse(_server: Any, _session: Any, _envelope: Any, _mechanism: str, _data: Any) -> AuthResult:
    return AuthResult(success=False, handled=False)


def accept(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"us@er", b"pa:ss"))


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_refused_login_stops_the_run_and_the_password_is_not_told() -> None:
    options = {"authenticator": refuse, "auth_required": True, "auth_require_tls": False}
    async with serving(**options) as server, sending(f"smtp://user:s3cret@127.0.0.1:{server.port}") as smtp:
        with pytest.raises(Stop) as stopped:
            await smtp.send(letter(), intent)
    assert stopped.value.code == "smtp_auth"
    assert "s3cret" not in str(stopped.value)
    assert server.got == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_login_with_special_characters_works() -> None:
    options = {"authenticator": accept, "auth_required": True, "auth_require_tls": False}
    async with serving(**options) as server, sending(f"smtp://us%40er:pa%3Ass@127.0.0.1:{server.port}") as smtp:
        await smtp.send(letter(), intent)
    assert len(server.got) == 1


async def test_a_password_is_never_sent_in_the_clear_to_another_machine() -> None:
    # 0.0.0.0 reaches this machine, but is not known as loopback
    async with serving() as server, sending(f"smtp://user:s3cret@0.0.0.0:{server.port}") as smtp:
        with pytest.raises(Stop, match="not sent in the clear"):
            await smtp.send(letter(), intent)


HERE = ("127.0.0.1", "0.0.0.0")  # noqa: S104  the second reaches this machine as well, and is not known as loopback


def certificate(tmp_path: Path, days: int = 1) -> ssl.SSLContext:
    """Make a server context with a certificate for this machine, good for some days from now, left in ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([*map(x509.IPAddress, map(ipaddress.ip_address, HERE))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return context


async def test_starttls_is_used_when_another_machine_offers_it_or_when_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with serving(tls_context=context) as server:
        for url in ("smtp://0.0.0.0", "smtp+starttls://127.0.0.1"):
            async with sending(f"{url}:{server.port}") as smtp:
                await smtp.send(letter(), intent)
    assert server.tls == [True, True]


async def test_a_relay_on_this_machine_needs_no_certificate_that_anybody_vouches_for(tmp_path: Path) -> None:
    context = certificate(tmp_path)
    async with serving(tls_context=context) as server, sending(f"smtp://127.0.0.1:{server.port}") as smtp:
        await smtp.send(letter(), intent)
    assert server.tls == [False]


async def test_a_certificate_nobody_vouches_for_stops_the_run(tmp_path: Path) -> None:
    context = certificate(tmp_path)
    async with serving(tls_context=context) as server, sending(f"smtp+starttls://127.0.0.1:{server.port}") as smtp:
        with pytest.raises(Stop, match="certificate") as stopped:
            await smtp.send(letter(), intent)
    assert stopped.value.code == "smtp_tls"
    assert server.got == []


async def test_required_starttls_that_is_not_offered_stops_the_run() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}?starttls=required") as smtp:
        with pytest.raises(Stop, match="STARTTLS"):
            await smtp.send(letter(), intent)
    assert server.got == []


async def test_the_fuse_keeps_real_mail_in() -> None:
    async with serving() as server, sending(f"smtp://127.0.0.1:{server.port}") as smtp:
        with forbid_real("this is a bench"), pytest.raises(Stop, match="this is a bench"):
            await smtp.send(letter(), intent)
        await smtp.send(letter(), intent)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "smtp://",
        "smtp://host:99999",
        "smtp://user:s3cret@host:x",
        "smtp://host?starttls=maybe",
        "smtp://host?tls=1",
        "smtpx://host",
        "smtp://host?connections=a",
    ],
)
def test_a_wrong_url_is_a_configuration_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        Relay.parse(url)
    assert "s3cret" not in str(wrong.value)


def test_ports_and_names_for_people() -> None:
    assert Relay.parse("smtp://user:s3cret@relay.example.org").place == "smtp relay.example.org:587"
    assert Relay.parse("smtps://relay.example.org").port == 465
    assert "s3cret" not in repr(Relay.parse("smtp://user:s3cret@relay.example.org"))


@pytest.mark.parametrize(
    ("phase", "code", "text", "kind"),
    [
        ("sender", 550, "5.1.0 sender rejected", Stop),
        ("sender", 530, "5.7.0 authentication required", Stop),
        ("sender", 552, "5.3.4 too big", Permanent),
        ("recipient", 550, "5.7.133 sender not authenticated for group", Permanent),
        ("recipient", 553, "no such mailbox", Bounced),
        ("recipient", 550, "5.4.1 Recipient address rejected: Access denied", Bounced),
        ("recipient", 550, "5.4.310 DNS domain does not exist", Bounced),
        ("recipient", 550, "5.4.5 daily quota exceeded", Permanent),
        ("data", 553, "no such mailbox", Permanent),
        ("recipient", 550, "5.1.8 your domain has no mail server", Unwanted),
        ("auth", 454, "4.7.0 temporary", Deferred),
    ],
)
def test_the_same_code_means_other_things_in_other_phases(
    phase: Any, code: int, text: str, kind: type[OvernightError]
) -> None:
    assert type(classify(phase, code, text)) is kind


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 nobody", "5.1.1"),
        (550, "5.1.1: nobody", "5.1.1"),
        (550, "#5.1.0 Address rejected.", "5.1.0"),
        (550, "Blocked [5.1.12.34] see rbl", ""),
        (550, "5.1.12.34 is blocked", ""),
        (550, "4.2.2 full", ""),
        (451, "5.1.1 what", ""),
        (550, "no mailbox, 5.1.1", ""),
    ],
)
def test_an_enhanced_status_stands_first_and_is_of_the_class_of_its_reply(code: int, text: str, status: str) -> None:
    assert enhanced(code, text) == status
