"""Who may see more than a word: this machine, or with OVERNIGHT_TOKEN set whoever brings it."""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from overnight.runner import Workplace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host")  # what proxies add, some of which name us as the host


def token_of(work: Workplace) -> str:
    """`OVERNIGHT_TOKEN`; empty when there is none."""
    return work.schedule.environ.get("OVERNIGHT_TOKEN", "")


def granted(request: web.Request, token: str) -> bool:
    """Whether the caller may see everything: no token is asked for, or it is in `Authorization: Bearer`."""
    if not token:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


def guarded(handler: Handler, token: Callable[[], str]) -> Handler:
    """Answer only what this machine sent to a name of itself, unless a token is set, which is the authority then.

    A proxy that passes on more than it should names its public host or for whom it asks, and a page whose name was
    pointed here names that. Where `serve` listens does not say who calls: the token may be gone since it began.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        if not token() and not _from_here(request):
            raise web.HTTPBadRequest(text="this is answered on the machine itself only, or set OVERNIGHT_TOKEN\n")
        return await handler(request)

    return answer


def _from_here(request: web.Request) -> bool:
    passed_on = any(name in request.headers for name in PASSED_ON)
    return request.remote in LOOPBACK and _name(request) in LOOPBACK and not passed_on


def _name(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        return None
