"""Handing one message over, and an exact idea of how far it got.

A connection is lost at one of three points: before the text goes out it is safe to try again; after it, without a
reply, nobody can tell; after the reply it does not matter. The intent is committed once the relay is ready for the text
(354) and before the first byte of it is sent.

A relay that offers PIPELINING gets sender, recipient and DATA in one write: two round trips a message where there were
four. No byte of the text is among them.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

from overnight.deadline import off_the_clock
from overnight.errors import Permanent, Unknown
from overnight.mail.line import Line, Lost, Reply
from overnight.mail.replies import CLOSING, Phase, classify
from overnight.mail.transport import Intent, Letter

TAKING = 600.0  # seconds for the reply to the text (RFC 5321, 4.5.3.2.6): who gives up sooner gets mail sent twice
_READY = 354
_CONTROL = re.compile(r"[\x00-\x20\x7f<>]")
_LONE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")


class LostBeforeText(Exception):
    """Nothing of the message has gone out."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(str(lost))
        self.silent = lost.silent


@dataclass(slots=True)
class Conversation:
    """One message at a time over one connection."""

    line: Line
    sent: int = 0
    used_at: float = 0.0

    async def deliver(self, letter: Letter, intent: Intent) -> None:
        """Send it. Raises LostBeforeText, Unknown, what `intent` raises, or what the relay's refusal means."""
        try:
            await self._envelope(letter)
        except Lost as lost:
            raise LostBeforeText(lost) from lost
        try:
            await intent()
        except BaseException:
            self.line.close()  # the relay waits for a text, and would take anything for it
            raise
        if not self.line.quiet:
            raise LostBeforeText(Lost("the connection was closed before the text"))
        reply = await self._text(letter.data)
        if not _taken(reply):
            raise await self._refused("data", reply) if _refusing(reply) else self._puzzled(reply)
        self.sent += 1

    async def _envelope(self, letter: Letter) -> None:
        """Sender, recipient and DATA, up to the 354. Raises Lost, or what the first refusal means."""
        commands = self._commands(letter)
        at_once = "pipelining" in self.line.extensions
        if at_once:
            self.line.write(b"".join(commands.values()))
        refusal: tuple[Phase, Reply] | None = None
        nobody = False  # gets a text that is sent after all
        for phase, command in commands.items():
            if not at_once:
                self.line.write(command)
            try:
                reply = await self.line.reply()
            except Lost:
                if refusal is None:
                    raise
                break  # it has hung up after its refusal
            nobody = nobody or (phase == "recipient" and _refusing(reply))
            if refusal is None and not (reply.code == _READY if phase == "data" else _taken(reply)):
                refusal = (phase, reply)
                if not at_once:
                    break
            elif refusal is not None and reply.code == _READY:
                await self._empty_text(nobody=nobody)
        if refusal is not None:
            raise await self._refused(*refusal)

    def _commands(self, letter: Letter) -> dict[Phase, bytes]:
        offered = self.line.extensions
        if letter.utf8 and "smtputf8" not in offered:
            raise Permanent(
                "the address needs SMTPUTF8, which the mail server does not offer; nothing was sent", code="address"
            )
        sender, recipient = f"MAIL FROM:<{_safe(letter.sender)}>", f"RCPT TO:<{_safe(letter.recipient)}>"
        if letter.utf8:
            sender += " SMTPUTF8"
        if "dsn" in offered:
            sender += f" RET=HDRS ENVID={_safe(letter.envid)}"
            recipient += f" ORCPT={_safe(letter.orcpt)}"
        return {"sender": f"{sender}\r\n".encode(), "recipient": f"{recipient}\r\n".encode(), "data": b"DATA\r\n"}

    async def _text(self, data: bytes) -> Reply:
        try:
            self.line.write(stuffed(data))
            async with off_the_clock():  # given up for the item's time, nobody would know
                return await self.line.reply(TAKING)
        except Lost as lost:
            raise Unknown(
                f"the connection was lost after the message was handed over ({lost}): it may have arrived",
                code="smtp_unknown",
            ) from lost

    async def _empty_text(self, *, nobody: bool) -> None:
        """End the text that a relay wants although it has taken no recipient (RFC 2920), or hang up if it may have."""
        if not nobody:
            self.line.close()
            return
        with suppress(Lost):
            self.line.write(b".\r\n")
            await self.line.reply()

    def _puzzled(self, reply: Reply) -> Unknown:
        self.line.close()
        said = f"{reply.code} {reply.text}"[:200]
        return Unknown(f"the mail server answers the message with {said}: it may have arrived", code="smtp_unknown")

    async def _refused(self, phase: Phase, reply: Reply) -> Exception:
        if reply.code == CLOSING or not _refusing(reply):
            self.line.close()
        with suppress(Lost):
            self.line.write(b"RSET\r\n")
            await self.line.reply()
        return classify(phase, reply.code, reply.text)


def _taken(reply: Reply) -> bool:
    """Judged by the first digit, as RFC 5321 has it (4.3.2): servers have codes of their own behind it."""
    return 200 <= reply.code < 300


def _refusing(reply: Reply) -> bool:
    return 400 <= reply.code < 600


def stuffed(data: bytes) -> bytes:
    """The text as it goes over the wire: CRLF, lines that begin with a dot doubled it, and the end."""
    if not data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r"):
        data = _LONE_END.sub(b"\r\n", data)
    text = data.replace(b"\r\n.", b"\r\n..")
    if text.startswith(b"."):
        text = b"." + text
    return text + (b".\r\n" if text.endswith(b"\r\n") else b"\r\n.\r\n")


def _safe(text: str) -> str:
    """Refuse what could end a command and begin another. The addresses were checked before: this is the last door."""
    if _CONTROL.search(text):
        raise Permanent("an address contains a character that no command may carry; nothing was sent", code="address")
    return text
