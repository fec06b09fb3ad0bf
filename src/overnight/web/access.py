"""Who may see more than a word: this machine, or with OVERNIGHT_TOKEN set whoever brings it."""

import hmac
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from overnight import logs
from overnight.clock import Clock
from overnight.health import TOKEN, weak_token
from overnight.runner import Workplace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host")  # what proxies add, some of which name us as the host
AT_ONCE = 10  # wrong tokens in a row
EACH = 5.0  # seconds after which one more may be tried: 17,000 a day, of more than can be counted


@dataclass(slots=True)
class Tries:
    """Wrong tokens that may still be tried, by all callers together: behind a proxy they all look the same."""

    clock: Clock
    _spent: float = 0.0
    _at: float = -math.inf

    def wait(self) -> float:
        """Seconds until the next one is allowed; nothing when it is now."""
        now = self.clock.monotonic()
        self._spent, self._at = max(0.0, self._spent - (now - self._at) / EACH), now
        return max(0.0, (self._spent + 1 - AT_ONCE) * EACH)

    def failed(self) -> None:
        """Count one."""
        self._spent += 1


@dataclass(frozen=True, slots=True)
class Access:
    """Knows the token in force, and how often it has been guessed at."""

    current: Callable[[], Workplace]
    tries: Tries

    @property
    def token(self) -> str:
        """`OVERNIGHT_TOKEN`; empty when there is none."""
        return self.current().schedule.environ.get(TOKEN, "")

    def granted(self, request: web.Request) -> bool:
        """Whether the caller may see everything: no token is asked for, or it is shown. As `matches` does, raises."""
        return not self.token or self.shown(request)

    def shown(self, request: web.Request, *, known: bool = False) -> bool:
        """Whether the token is in `Authorization: Bearer`. As `matches` does, raises."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if not self.token or scheme.lower() != "bearer":  # a proxy's own password comes along with each request
            return False
        return self.matches(request, given, known=known)

    def matches(self, request: web.Request, given: str, *, known: bool = False) -> bool:
        """Whether this is the token; one that is too short is nobody's.

        Raises HTTPTooManyRequests, without a look at it, while too many wrong ones have been tried; not for a caller
        who is `known` by his session.
        """
        if not known and (wait := math.ceil(self.tries.wait())):
            text = f"too many wrong tokens have been tried here: try again in {wait} s\n"
            raise web.HTTPTooManyRequests(text=text, headers={"Retry-After": str(wait)})
        same = hmac.compare_digest(*(text.encode(errors="surrogatepass") for text in (given.strip(), self.token)))
        if same and not weak_token(self.current().schedule.environ):
            return True
        self.tries.failed()
        logs.get().warning("a wrong token was given at the page", remote=request.remote)
        return False

    def guarded(self, handler: Handler) -> Handler:
        """Answer only what this machine sent to a name of itself, unless a token is set, which is the authority then.

        A proxy that passes on more than it should names its public host or for whom it asks, and a page whose name was
        pointed here names that. Where `serve` listens does not say who calls: the token may be gone since it began.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            if not self.token and not _from_here(request):
                raise web.HTTPBadRequest(text=f"this is answered on the machine itself only, or set {TOKEN}\n")
            return await handler(request)

        return answer


def _from_here(request: web.Request) -> bool:
    passed_on = any(name in request.headers for name in PASSED_ON)
    return request.remote in LOOPBACK and _name(request) in LOOPBACK and not passed_on


def _name(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        return None
