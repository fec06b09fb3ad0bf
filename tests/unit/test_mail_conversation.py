"""What a relay can do in the middle of a message, step by step, over a real connection on this machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from overnight.deadline import deadline
from overnight.errors import Deferred, Fenced, OvernightError, Permanent, Stop, Unknown
from overnight.mail import conversation
from overnight.mail.conversation import stuffed
from overnight.mail.replies import Bounced, Throttled, Unwanted
from overnight.mail.transport import Letter
from tests.unit.test_mail_smtp import certificate, intent, letter, sending

TAKING = "overnight.mail.conversation.TAKING"
STALL, HANG_UP = b"stall", b"hang up"
OK = {
    "HELLO": b"220 test\r\n",
    "EHLO": b"250-test\r\n250-PIPELINING\r\n250 DSN\r\n",
    "DATA": b"354 go on\r\n",
    "QUIT": b"221 bye\r\n",
}


@dataclass
class Wire:
    """A relay of few words: `says` by the command, TEXT for the end of a text, HELLO for the greeting."""

    says: dict[str, bytes] = field(default_factory=dict)
    port: int = 0
    connections: int = 0
    commands: list[str] = field(default_factory=list)
    reads: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        waiting, text = b"", False
        going = await self._say(writer, "HELLO")
        while going and (data := await reader.read(1 << 20)):
            self.reads.append(data)
            waiting += data
            while going and (end := (b"\r\n" + waiting).find(b"\r\n.\r\n") if text else waiting.find(b"\r\n")) >= 0:
                if text:
                    self.texts += [waiting[: end - 2]] if end else []
                    waiting, text = waiting[end + 3 :], False
                    going = await self._say(writer, "TEXT")
                    continue
                line, waiting = waiting[:end].decode(), waiting[end + 2 :]
                self.commands.append(line)
                word = line.split(" ")[0].upper()
                going = await self._say(writer, word)
                text = word == "DATA" and self._of(word).startswith(b"354")
        writer.close()

    def _of(self, word: str) -> bytes:
        return self.says.get(word) or OK.get(word) or b"250 2.0.0 ok\r\n"

    async def _say(self, writer: asyncio.StreamWriter, word: str) -> bool:
        said = self._of(word)
        if said == STALL:
            return True
        if said != HANG_UP:
            writer.write(said.removesuffix(HANG_UP))
        return not said.endswith(HANG_UP)


@asynccontextmanager
async def wire(tls: ssl.SSLContext | None = None, **says: bytes) -> AsyncIterator[Wire]:
    relay = Wire(says)
    server = await asyncio.start_server(relay.connected, "127.0.0.1", 0, ssl=tls)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for writer in relay.writers:
            writer.transport.abort()
        await asyncio.wait_for(server.wait_closed(), 5)
        await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_sender_recipient_and_data_go_in_one_write_and_the_text_only_after_the_intent() -> None:
    seen: list[int] = []

    async def note() -> None:
        seen.append(sum(b"Subject" in data for data in relay.reads))

    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(letter(), note)
        await smtp.send(letter("other@example.com"), note)
    envelopes = [data for data in relay.reads if data.startswith(b"MAIL")]
    assert [data.count(b"\r\n") for data in envelopes] == [3, 3]
    assert seen == [0, 1], "no byte of the text has gone out when its intent is committed"
    assert relay.connections == 1


async def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    async with wire(EHLO=b"250 test\r\n") as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(letter(), intent)
    assert [data.split()[0] for data in relay.reads[1:5]] == [b"MAIL", b"RCPT", b"DATA", b"Subject:"]


async def test_a_relay_that_reports_is_told_what_to_report_and_another_is_not() -> None:
    mail = replace(letter("a+b@example.com"), message_id="<0123abcd@example.org>")
    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(mail, intent)
    assert "MAIL FROM:<news@example.org> RET=HDRS ENVID=0123abcd" in relay.commands
    assert "RCPT TO:<a+b@example.com> ORCPT=rfc822;a+2Bb@example.com" in relay.commands
    async with wire(EHLO=b"250 test\r\n") as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(mail, intent)
    assert "RCPT TO:<a+b@example.com>" in relay.commands


@pytest.mark.parametrize("after", [b"554 5.5.1 no valid recipients\r\n", b"354 go on\r\n"])
async def test_a_refused_recipient_in_a_group_sends_no_text_and_the_next_message_goes(after: bytes) -> None:
    async with (
        wire(RCPT=b"550 5.1.1 nobody\r\n", DATA=after) as relay,
        sending(f"smtp://127.0.0.1:{relay.port}?connections=1") as smtp,
    ):
        with pytest.raises(Bounced) as refused:
            await smtp.send(letter(), intent)
        relay.says.clear()
        await smtp.send(letter("other@example.com"), intent)
    assert (refused.value.verdict, refused.value.status) == ("hard", "5.1.1")
    assert relay.texts == [b"Subject: Hello\r\n\r\nHi"]
    assert relay.connections == 1


@pytest.mark.parametrize("extensions", [b"250-test\r\n250 PIPELINING\r\n", b"250 test\r\n"])
@pytest.mark.parametrize(
    ("step", "reply", "kind", "code", "connections"),
    [
        ("MAIL", HANG_UP, Deferred, "smtp_lost", 2),
        ("RCPT", HANG_UP, Deferred, "smtp_lost", 2),
        ("DATA", HANG_UP, Deferred, "smtp_lost", 2),
        ("DATA", STALL, Deferred, "smtp_lost", 1),
        ("RCPT", b"\x00\xff garbage\r\n", Deferred, "smtp_lost", 2),
        ("RCPT", b"421 4.7.0 too many\r\n" + HANG_UP, Throttled, "smtp_421", 1),
        ("RCPT", b"354 what\r\n", Deferred, "smtp_garbage", 1),
        ("TEXT", HANG_UP, Unknown, "smtp_unknown", 1),
        ("TEXT", STALL, Unknown, "smtp_unknown", 1),
        ("TEXT", b"HTTP/1.1 400 Bad Request\r\n", Unknown, "smtp_unknown", 1),
        ("TEXT", b"354 more\r\n", Unknown, "smtp_unknown", 1),
        ("TEXT", b"550 5.7.26 unauthenticated\r\n", Unwanted, "smtp_550", 1),
        ("HELLO", b"HTTP/1.1 400 Bad Request\r\n", Deferred, "smtp_garbage", 1),
        ("HELLO", HANG_UP, Deferred, "smtp_unreachable", 1),
        ("HELLO", b"421 4.3.2 shutting down\r\n" + HANG_UP, Deferred, "smtp_421", 1),
    ],
)
async def test_a_fault_is_known_by_how_far_the_message_got(
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    reply: bytes,
    kind: type[OvernightError],
    code: str,
    connections: int,
    extensions: bytes,
) -> None:
    monkeypatch.setattr(TAKING, 0.3)
    async with (
        wire(**{"EHLO": extensions, step: reply}) as relay,
        sending(f"smtp://127.0.0.1:{relay.port}?timeout=0.3") as smtp,
    ):
        with pytest.raises(kind) as fault:
            await smtp.send(letter(), intent)
        if kind is not Unwanted:
            assert smtp._idle == [], "nothing that is late is read as the reply to another message"
    assert type(fault.value) is kind or code == "smtp_unreachable"
    assert (fault.value.code, relay.connections) == (code, connections)
    assert bool(relay.texts) == (step == "TEXT")


async def test_a_relay_that_takes_its_time_is_waited_for() -> None:
    async with wire(DATA=STALL) as relay, sending(f"smtp://127.0.0.1:{relay.port}?timeout=5") as smtp:
        sent = asyncio.create_task(smtp.send(letter(), intent))
        await until(lambda: "DATA" in relay.commands)
        relay.writers[0].write(b"354 at last\r\n")
        await until(lambda: any(b"Subject" in data for data in relay.reads))
        relay.writers[0].write(b"250 ok\r\n")
        await sent


@pytest.mark.parametrize(("step", "reply"), [("TEXT", b"251 a\r\n"), ("RCPT", b"252 b\r\n"), ("MAIL", b"253 c\r\n")])
@pytest.mark.parametrize("extensions", [b"250-test\r\n250 PIPELINING\r\n", b"250 test\r\n"])
async def test_what_a_relay_says_with_a_two_in_front_is_yes(step: str, reply: bytes, extensions: bytes) -> None:
    async with wire(**{"EHLO": extensions, step: reply}) as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(letter(), intent)
    assert relay.texts == [b"Subject: Hello\r\n\r\nHi"]


@pytest.mark.parametrize(
    "says", [{"RCPT": b"354 what\r\n"}, {"MAIL": b"550 5.1.8 not you\r\n"}, {"MAIL": b"354 what\r\n"}]
)
async def test_where_a_recipient_may_have_been_taken_no_empty_mail_goes_out(says: dict[str, bytes]) -> None:
    async with wire(**says) as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        with pytest.raises(OvernightError):
            await smtp.send(letter(), intent)
        await until(relay.writers[0].is_closing)
    assert not any(data.startswith(b".") for data in relay.reads)
    assert relay.texts == []


async def test_the_reply_to_a_text_has_ten_minutes_of_its_own_and_none_of_the_item() -> None:
    assert conversation.TAKING == 600
    async with wire(TEXT=STALL) as relay, sending(f"smtp://127.0.0.1:{relay.port}?timeout=0.2&connections=1") as smtp:

        async def item() -> None:
            async with deadline(0.2):
                await smtp.send(letter(), intent)

        sent = asyncio.create_task(item())
        await until(lambda: any(b"Subject" in data for data in relay.reads))
        next_one = asyncio.create_task(item())  # has to wait for the connection
        await asyncio.sleep(0.4)  # twice what any other reply, and the item, may take
        relay.says.clear()
        relay.writers[0].write(b"250 ok\r\n")
        await asyncio.gather(sent, next_one)
    assert len(relay.texts) == 2


async def test_who_must_stop_does_not_wait_for_the_reply_to_a_text() -> None:
    async with wire(TEXT=STALL) as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        sent = asyncio.create_task(smtp.send(letter(), intent))
        await until(lambda: any(b"Subject" in data for data in relay.reads))
        sent.cancel()
        await asyncio.wait({sent}, timeout=5)
        assert sent.cancelled()
        assert smtp._idle == []


async def test_a_message_given_up_in_the_middle_takes_its_connection_with_it() -> None:
    async with wire(TEXT=STALL) as relay, sending(f"smtp://127.0.0.1:{relay.port}?connections=1") as smtp:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await smtp.send(letter(), intent)
        relay.says.clear()
        await smtp.send(letter("other@example.com"), intent)
    assert relay.connections == 2


async def test_an_intent_that_is_refused_ends_the_connection_that_waits_for_a_text() -> None:
    async def fenced() -> None:
        raise Fenced("taken over")

    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}?connections=1") as smtp:
        with pytest.raises(Fenced):
            await smtp.send(letter(), fenced)
        assert smtp._idle == []
    assert relay.texts == []


async def test_a_connection_lost_while_the_intent_is_committed_is_replaced_and_nothing_is_unknown() -> None:
    notes: list[int] = []

    async def note() -> None:
        notes.append(relay.connections)
        if relay.connections == 1:
            relay.writers[0].transport.abort()
            await asyncio.sleep(0.05)

    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(letter(), note)
    assert (notes, len(relay.texts)) == ([1, 2], 1)


async def test_what_a_relay_says_unasked_ends_its_connection() -> None:
    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}?connections=1") as smtp:
        await smtp.send(letter(), intent)
        relay.writers[0].write(b"421 4.4.2 idle\r\n")
        await asyncio.sleep(0.05)
        await smtp.send(letter("other@example.com"), intent)
    assert (relay.connections, len(relay.texts)) == (2, 2)


async def test_a_certificate_that_has_expired_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificate(tmp_path, days=-1)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with wire(tls=context) as relay, sending(f"smtps://127.0.0.1:{relay.port}") as smtp:
        with pytest.raises(Stop, match="expired") as stopped:
            await smtp.send(letter(), intent)
    assert (stopped.value.code, relay.commands) == ("smtp_tls", [])


@pytest.mark.parametrize("address", ["a b@example.com", "a@example.com>\r\nRCPT TO:<evil@example.com", "a\0@x.com"])
async def test_no_address_can_become_a_second_command(address: str) -> None:
    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        with pytest.raises(Permanent):
            await smtp.send(letter(address), intent)
    assert not [line for line in relay.commands if line.startswith(("MAIL", "RCPT"))]


async def test_an_address_beyond_ascii_goes_only_where_it_is_understood() -> None:
    mail: Letter = replace(letter("jörg@example.com"), utf8=True)
    async with wire() as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        with pytest.raises(Permanent, match="SMTPUTF8"):
            await smtp.send(mail, intent)
    async with wire(EHLO=b"250-test\r\n250 SMTPUTF8\r\n") as relay, sending(f"smtp://127.0.0.1:{relay.port}") as smtp:
        await smtp.send(mail, intent)
    assert "RCPT TO:<jörg@example.com>" in relay.commands
    assert "MAIL FROM:<news@example.org> SMTPUTF8" in relay.commands


@pytest.mark.parametrize(
    ("text", "wire_form"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".a\r\n..b\r\n.\r\n", b"..a\r\n...b\r\n..\r\n.\r\n"),
        (b"a\n.\nb\rc", b"a\r\n..\r\nb\r\nc\r\n.\r\n"),
        (b"", b"\r\n.\r\n"),
    ],
)
def test_no_text_ends_before_its_end(text: bytes, wire_form: bytes) -> None:
    assert stuffed(text) == wire_form
