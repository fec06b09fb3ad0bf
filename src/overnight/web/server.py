"""The server: what is public and what is private, and how much patience it has with whoever calls."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from overnight import logs
from overnight.clock import token
from overnight.health import Examiner, Heart, Reach
from overnight.runner import Workplace
from overnight.web.desk import Nobody, Starter, desk_routes
from overnight.web.private import private_routes
from overnight.web.public import public_routes
from overnight.whereabouts import ALIVE, MARK, announced

BODY_MAX = 4096  # bytes; a form of ours has one address in it
HEAD_MAX = 4096  # bytes of a line or a header
PATIENCE = 10.0  # seconds for the head of a request, and again for its body
NOBODY = Nobody()


@asynccontextmanager
async def serving(
    current: Callable[[], Workplace],
    heart: Heart,
    problem: Callable[[], str | None],
    host: str,
    port: int,
    signed_up: Callable[[], None] = lambda: None,
    starter: Starter = NOBODY,
) -> AsyncIterator[str]:
    """Answer on `http://host:port` for the length of the block; yields the address.

    `current` is the workplace in force, `signed_up` hears of new sign-ups, `starter` starts runs.
    A port that is taken is a warning: jobs matter more than the page.
    """
    application, mark = web.Application(client_max_size=BODY_MAX), token(8)
    application.on_response_prepare.append(_signing(mark))
    application.router.add_routes(public_routes(current, signed_up, PATIENCE))
    examiner = Examiner(current, heart, problem, Reach(current().clock))
    application.router.add_routes(private_routes(current, examiner, problem))
    application.router.add_routes(desk_routes(current, examiner, problem, starter, PATIENCE))
    runner = web.AppRunner(application, **_LIMITS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        name, number = runner.addresses[0][:2]
        url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    except OSError as error:
        logs.get().warning("the page is not served", url=f"http://{host}:{port}", error=str(error.strerror))
        url = ""
    try:
        with announced(current().root, url, mark):
            yield url
    finally:
        await runner.cleanup()


def _signing(mark: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Let the answers that tell whether we live bear our mark: `overnight doctor` knows us by it."""

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == ALIVE:
            response.headers[MARK] = mark

    return sign


def _ours(record: logging.LogRecord) -> bool:
    """Whether a line of the log is about us: anybody can send what is no HTTP, as often as he likes."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_log = logging.getLogger("overnight.web")
_log.addFilter(_ours)

_LIMITS: dict[str, Any] = {
    "logger": _log,
    "access_log": None,  # tokens stand in the paths
    "handle_signals": False,
    "keepalive_timeout": PATIENCE,  # counts from the connection on: also for a head that never ends
    "lingering_time": 1.0,
    "max_line_size": HEAD_MAX,
    "max_field_size": HEAD_MAX,
    "max_headers": 64,
}
