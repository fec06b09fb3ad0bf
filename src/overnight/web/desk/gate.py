"""Who gets in: Host, login, Origin and form token, and what every answer forbids the browser.

Without `OVERNIGHT_TOKEN` this machine is the authority: the Host has to be its own. With it, whoever has the token, as
`Authorization: Bearer` or by the form, which leaves a signed cookie that ends with the token or after twelve hours.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from overnight import logs
from overnight.clock import token as chance
from overnight.errors import ConfigError, OvernightError, Refused
from overnight.ledger import LedgerFault
from overnight.ports import tokens_of
from overnight.runner import Workplace
from overnight.tokens import SESSION, BadToken, Tokens
from overnight.web.access import Access, Handler
from overnight.web.desk.sessions import has_logged_out, log_out

OUTSIDE = "out"  # the mark of a session that has shown no token
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Not `no-referrer`: with it browsers send `Origin: null` with a form, and there would be nothing to compare.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# A mail is somebody else's HTML: no script, no form, no request, and an origin of its own.
FRAME_HEADERS: Mapping[str, str] = {
    **HEADERS,
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
}


@dataclass(frozen=True, slots=True)
class Session:
    """Who is at the page: a number by chance, and whether it has shown the token."""

    id: str
    mark: str
    is_new: bool = False

    @property
    def value(self) -> str:
        """What the cookie says, signed."""
        return f"{self.id}-{self.mark}"


@dataclass(frozen=True, slots=True)
class Caller:
    """A request that was let in."""

    request: web.Request
    session: Session
    form_token: str
    form: Mapping[str, Any]
    known: bool = False  # by a session that is inside


Served = Callable[[Caller], Awaitable[web.StreamResponse]]
Failed = Callable[[int, str, str], web.StreamResponse]


@dataclass(frozen=True, slots=True)
class Gate:
    """Wraps handlers; `failed` makes the page that says what went wrong."""

    current: Callable[[], Workplace]
    access: Access
    patience: float
    failed: Failed

    @property
    def tokens(self) -> Tokens:
        """Those of the secret in force: another one ends all sessions."""
        work = self.current()
        return tokens_of(work.root, work.schedule.environ, work.clock)

    def page(self, served: Served) -> Handler:
        """Something to look at."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request)
            if not (await self._known(session) or self.access.granted(request)):
                raise web.HTTPSeeOther("/login")
            return self._marked(request, session, await self._served(served, self._caller(request, session, {})))

        return self._calm(answer)

    def open_page(self, served: Served) -> Handler:
        """The one page for whoever is not inside yet."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request)
            return self._marked(request, session, await self._served(served, self._caller(request, session, {})))

        return self._calm(answer)

    def action(self, served: Served, *, for_all: bool = False) -> Handler:
        """Something that changes something: by a form of ours alone, or by who has brought the token itself."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request)
            known = await self._known(session)
            by_token = self.access.shown(request, known=known)
            if self.access.token and not (for_all or known or by_token):
                raise web.HTTPSeeOther("/login")
            if not by_token and not _own_origin(request):
                return self.failed(403, "This was refused", "The request does not come from a page of this desk.")
            form = await self._form(request)
            if not by_token and not self._ours(session, str(form.get("form", ""))):
                return self.failed(403, "This form is too old", "Go back, reload the page, and try again.")
            return await self._served(served, self._caller(request, session, form, known=known))

        return self._calm(answer)

    def admit(self, caller: Caller, response: web.StreamResponse, given: str) -> bool:
        """Let in whoever has typed the token; False when it is another one. As `Access.matches` does, raises."""
        if not self.access.matches(caller.request, given, known=caller.known):
            return False
        self._set(caller.request, response, Session(chance(16), _mark(self.access.token)))
        return True

    async def dismiss(self, caller: Caller, response: web.StreamResponse) -> None:
        """End the session, wherever its cookie may be by now."""
        work = self.current()
        response.del_cookie(_cookie(caller.request), path="/")
        await work.ledger.write(partial(log_out, id_=caller.session.id, now=work.clock.now()))

    def _calm(self, answer: Handler) -> Handler:
        """The handler, with a page for whatever goes wrong."""

        async def calm(request: web.Request) -> web.StreamResponse:
            try:
                return await answer(request)
            except web.HTTPRequestEntityTooLarge:
                return self.failed(413, "That was too much", "A form of ours is much smaller than what was sent.")
            except web.HTTPTooManyRequests as error:
                page = self.failed(429, "Too many wrong tokens", f"{str(error.text).strip().capitalize()}.")
                page.headers["Retry-After"] = error.headers["Retry-After"]
                return page
            except web.HTTPException:
                raise
            except Exception as error:  # noqa: BLE001  a bug is a page and a line in the log, not a stack in a browser
                return self.failed(*_told(request, error))

        return self.access.guarded(calm)

    async def _served(self, served: Served, caller: Caller) -> web.StreamResponse:
        async with asyncio.timeout(self.patience):  # a ledger that somebody locks is waited for much longer
            return await served(caller)

    async def _known(self, session: Session) -> bool:
        """Whether this session has shown the token that is in force, and has not ended."""
        if not self.access.token or not hmac.compare_digest(session.mark, _mark(self.access.token)):
            return False
        try:
            return not await self.current().ledger.read(has_logged_out, session.id)
        except (LedgerFault, SQLAlchemyError):
            return True  # whoever is inside needs the page most when the ledger is in trouble

    def _caller(
        self, request: web.Request, session: Session, form: Mapping[str, Any], *, known: bool = False
    ) -> Caller:
        return Caller(request, session, self.tokens.make("form", session.id), form, known)

    def _session(self, request: web.Request) -> Session:
        try:
            value = self.tokens.read("session", request.cookies.get(_cookie(request), ""))
        except BadToken:
            return Session(chance(16), OUTSIDE, is_new=True)
        id_, _, mark = value.partition("-")
        return Session(id_, mark)

    def _ours(self, session: Session, given: str) -> bool:
        try:
            return hmac.compare_digest(self.tokens.read("form", given), session.id)
        except BadToken:
            return False

    def _marked(self, request: web.Request, session: Session, response: web.StreamResponse) -> web.StreamResponse:
        if session.is_new:
            self._set(request, response, session)
        return response

    def _set(self, request: web.Request, response: web.StreamResponse, session: Session) -> None:
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
        response.set_cookie(
            _cookie(request),
            self.tokens.make("session", session.value),
            max_age=int(SESSION.total_seconds()),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )

    async def _form(self, request: web.Request) -> Mapping[str, Any]:
        """What was sent; nothing when it is no form, or in no encoding. A body that does not end is not waited for."""
        try:
            async with asyncio.timeout(self.patience):
                return await request.post()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text="the form did not come to an end\n") from error
        except (ValueError, LookupError):
            return {}


