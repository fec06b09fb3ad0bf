"""Whether the other sides can be reached: a connection is opened and closed, nothing is asked, nothing costs a token.

Each is tried at most twice a minute, however often somebody asks.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from overnight.clock import Clock
from overnight.health.report import Finding
from overnight.proxies import proxy_for
from overnight.schedule import Schedule

FRESH = 30.0  # seconds
TIMEOUT = 1.5  # seconds: below the patience of a check
PORTS = {"https": 443, "http": 80, "smtp": 587, "smtp+starttls": 587, "smtps": 465}
API = "https://api.anthropic.com"


@dataclass(slots=True)
class Reach:
    """Remembers for half a minute what was found."""

    clock: Clock
    _known: dict[tuple[str, int], tuple[float, Finding]] = field(default_factory=dict)

    async def of(self, url: str) -> Finding:
        """Whether a connection to the URL's host can be opened; an empty URL is nothing that has to be reached."""
        if not url:
            return Finding("healthy", "not used")
        parts = urlsplit(url)
        at = (parts.hostname or "", parts.port or PORTS[parts.scheme])
        known = self._known.get(at)
        if known is None or self.clock.monotonic() - known[0] >= FRESH:
            known = self._known[at] = (self.clock.monotonic(), await _tried(*at))
        return known[1]


async def _tried(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Finding("degraded", f"{host}:{port} does not answer within {TIMEOUT:g} s")
    except OSError as error:
        return Finding("degraded", f"{host}:{port} cannot be reached: {error.strerror or type(error).__name__}")
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Finding("healthy", f"{host}:{port} can be reached")


def mail_of(schedule: Schedule) -> str:
    """The relay, nothing for a folder."""
    transport = schedule.mail.transport
    return transport if transport.startswith("smtp") else ""


def store_of(schedule: Schedule) -> str:
    """The endpoint of the bucket, nothing for a folder."""
    if not schedule.reports.to.startswith("s3://"):
        return ""
    environ = schedule.environ
    own = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return _on_the_way(own or f"https://s3.{region}.amazonaws.com")


def model_of(schedule: Schedule) -> str:
    """The API, nothing where no role is declared."""
    return _on_the_way(schedule.environ.get("ANTHROPIC_BASE_URL") or API) if schedule.roles else ""


def _on_the_way(url: str) -> str:
    """The proxy that stands before the URL, if one does."""
    return proxy_for(url) or url
