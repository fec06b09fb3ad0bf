"""The form that asks for OVERNIGHT_TOKEN, and the way out."""

from dataclasses import dataclass

from aiohttp import web

from overnight.health import weak_token
from overnight.web.desk.gate import Caller, Gate
from overnight.web.desk.pages import Pages


@dataclass(frozen=True, slots=True)
class Entering:
    """The handlers."""

    gate: Gate
    pages: Pages

    async def ask(self, caller: Caller) -> web.StreamResponse:
        """The form; nothing to ask where no token is set."""
        if not self.gate.access.token:
            raise web.HTTPSeeOther("/")
        return self._asked(caller, weak_token(self.pages.current().schedule.environ))

    async def enter(self, caller: Caller) -> web.StreamResponse:
        """Let in whoever knows the token."""
        given = caller.form.get("token", "")
        answer = web.Response(status=303, headers={"Location": "/"})
        if self.gate.admit(caller, answer, given if isinstance(given, str) else ""):
            return answer
        return self._asked(caller, "This is not the token.", 403)

    async def leave(self, caller: Caller) -> web.StreamResponse:
        """End the session."""
        answer = web.Response(status=303, headers={"Location": "/login"})
        await self.gate.dismiss(caller, answer)
        return answer

    def _asked(self, caller: Caller, error: str, status: int = 200) -> web.StreamResponse:
        return self.pages.response("login", caller, {"error": error, "inside": False}, status)