def _mark(token: str) -> str:
    return hashlib.sha256(f"overnight desk {token}".encode()).hexdigest()[:32]


def _cookie(request: web.Request) -> str:
    """Cookies know no ports: two projects on one machine would take each other's."""
    try:
        return f"overnight_{urlsplit(f'//{request.host}').port or 0}"
    except ValueError:
        return "overnight_0"


def _own_origin(request: web.Request) -> bool:
    """Whether a browser says that the form stood on a page of this very host; each says where, with every POST."""
    try:
        return urlsplit(request.headers.get("Origin", "")).netloc == request.headers.get("Host", "-")
    except ValueError:
        return False


def _told(request: web.Request, error: Exception) -> tuple[int, str, str]:
    """Status, title and text for what went wrong; what is no fault of the caller is logged."""
    if isinstance(error, Refused):
        return 409, "This was refused", str(error)
    if isinstance(error, ConfigError):
        return 404, "There is no such thing", str(error)
    if isinstance(error, TimeoutError):
        return 503, "That took too long", "It may be done all the same, a little later. Look, then try again."
    if isinstance(error, (LedgerFault, SQLAlchemyError, OvernightError)):
        logs.get().error("the desk could not do what was asked", path=request.path, error=str(error))
        return 503, "The ledger does not answer", str(error)
    logs.get().error("the desk has met a bug", path=request.path, exc_info=error)
    return 500, "This page has met a bug", f"{type(error).__name__}; the log says more."
