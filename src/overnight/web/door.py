"""The connections: how much patience there is with who calls, and what is said to who sends too much."""

import asyncio
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

HEAD_MAX = 8192  # bytes of the first line, and of each header: cookies of other programs on this host come along
NAME = "overnight"
MOST = 256  # connections at a time: who holds more must not take the files from the jobs, of which there may be 1,024
PATIENCE = 10.0  # seconds for the head of a request, and again for its body
_TOO_LONG = (
    f"the address, or a header field, is longer than {HEAD_MAX} bytes. If it is the cookies: those of other programs "
    "on this host are sent along, whatever their port; delete them, or use another name of the host\n"
)


class Door(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, or a bug; the line that is too long is not sent back."""
        if isinstance(exc, LineTooLong):
            status, message = 431, _TOO_LONG
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = NAME
        return response


class Full(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up."""
        cast("asyncio.Transport", transport).abort()


async def listening(runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
    """Open the port. Raises OSError."""
    loop, manager = asyncio.get_running_loop(), cast("web.Server", runner.server)  # it is set up

    def connection() -> asyncio.Protocol:
        return Door(manager, loop=loop, **_LIMITS) if len(manager.connections) < MOST else Full()

    return await loop.create_server(connection, host, port)


async def unsigned(_request: web.Request, response: web.StreamResponse) -> None:
    """Say nothing of what we are made of, nor in which version."""
    response.headers["Server"] = NAME


def _ours(record: logging.LogRecord) -> bool:
    """Whether a line of the log is about us: anybody can send what is no HTTP, as often as he likes."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_log = logging.getLogger("overnight.web")
_log.addFilter(_ours)

_LIMITS: dict[str, Any] = {
    "logger": _log,
    "access_log": None,  # tokens stand in the paths
    "keepalive_timeout": PATIENCE,  # counts from the connection on: also for a head that never ends
    "lingering_time": 1.0,
    "max_line_size": HEAD_MAX,
    "max_field_size": HEAD_MAX,
    "max_headers": 64,
}
