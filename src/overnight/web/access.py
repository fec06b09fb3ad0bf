"""Who may see more than a word: this machine, or with OVERNIGHT_TOKEN set whoever brings it."""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from overnight.runner import Workplace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    """Answer only what was sent to a name of this machine, unless a token is set, which is the authority then.

    A proxy that passes on more than it should names its public host, and so does a page whose name was pointed here.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        if not token() and _name(request) not in LOOPBACK:
            raise web.HTTPBadRequest(text="this is answered on the machine itself only, or set OVERNIGHT_TOKEN\n")
        return await handler(request)

    return answer


def _name(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        return None
