"""The server: what is public and what is private, on one port."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from overnight import logs
from overnight.clock import token
from overnight.health import Examiner, Heart, Reach
from overnight.runner import Workplace
from overnight.web.access import Access, Tries
from overnight.web.desk import Nobody, Starter, desk_routes
from overnight.web.door import PATIENCE, listening, unsigned
from overnight.web.private import private_routes
from overnight.web.public import public_routes
from overnight.whereabouts import ALIVE, MARK, announced

BODY_MAX = 4096  # bytes; a form of ours has one address in it
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
    application.on_response_prepare.extend((unsigned, _marking(mark)))
    application.router.add_routes(public_routes(current, signed_up, PATIENCE))
    clock = current().clock
    access, examiner = Access(current, Tries(clock)), Examiner(current, heart, problem, Reach(clock))
    application.router.add_routes(private_routes(current, access, examiner, problem))
    application.router.add_routes(desk_routes(current, access, examiner, problem, starter, PATIENCE))
    runner = web.AppRunner(application)
    await runner.setup()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        try:
            site = await listening(runner, host, port)
            stack.callback(site.close)  # nobody new, then: who is being answered is waited for
            name, number = site.sockets[0].getsockname()[:2]
            url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        except OSError as error:
            logs.get().warning("the page is not served", url=f"http://{host}:{port}", error=str(error.strerror))
            url = ""
        stack.enter_context(announced(current().root, url, mark))
        yield url


def _marking(mark: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Let the answers that tell whether we live bear our mark: `overnight doctor` knows us by it."""

    async def bear(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == ALIVE:
            response.headers[MARK] = mark

    return bear
