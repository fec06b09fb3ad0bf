"""Mail through an SMTP relay: a small pool of connections, and an exact idea of how far each message got.

A connection is lost at one of three points, and aiosmtplib raises the same class for all: before DATA nothing went
out and it is safe to try again; after DATA without a reply nobody can tell; after the reply it does not matter.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from overnight.clock import Clock
from overnight.errors import ConfigError, Deferred, OvernightError, Stop, Unknown
from overnight.mail import fuse
from overnight.mail.replies import RETRY_AFTER, Phase, classify
from overnight.mail.transport import Intent, Letter

PER_CONNECTION = 100  # messages; relays cut longer ones
IDLE_MAX = 60.0  # seconds; an older connection has probably been closed by the server
DOWN_FOR = 30.0  # seconds for which an unreachable relay is not asked again: a run must not time out once per item
_PORTS = {"smtp": 587, "smtps": 465, "smtp+starttls": 587}
_OPTIONS = frozenset({"starttls", "connections", "timeout"})
_LOST = (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Relay:
    """Where and how to connect.

    `starttls`: required; otherwise it is used when offered. `timeout` in seconds for each command.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    starttls: bool = False
    connections: int = 4
    timeout: float = 60.0

    @classmethod
    def parse(cls, url: str) -> Self:
        """`smtp://user:pass@host:port`, `smtps://…` (TLS from the start), `smtp+starttls://…` (required).

        Options: `?starttls=required|auto`, `connections=4`, `timeout=60`. Raises ConfigError, without the password.
        """
        try:
            parts = urlsplit(url)
            options = {
                name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
            }
            if not parts.hostname or parts.scheme not in _PORTS or options.keys() - _OPTIONS:
                raise ValueError  # noqa: TRY301
            starttls = {"required": True, "auto": False}[options.get("starttls", "auto")]
            return cls(
                host=parts.hostname,
                port=parts.port or _PORTS[parts.scheme],
                user=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                tls=parts.scheme == "smtps",
                starttls=starttls or parts.scheme == "smtp+starttls",
                connections=max(1, int(options.get("connections", "4"))),
                timeout=float(options.get("timeout", "60")),
            )
        except (ValueError, KeyError):
            raise ConfigError(
                "mail: transport: not a URL of a mail relay; write smtp://user:password@host:587, smtps://… or "
                "smtp+starttls://…, with ?starttls=required|auto, connections=N, timeout=SECONDS"
            ) from None

    @property
    def place(self) -> str:
        """For people: `smtp relay.example.org:587`."""
        return f"smtp {self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether the relay is on this machine, where nobody can listen on the wire."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False


class _LostBeforeData(Exception):
    """Nothing of the message has gone out."""


@dataclass(slots=True)
class _Connection:
    """One conversation with the relay; strictly one message at a time."""

    client: aiosmtplib.SMTP
    sent: int = 0
    used_at: float = 0.0
    healthy: bool = True

    async def deliver(self, letter: Letter, intent: Intent) -> None:
        phase: Phase = "sender"
        try:
            await self.client.mail(letter.sender)
            phase = "recipient"
            await self.client.rcpt(letter.recipient)
        except aiosmtplib.SMTPResponseException as error:
            raise await self._refused(phase, error) from error
        except _LOST as error:
            raise _LostBeforeData(str(error)) from error
        await self._before_data(intent)
        try:
            await self.client.data(letter.data)
        except aiosmtplib.SMTPResponseException as error:
            raise await self._refused("data", error) from error
        except _LOST as error:
            raise Unknown(
                f"the connection was lost after the message was handed over ({error}): it may have arrived",
                code="smtp_unknown",
            ) from error
        self.sent += 1

    async def _before_data(self, intent: Intent) -> None:
        """Take the envelope back when the intent is refused, so that the connection stays of use."""
        try:
            await intent()
        except OvernightError:
            await self._reset()
            raise

    async def _refused(self, phase: Phase, error: aiosmtplib.SMTPResponseException) -> OvernightError:
        self.healthy = error.code != 421  # 421: the server is about to hang up
        await self._reset()
        return classify(phase, error.code, error.message)

    async def _reset(self) -> None:
        try:
            if self.healthy:
                await self.client.rset()
        except (aiosmtplib.SMTPException, OSError):
            self.healthy = False


