"""`http.get`: one page of a host that the role names, and no way into the private network.

What is looked at is the address that a socket is really opened to, on every hop: no spelling of an address, no second
answer of a name server and no redirect leads around that. Behind a proxy nobody could look, so none is used.
"""

import ipaddress
import re
import socket
from typing import Annotated, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from pydantic import AfterValidator, Field

from overnight.deadline import off_the_clock
from overnight.errors import Denied, Permanent, Transient
from overnight.tools.port import Arguments, Hands, Limits, tool

HOPS = 5
CHUNK = 65_536
READABLE = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/atom+xml",
            "application/rss+xml")  # fmt: skip
_HOST = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*|[0-9a-fA-F:]*:[0-9a-fA-F:.]*")

# All of IPv6 that is given out. Outside lie spellings of IPv4 addresses (NAT64, `::a.b.c.d`) and retired private ones.
_GLOBAL = ipaddress.ip_network("2000::/3")
# Python up to 3.12 calls most of these public; a cloud has its metadata at 192.0.0.192.
_SPECIAL = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("192.88.99.0/24"))


def _host(pattern: str) -> str:
    """Refuse what no host could ever be like: it would deny every page, and nobody would know why."""
    if not _HOST.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is no host; write example.org without https://, or *.example.org for all below")
    return pattern


class Hosts(Limits):
    """Hosts that may be asked, `*.example.org` for all below one; `private` allows those in a network of your own."""

    hosts: list[Annotated[str, AfterValidator(_host)]] = Field(min_length=1)
    """Names of hosts; `*.example.org` is all below one."""
    private: bool = False
    """Whether addresses of private networks may be asked."""
    plain_http: bool = False
    """Whether http is allowed beside https."""
    max_bytes: int = Field(default=500_000, ge=1, le=20_000_000)
    """The most that is read of a page."""
    seconds: float = Field(default=30, gt=0, le=300)
    """How long a page may take."""

    def refuse(self, asked: "Page") -> None:
        """See `checked`."""
        self.checked(asked.url)

    def checked(self, url: str) -> SplitResult:
        """Return the parts of an address that may be asked. Raises Denied."""
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError as error:
            raise Denied(f"{url!r:.200} is no web address", code="url") from error
        schemes = ("https", "http") if self.plain_http else ("https",)
        if parts.scheme not in schemes or any(ord(char) <= 32 or char == "\\" for char in url):
            raise Denied(f"{url!r:.200}: only {' and '.join(schemes)} addresses may be asked", code="scheme")
        if "@" in parts.netloc:
            raise Denied("an address with a user name in it may not be asked", code="url")
        if not any(_covers(pattern.lower(), host) for pattern in self.hosts):
            raise Denied(f"the host {host!r:.100} may not be asked; allowed: {', '.join(self.hosts)}", code="host")
        return parts


class Page(Arguments):
    """One address."""

    url: str = Field(max_length=2_000)


@tool("http.get", outward=True)
async def get(asked: Page, limits: Hosts, hands: Hands) -> dict[str, Any]:
    """Fetch a page as text, with its final address and status. Long pages are cut."""

    async def once() -> dict[str, Any]:
        return await _fetched(asked.url, limits)

    host = limits.checked(asked.url).hostname
    answer: dict[str, Any] = await hands.sides.of(f"http:{host}").call(once, requests=1)
    return answer


async def _fetched(url: str, limits: Hosts) -> dict[str, Any]:
    import asyncio  # noqa: PLC0415  with aiohttp, which is loaded late

    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(socket_factory=_Gate(limits), use_dns_cache=False)
    plain, jar = aiohttp.ClientTimeout(total=None), aiohttp.DummyCookieJar()  # the time is ours, off the item's clock
    session = aiohttp.ClientSession(connector=connector, timeout=plain, cookie_jar=jar)
    try:
        async with off_the_clock(), asyncio.timeout(limits.seconds):
            return await _followed(session, url, limits)
    except TimeoutError as error:
        raise Transient(f"{url:.200} did not come within {limits.seconds:g} s", code="timeout") from error
    except (aiohttp.InvalidURL, ValueError) as error:
        raise Denied(f"{url!r:.200} is no web address", code="url") from error
    except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
        said = f"{url:.200} did not answer as a web server does ({type(error).__name__})"
        raise Permanent(said, code="garbled") from error
    except (aiohttp.ClientError, OSError) as error:
        if _invented(error, limits):
            raise Permanent(f"{url:.200}: there is no such host", code="no_host") from error
        raise Transient(f"{url:.200} cannot be reached ({type(error).__name__})", code="unreachable") from error
    finally:
        await session.close()


def _invented(error: Any, limits: Hosts) -> bool:
    """Whether a name is unknown which only a pattern allows: the model corrects it; another is waited for."""
    unknown = getattr(getattr(error, "os_error", None), "errno", None) == socket.EAI_NONAME
    return unknown and error.host.lower() not in map(str.lower, limits.hosts)


async def _followed(session: Any, url: str, limits: Hosts) -> dict[str, Any]:
    for _ in range(HOPS + 1):
        limits.checked(url)
        async with session.get(url, allow_redirects=False, max_line_size=16_384) as response:
            if response.status in (301, 302, 303, 307, 308) and "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                continue
            if response.status in (429, 502, 503, 504):
                raise Transient(f"{url:.200} answered {response.status}", code=f"http_{response.status}")
            return await _text(response, url, limits)
    raise Permanent(f"it redirects more than {HOPS} times", code="too_many_redirects")


async def _text(response: Any, url: str, limits: Hosts) -> dict[str, Any]:
    kind = response.content_type
    if not kind.startswith(READABLE):
        raise Permanent(f"{url:.200} is {kind:.60}, not text", code="not_text")
    body = bytearray()
    while len(body) < limits.max_bytes and (chunk := await response.content.read(CHUNK)):  # as it is after unpacking
        body += chunk
    cut = len(body) >= limits.max_bytes
    text = _decoded(bytes(body[: limits.max_bytes]), response.charset or "utf-8")
    return {"url": url, "status": response.status, "cut": cut, "text": text}


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset, errors="replace")
    except (LookupError, ValueError):  # a charset that nobody knows, or that is none for text
        return body.decode(errors="replace")


class _Gate:
    """Opens sockets to public addresses only; with `private` also to a network of the operator's, never link-local."""

    def __init__(self, limits: Hosts) -> None:
        self._private = limits.private

    def __call__(self, address: Any) -> socket.socket:
        """Open a socket for an address that is about to be connected to. Raises Denied."""
        family, kind, protocol, _, target = address
        host = str(target[0])
        if not _open_to(host, private=self._private):
            raise Denied(f"{host} is in a private network, which may not be asked", code="private_address")
        return socket.socket(family, kind, protocol)


def _open_to(host: str, *, private: bool) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    for inner in ("ipv4_mapped", "sixtofour"):  # an IPv4 address in the clothes of another
        address = getattr(address, inner, None) or address
    special = any(address in network for network in _SPECIAL)
    usable = not (special or address.is_link_local or address.is_multicast or address.is_unspecified)
    return usable and (private or (address.is_global and (address.version == 4 or address in _GLOBAL)))


def _covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) and host != pattern[2:] if pattern.startswith("*.") else host == pattern
