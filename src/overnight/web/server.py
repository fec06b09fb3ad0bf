"""The server: what is public and what is private, and how much patience it has with whoever calls."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from overnight import logs
from overnight.health import Examiner, Heart, Reach
from overnight.runner import Workplace
from overnight.web.access import Access, Tries
from overnight.web.desk import Nobody, Starter, desk_routes
from overnight.web.private import private_routes
from overnight.web.public import public_routes

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
    application = web.Application(client_max_size=BODY_MAX)
    application.router.add_routes(public_routes(current, signed_up, PATIENCE))
    access, examiner = (
        Access(current, Tries(current().clock)),
        Examiner(current, heart, problem, Reach(current().clock)),
    )
    application.router.add_routes(private_routes(current, access, examiner, problem))
    application.router.add_routes(desk_routes(current, access, examiner, problem, starter, PATIENCE))
    runner = web.AppRunner(application, **_LIMITS)
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
