"""What everybody may call: leaving by the link of a mail, signing up, and confirming that.

The token is the authority: whoever has the link may use it, from wherever, so that neither cookies, Host nor Origin are
looked at. A GET changes nothing, for mailbox providers follow every link in a mail; only a POST does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web
from sqlalchemy import Connection

from overnight import logs
from overnight.ledger import LedgerFault
from overnight.ports import tokens_of
from overnight.runner import Workplace
from overnight.subscribers import forms, leave
from overnight.subscriptions import Confirmed, admitted, confirm, sign_up
from overnight.tokens import BadToken, ExpiredToken, Tokens
from overnight.web.pages import Page, response

T = TypeVar("T")

SIGN_UPS = 100 / 3600  # a second, of all together, unless `limits: subscribe: requests:` says otherwise
ONE_CLICK = "List-Unsubscribe"  # the field that mail programs send, RFC 8058

_ASK_TO_LEAVE = Page("Unsubscribe?", "You will get no more mails from us.", "Unsubscribe")
_LEFT = Page("You are unsubscribed", "You will get no more mails from us. You need not do anything else.")
_ASK_ADDRESS = Page("Subscribe", "We send you a mail with a link, to be sure that it is you.", "Subscribe", True)
_LOOK = Page(
    "Look into your mailbox",
    "We have sent you a mail with a link. You are subscribed once you have used it. If it does not come within a few "
    "minutes, look into the folder for spam.",
)
_ASK_TO_CONFIRM = Page("One more step", "Confirm that you want our mails.", "Confirm my subscription")
_CONFIRMED: Mapping[Confirmed, Page] = {
    "subscribed": Page("You are subscribed", "The next mail is yours. Each one has a link to unsubscribe."),
    "suppressed": Page("This did not work", "Mails to your address came back to us. Please write to us."),
    "used": Page("This link was used before", "To get our mails, please sign up once more."),
}
_NOT_OURS = Page(
    "This link does not work",
    "It may have been cut off on the way. Please use the one in the mail, as a whole, or answer the mail and tell us.",
)
_TOO_OLD = Page("This link is too old", "It was good for three days. Please sign up once more.")
_TOO_MANY = Page("Please come back later", "So many people are signing up that we cannot take more at the moment.")
_BUSY = Page("Please try again in a minute", "We could not write it down just now.")
_TOO_LARGE = Page("That was too much", "A form of ours is much smaller than what was sent.")
_NO_ADDRESS = "This is no e-mail address that we can write to."


Handler = Callable[[web.Request], Awaitable[web.Response]]


def public_routes(
    current: Callable[[], Workplace], signed_up: Callable[[], None], patience: float
) -> list[web.RouteDef]:
    """The routes; `patience` is how many seconds a body, or the ledger, may take."""
    pages = _Public(current, signed_up, patience)
    routes: list[tuple[str, Handler, Handler]] = [
        ("/u/{token:.*}", pages.ask_to_leave, pages.leave),
        ("/subscribe", pages.ask_address, pages.sign_up),
        ("/confirm/{token:.*}", pages.ask_to_confirm, pages.confirm),
    ]
    gets = [web.get(path, pages.calm(get)) for path, get, _ in routes]
    return gets + [web.post(path, pages.calm(post)) for path, _, post in routes]


@dataclass(frozen=True, slots=True)
class _Public:
    """The handlers; `current` is the workplace in force."""

    current: Callable[[], Workplace]
    signed_up: Callable[[], None]
    patience: float

    @property
    def tokens(self) -> Tokens:
        """Those of the secret in force: mails that go out after a reload are signed with the new one."""
        work = self.current()
        return tokens_of(work.root, work.schedule.environ, work.clock)

    async def ask_to_leave(self, request: web.Request) -> web.Response:
        self.tokens.leaver(request.match_info["token"])
        return self._page(_ASK_TO_LEAVE)

    async def leave(self, request: web.Request) -> web.Response:
        """Unsubscribe, a job's own reader too; one who has left has left: what was asked for is so."""
        id_ = self.tokens.leaver(request.match_info["token"])
        reason = "one-click" if ONE_CLICK in await self._form(request) else "page"
        await self._write(lambda connection, now: leave(connection, id_, reason, now))
        return self._page(_LEFT)

    async def ask_address(self, _request: web.Request) -> web.Response:
        return self._page(_ASK_ADDRESS)

    async def sign_up(self, request: web.Request) -> web.Response:
        """Take an address. The answer is the same whoever it belongs to."""
        typed = str((await self._form(request)).get("email", "")).strip()
        if not (known := forms(typed)):
            return self._page(replace(_ASK_ADDRESS, address=typed[:254], error=_NO_ADDRESS), 400)
        email, normalized = known
        if not await self._write(lambda connection, now: self._take(connection, email, normalized, now)):
            return self._page(_TOO_MANY, 429)
        self.signed_up()
        return self._page(_LOOK)

    async def ask_to_confirm(self, request: web.Request) -> web.Response:
        self.tokens.read("confirm", request.match_info["token"])
        return self._page(_ASK_TO_CONFIRM)

    async def confirm(self, request: web.Request) -> web.Response:
        id_ = self.tokens.read("confirm", request.match_info["token"])
        return self._page(_CONFIRMED[await self._write(lambda connection, now: confirm(connection, id_, now))])

    def calm(self, handler: Handler) -> Handler:
        """The handler, with a page for whatever goes wrong: no caller learns how we are made."""

        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except ExpiredToken:
                return self._page(_TOO_OLD, 400)
            except BadToken:
                return self._page(_NOT_OURS, 400)
            except web.HTTPRequestEntityTooLarge:
                return self._page(_TOO_LARGE, 413)
            except (TimeoutError, LedgerFault) as error:
                logs.get().error("a public page could not do what was asked", page=request.path[:3], error=str(error))
                return self._page(_BUSY, 503)

        return answer

    def _take(self, connection: Connection, email: str, normalized: str, now: datetime) -> bool:
        limit = self.current().schedule.limits.get("subscribe")
        rate = limit.requests.count / limit.requests.per if limit and limit.requests else SIGN_UPS
        if not admitted(connection, rate, now):
            return False
        sign_up(connection, email, normalized, now)
        return True

    async def _write(self, change: Callable[[Connection, datetime], T]) -> T:
        work = self.current()
        async with asyncio.timeout(self.patience):
            return await work.ledger.write(lambda connection: change(connection, work.clock.now()))

    async def _form(self, request: web.Request) -> Mapping[str, Any]:
        """What was sent; nothing when it is no form, or in no encoding. A body that does not end is not waited for."""
        try:
            async with asyncio.timeout(self.patience):
                return await request.post()
        except (ValueError, LookupError):
            return {}

    def _page(self, page: Page, status: int = 200) -> web.Response:
        name, _, address = self.current().schedule.mail.sender.rpartition("<")
        return response(page, name.strip(' "') or address.rpartition("@")[2].rstrip("> "), status)
