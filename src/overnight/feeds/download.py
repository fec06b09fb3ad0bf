"""Fetch a feed over HTTP with limits on redirects and on decompressed size; nothing here waits without end."""

import ipaddress
import socket
from importlib.metadata import version

import aiohttp

from overnight.dependency import dependencies
from overnight.errors import OvernightError, Transient
from overnight.feeds.entry import Feed, NotReadable
from overnight.retry import retry_after

MAX_REDIRECTS = 5
LATER = (429, 502, 503, 504)
CHUNK = 65_536
HEADERS = {
    "User-Agent": f"overnight/{version('overnight')}",
    "Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1",
}


async def download(feed: Feed, *, limit: int) -> bytes:
    """At most `limit` decompressed bytes of the body.

    Raises Transient when the host does not answer, is overloaded or down (429, 502, 503, 504); NotReadable for what is
    wrong with this feed alone, an error 500 of its page included: other feeds of the host may be well. The deadline is
    the caller's. Proxy variables and `.netrc` are not read.
    """
    connector = aiohttp.TCPConnector(socket_factory=NoWayInside(feed.name))
    # Each feed has a session of its own, so that no cookie of one site is shown to another.
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        try:
            return await _get(session, feed, limit)
        except aiohttp.TooManyRedirects:
            raise NotReadable(
                f"{feed.name} redirects more than {MAX_REDIRECTS} times", code="too_many_redirects"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.RedirectClientError, ValueError):
            raise NotReadable(f"{feed.name} is not, or redirects to, a valid http(s) URL", code="invalid_url") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientPayloadError) as error:
            raise NotReadable(_unreachable(feed, error), code="unreachable") from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise Transient(_unreachable(feed, error), code="unreachable") from None
        except aiohttp.ClientError as error:
            raise NotReadable(_unreachable(feed, error), code="unreachable") from None


def _unreachable(feed: Feed, error: Exception) -> str:
    # Its kind, not its text: that can quote the URL with its password.
    return f"{feed.name} could not be fetched ({type(error).__name__})"


async def _get(session: aiohttp.ClientSession, feed: Feed, limit: int) -> bytes:
    # aiohttp gives up at the redirect with this number, hence one more.
    async with session.get(feed.source, headers=HEADERS, max_redirects=MAX_REDIRECTS + 1) as response:
        if response.status != 200:
            raise _refused(feed, response)
        body = bytearray()
        while len(body) < limit and (chunk := await response.content.read(CHUNK)):
            body += chunk
        return bytes(body[:limit])


def _refused(feed: Feed, response: aiohttp.ClientResponse) -> OvernightError:
    said, code = f"{feed.name} answered {response.status} {response.reason}", f"http_{response.status}"
    if response.status not in LATER:
        return NotReadable(said, code=code)
    return Transient(said, code=code, after=retry_after(response.headers, dependencies().clock))


class NoWayInside:
    """Opens sockets for one download; a public site must not redirect us into the private network.

    The operator may name a private address; who has once connected to a public one gets public ones only. It looks
    at the address really connected to, so neither spelling nor a second DNS answer helps.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._public = False

    def __call__(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """Open a socket for `address`; raises NotReadable for a private address after a public one."""
        family, kind, protocol, _, target = address
        is_public = _is_public(str(target[0]))
        if self._public and not is_public:
            raise NotReadable(f"{self._name} redirects into a private network", code="forbidden_redirect")
        self._public = self._public or is_public
        return socket.socket(family, kind, protocol)


def _is_public(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_global)
