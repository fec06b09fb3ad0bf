"""A mail relay in a process of its own: keeps what it accepts in a folder, and behaves as a rules file says.

The rules are read anew for each command, so that a test can change them while a run goes on:

    {"refuse": {"a@example.org": "550 5.1.1 No such user"},   replies to RCPT TO
     "hang_up": ["b@example.org"],                            the text is taken, then the line goes dead
     "delay": 0.02,                                           seconds each text takes
     "hold": 5,                                               with so many mails taken, texts wait while the rule stands
     "login": ["user", "password"]}                           who may send; absent: anybody

A text that breaks the rules of tests/mailcheck.py is refused, whatever the test is about.

Usage: relay.py SPOOL RULES; prints its port. Beside the mails the spool has `asked.log`, a line for each recipient.
"""

import asyncio
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

sys.path.insert(0, str(Path(__file__).parents[2]))  # this file is run by its path

from tests.mailcheck import check  # see above


class Relay:
    """The handler of all connections."""

    def __init__(self, spool: Path, rules: Path) -> None:
        self.spool, self._rules = spool, rules
        self._numbers = itertools.count(len(list(spool.glob("*.eml"))) + 1)

    @property
    def rules(self) -> dict[str, Any]:
        """What holds at this moment."""
        rules: dict[str, Any] = json.loads(self._rules.read_text(encoding="utf-8"))
        return rules

    def connection(self) -> SMTP:
        """One conversation."""
        return SMTP(self, authenticator=self._authenticate, auth_require_tls=False, hostname="relay.test")

    def _authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, who: Any) -> AuthResult:
        assert isinstance(who, LoginPassword)
        known = [who.login.decode(), who.password.decode()] == self.rules.get("login")
        return AuthResult(success=known, handled=False)  # not handled: aiosmtpd is to write the reply

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or not."""
        if "login" in self.rules and not session.authenticated:
            return "530 5.7.0 Log in first"
        with (self.spool / "asked.log").open("a", encoding="utf-8") as log:
            log.write(f"{address}\n")
        reply: str | None = self.rules.get("refuse", {}).get(address)
        if reply:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a text: it is on disk before the sender hears of it."""
        while len(list(self.spool.glob("*.eml"))) >= self.rules.get("hold", math.inf):  # noqa: ASYNC110  a file has no events
            await asyncio.sleep(0.01)
        rules = self.rules
        await asyncio.sleep(rules.get("delay", 0))
        assert isinstance(envelope.content, bytes)
        try:
            check(envelope.content)
        except AssertionError as error:
            return f"554 5.6.0 No mailbox would take this: {error}"[:500].replace("\n", " ")
        name = f"{next(self._numbers):05}"
        partial = self.spool / f"{name}.part"
        partial.write_bytes(f"X-Recipient: {envelope.rcpt_tos[0]}\r\n".encode() + envelope.content)
        partial.rename(self.spool / f"{name}.eml")
        if envelope.rcpt_tos[0] in rules.get("hang_up", ()):
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 2.0.0 Taken"


async def _main(spool: Path, rules: Path) -> None:
    relay = Relay(spool, rules)
    server = await asyncio.get_running_loop().create_server(relay.connection, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
