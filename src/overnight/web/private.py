"""What only this machine may ask: `/api/health`."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from overnight.health import health
from overnight.runner import Workplace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Heart(Protocol):
    """Who looks for due jobs."""

    @property
    def looked_at(self) -> datetime | None: ...


def private_routes(
    current: Callable[[], Workplace], heart: Heart, problem: Callable[[], str | None]
) -> list[web.RouteDef]:
    """The routes; each refuses a caller who thinks that we have a public name."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        work = current()
        report = await health(work.ledger, work.clock, work.root, lambda: heart.looked_at, problem)
        code = 503 if report["status"] == "unhealthy" else 200
        return web.json_response(report, status=code, headers={"Cache-Control": "no-store"})

    return [web.get("/api/health", _by_this_machine(answer))]


def _by_this_machine(handler: Handler) -> Handler:
    """Answer only what was sent to a name of this machine.

    A proxy that passes on more than it should names its public host, and so does a page whose name was pointed here.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            name = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        except ValueError:
            name = None
        if name not in LOOPBACK:
            raise web.HTTPBadRequest(text="this is answered on the machine itself only\n")
        return await handler(request)

    return answer
