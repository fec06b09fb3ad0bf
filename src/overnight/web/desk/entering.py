"""The form that asks for OVERNIGHT_TOKEN, and the way out."""

from dataclasses import dataclass

from aiohttp import web

from overnight import logs
from overnight.web.access import token_of
from overnight.web.desk.gate import Caller, Gate
from overnight.web.desk.pages import Pages

SLOWLY = 0.5  # seconds that a wrong token costs who tries


@dataclass(frozen=True, slots=True)
class Entering:
    """The handlers."""

    gate: Gate
    pages: Pages

    async def ask(self, caller: Caller) -> web.StreamResponse:
        """The form; nothing to ask where no token is set."""
        if not token_of(self.pages.current()):
            raise web.HTTPSeeOther("/")
        return self._asked(caller, "")

    async def enter(self, caller: Caller) -> web.StreamResponse:
        """Let in whoever knows the token."""
        given = caller.form.get("token", "")
        answer = web.Response(status=303, headers={"Location": "/"})
        if isinstance(given, str) and self.gate.admit(caller.request, answer, given):
            return answer
        logs.get().warning("a wrong token was given at the page", remote=caller.request.remote)
        await self.pages.current().clock.sleep(SLOWLY)
        return self._asked(caller, "This is not the token.", 403)

    async def leave(self, caller: Caller) -> web.StreamResponse:
        """Forget the session."""
        answer = web.Response(status=303, headers={"Location": "/login"})
        self.gate.dismiss(caller.request, answer)
        return answer

    def _asked(self, caller: Caller, error: str, status: int = 200) -> web.StreamResponse:
        return self.pages.response("login", caller, {"error": error, "inside": False}, status)