class Smtp:
    """The transport through a relay. At most `relay.connections` messages are under way, so as many may be unknown."""

    real = True
    reconciles = False

    def __init__(self, relay: Relay, clock: Clock) -> None:
        self.place = relay.place
        self._relay = relay
        self._clock = clock
        self._turns = asyncio.Semaphore(relay.connections)
        self._idle: list[_Connection] = []
        self._down_until = 0.0

    async def send(self, letter: Letter, intent: Intent) -> None:
        """Hand one message over; a connection lost before DATA is replaced once."""
        async with self._turns:
            with suppress(_LostBeforeData):
                return await self._attempt(letter, intent)
            self._drop_idle()  # what killed this one has killed them all
            try:
                return await self._attempt(letter, intent)
            except _LostBeforeData as error:
                raise Deferred(
                    f"{self.place} closed the connection twice before it took the message ({error})",
                    code="smtp_lost",
                    after=RETRY_AFTER,
                ) from error

    async def check(self) -> None:
        """Connect, agree on TLS and log in, as before a message. Raises what `send` raises for these."""
        try:
            self._give_back(await self._open())
        except _LostBeforeData as error:
            raise self._unreachable(str(error)) from error

    async def delivered(self, letter: Letter) -> bool:  # noqa: ARG002
        """Say no: a relay cannot be asked, `reconciles` is False."""
        return False

    async def close(self) -> None:
        """Say goodbye on every connection."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(aiosmtplib.SMTPException, OSError):
                await connection.client.quit()
            connection.client.close()

    async def _attempt(self, letter: Letter, intent: Intent) -> None:
        async with self._connection() as connection:
            await connection.deliver(letter, intent)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """Lend a connection for one message; one with a lost reply is closed, or that would be taken for the next's."""
        connection = self._reusable() or await self._open()
        try:
            yield connection
        except (Unknown, _LostBeforeData):
            connection.client.close()
            raise
        except OvernightError:
            self._give_back(connection)
            raise
        except BaseException:  # cancelled in the middle of a conversation
            connection.client.close()
            raise
        else:
            self._give_back(connection)

    def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected and self._clock.monotonic() - connection.used_at < IDLE_MAX:
                return connection
            connection.client.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        if connection.healthy and connection.sent < PER_CONNECTION and connection.client.is_connected:
            connection.used_at = self._clock.monotonic()
            self._idle.append(connection)
        else:
            connection.client.close()

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.client.close()
        self._idle.clear()

    async def _open(self) -> _Connection:
        fuse.check()
        if self._clock.monotonic() < self._down_until:
            raise self._unreachable("it did not answer a moment ago")
        client = aiosmtplib.SMTP(
            hostname=self._relay.host,
            port=self._relay.port,
            use_tls=self._relay.tls,
            start_tls=False if self._relay.tls else None,  # None: when offered
            timeout=self._relay.timeout,
            tls_context=ssl.create_default_context(),
        )
        try:
            await self._connect(client)
            self._check_tls(client)
            await self._login(client)
        except BaseException:
            client.close()
            raise
        return _Connection(client)

    async def _connect(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.connect()
        except ssl.SSLError as error:
            raise self._untrusted(error) from error
        except aiosmtplib.SMTPResponseException as error:
            raise classify("greeting", error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise self._untrusted(error.__cause__) from error
            self._down_until = self._clock.monotonic() + DOWN_FOR
            raise self._unreachable(str(error)) from error

    def _check_tls(self, client: aiosmtplib.SMTP) -> None:
        if self._relay.starttls and client.get_transport_info("sslcontext") is None:
            raise Stop(
                f"{self.place} does not offer STARTTLS, which `mail: transport` requires; nothing was sent",
                code="smtp_tls",
            )

    async def _login(self, client: aiosmtplib.SMTP) -> None:
        if not self._relay.user:
            return
        if client.get_transport_info("sslcontext") is None and not self._relay.loopback:
            raise Stop(
                f"{self.place} offers no TLS: the password is not sent in the clear; use smtps://, or a relay with "
                "STARTTLS; nothing was sent",
                code="smtp_tls",
            )
        try:
            await client.login(self._relay.user, self._relay.password)
        except aiosmtplib.SMTPResponseException as error:
            raise classify("auth", error.code, error.message) from error
        except aiosmtplib.SMTPNotSupported as error:
            raise Stop(
                f"{self.place} offers no login that we know: remove user and password", code="smtp_auth"
            ) from error
        except _LOST as error:
            raise _LostBeforeData(str(error)) from error

    def _unreachable(self, why: str) -> Deferred:
        return Deferred(f"{self.place} cannot be reached: {why}", code="smtp_unreachable", after=RETRY_AFTER)

    def _untrusted(self, error: ssl.SSLError) -> Stop:
        return Stop(
            f"{self.place}: the certificate cannot be trusted ({error.reason}); correct the host name, or name the "
            "authority in SSL_CERT_FILE; nothing was sent",
            code="smtp_tls",
        )
