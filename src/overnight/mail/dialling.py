"""Opening a connection to a relay: TLS where it is offered by another machine, or required, then the login.

aiosmtplib connects, negotiates and logs in; what follows is `Line`'s, which can send several commands at once.
"""

import asyncio
import os
import ssl
from functools import lru_cache

import aiosmtplib

from overnight.errors import Deferred, Stop
from overnight.mail.line import Line, Lost
from overnight.mail.relay import Relay
from overnight.mail.replies import RETRY_FOR, classify

_LOST = (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, ConnectionError, TimeoutError)
_KNOWN = ("pipelining", "dsn", "smtputf8")


class Unreachable(Deferred):
    """Nobody answers there."""


@lru_cache(maxsize=1)
def _trust(*_where: str | None) -> ssl.SSLContext:
    """Whom we trust: read once, for it takes as long as handing over twenty mails; anew where it is looked for anew."""
    return ssl.create_default_context()


async def dial(relay: Relay) -> Line:
    """Connect and log in.

    Raises Unreachable, Deferred (a greeting of 421), Lost (hung up half-way), or Stop: a certificate that cannot
    be trusted, no TLS where it is needed, a refused login.
    """
    client = aiosmtplib.SMTP(
        hostname=relay.host,
        port=relay.port,
        use_tls=relay.tls,
        start_tls=False if relay.tls or (relay.loopback and not relay.starttls) else None,  # None: when offered
        timeout=relay.timeout,
        tls_context=_trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
    )
    try:
        await _connect(client, relay)
        _check_tls(client, relay)
        await _login(client, relay)
        extensions = frozenset(name for name in _KNOWN if client.supports_extension(name))
        return Line(_transport_of(client), relay.timeout, extensions)
    except _LOST as error:
        client.close()
        raise Lost(str(error)) from error
    except BaseException:
        client.close()
        raise


async def _connect(client: aiosmtplib.SMTP, relay: Relay) -> None:
    try:
        await client.connect()
        await _introduce(client)
    except ssl.SSLError as error:
        raise _untrusted(relay, error) from error
    except aiosmtplib.SMTPResponseException as error:
        raise classify("greeting", error.code, error.message) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise _untrusted(relay, error.__cause__) from error
        told = f"{relay.place} cannot be reached: {error}"
        raise Unreachable(told, code="smtp_unreachable", within=RETRY_FOR) from error


async def _introduce(client: aiosmtplib.SMTP) -> None:
    if client.is_ehlo_or_helo_needed:
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError:
            await client.helo()


def _transport_of(client: aiosmtplib.SMTP) -> asyncio.BaseTransport:
    if client.transport is None:
        raise Lost("closed after the greeting")
    return client.transport


def _check_tls(client: aiosmtplib.SMTP, relay: Relay) -> None:
    if relay.starttls and client.get_transport_info("sslcontext") is None:
        raise Stop(
            f"{relay.place} does not offer STARTTLS, which `mail: transport` requires; nothing was sent",
            code="smtp_tls",
        )


async def _login(client: aiosmtplib.SMTP, relay: Relay) -> None:
    if not relay.user:
        return
    if client.get_transport_info("sslcontext") is None and not relay.loopback:
        raise Stop(
            f"{relay.place} offers no TLS: the password is not sent in the clear; use smtps://, or a relay with "
            "STARTTLS; nothing was sent",
            code="smtp_tls",
        )
    try:
        await client.login(relay.user, relay.password)
    except aiosmtplib.SMTPResponseException as error:
        raise classify("auth", error.code, error.message) from error
    except aiosmtplib.SMTPNotSupported as error:
        told = f"{relay.place} offers no login that we know: remove user and password"
        if relay.loopback and not relay.starttls:
            told += ", or add ?starttls=required, if it takes them over TLS only"
        raise Stop(told, code="smtp_auth") from error


def _untrusted(relay: Relay, error: ssl.SSLError) -> Stop:
    why = getattr(error, "verify_message", "") or error.reason
    return Stop(
        f"{relay.place}: the certificate cannot be trusted ({why}); correct the host name, or name the authority in "
        "SSL_CERT_FILE; nothing was sent",
        code="smtp_tls",
    )
