"""What operators and their machines ask: health in three forms, and figures for Prometheus."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from overnight.health import FRESH, TOKEN, Examiner, Report
from overnight.prometheus import Exposition
from overnight.runner import Workplace
from overnight.web.access import Access

DRAFT = "application/health+json"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def private_routes(
    current: Callable[[], Workplace], access: Access, examiner: Examiner, problem: Callable[[], str | None]
) -> list[web.RouteDef]:
    """The routes; without a token each refuses a caller who thinks that we have a public name."""
    machine = _Machine(access, examiner, Exposition(current, problem))
    paths = {
        "/api/health": machine.health,
        "/livez": machine.alive,
        "/readyz": machine.ready,
        "/metrics": machine.metrics,
    }
    return [web.get(path, access.guarded(handler)) for path, handler in paths.items()]


@dataclass(frozen=True, slots=True)
class _Machine:
    """The handlers."""

    access: Access
    examiner: Examiner
    exposition: Exposition
    scraping: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def health(self, request: web.Request) -> web.StreamResponse:
        return await self._told(request, self.examiner.report)

    async def alive(self, request: web.Request) -> web.StreamResponse:
        return await self._told(request, self.examiner.alive)

    async def ready(self, request: web.Request) -> web.StreamResponse:
        return await self._told(request, self.examiner.ready)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        if not self.access.granted(request):
            raise web.HTTPUnauthorized(text=f"{TOKEN} is wanted\n", headers={"WWW-Authenticate": "Bearer"})
        async with self.scraping:
            body = await asyncio.to_thread(self.exposition.text)
        return web.Response(body=body, headers=HEADERS | {"Content-Type": self.exposition.content_type})

    async def _told(self, request: web.Request, examine: Callable[[float], Awaitable[Report]]) -> web.StreamResponse:
        """Everything for who may see it, the word for everybody."""
        granted = self.access.granted(request)
        report = await examine(0.0 if granted else FRESH)
        draft = DRAFT in request.headers.get("Accept", "")
        document = report.draft() if draft else report.document()
        if not granted:
            document = {"status": document["status"]}
        document = self.access.current().redactor.value(document)
        kind = DRAFT if draft else "application/json"
        return web.json_response(document, status=report.code, headers=HEADERS, content_type=kind)
