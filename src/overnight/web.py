"""The web side of `serve`: `/api/health`, on this machine only."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from aiohttp import web

from overnight import logs
from overnight.health import health
from overnight.runner import Workplace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Heart(Protocol):
    """Who looks for due jobs."""

    @property
    def looked_at(self) -> datetime | None: ...


@asynccontextmanager
async def serving(
    work: Workplace, heart: Heart, problem: Callable[[], str | None], host: str, port: int
) -> AsyncIterator[str]:
    """Answer on `http://host:port` for the length of the block; yields the address.

    A port that is taken is a warning: jobs matter more than the page.
    """
    application = web.Application(client_max_size=0)
    application.router.add_get("/api/health", _health(work, lambda: heart.looked_at, problem))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address = runner.addresses[0]
        url = f"http://{address[0]}:{address[1]}"
    except OSError as error:
        logs.get().warning("the page is not served", url=f"http://{host}:{port}", error=str(error.strerror))
        url = ""
    try:
        yield url
    finally:
        await runner.cleanup()


def _health(work: Workplace, looked_at: Callable[[], datetime | None], problem: Callable[[], str | None]) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        report = await health(work.ledger, work.clock, work.root, looked_at, problem)
        code = 503 if report["status"] == "unhealthy" else 200
        return web.json_response(report, status=code, headers={"Cache-Control": "no-store"})

    return answer
