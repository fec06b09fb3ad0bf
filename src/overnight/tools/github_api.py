"""GitHub's REST API, as far as the tools need it: a request, its answer, and every failure as one of our errors.

One rate limit, one breaker and one retry for all processes, as for every other side; GitHub's secondary limits come as
403 and are waited for like 429. A POST whose reply was lost is Unknown: it is looked up, not repeated.

Libraries for GitHub bring an HTTP client, retries, throttling and a cache of their own (githubkit: httpx and hishel).
Here requests share limits, breaker and proxy with everything else, across processes, and a POST whose reply was lost
has to be told from one that was refused: so none is used.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from overnight.deadline import off_the_clock
from overnight.errors import OvernightError, Permanent, Stop, Transient, Unknown
from overnight.proxies import proxy_for
from overnight.retry import retry_after
from overnight.tools.port import Hands

OFFICIAL = "https://api.github.com"
TOKEN = "GITHUB_TOKEN"  # noqa: S105  the name of the variable, not its value
SECONDS = 30.0
VERSION = "2022-11-28"
LARGEST = 50_000_000  # bytes of an answer; a hundred issues can have tens of millions
CHUNK = 65_536
PAGES = 30  # of 100 entries each: an issue takes 2,500 comments, and ours may be the last
REPEATABLE = ("GET", "DELETE", "PATCH")  # the second time changes nothing more


@dataclass(frozen=True, slots=True)
class GitHub:
    """The API at `base` (another one for GitHub Enterprise, by GITHUB_API_URL); `bearer` gives the token.

    `remedy` is for a token that is refused; `repeatable` are the methods that may be sent twice.
    """

    base: str
    bearer: Callable[[], Awaitable[str]]
    side: Any
    clock: Any
    remedy: str = f"check {TOKEN} in .env"
    repeatable: tuple[str, ...] = REPEATABLE

    @classmethod
    def of(cls, hands: Hands, repo: str, **rights: str) -> "GitHub":
        """The API with what the role may use; a GitHub App gives these rights to this repository. Raises Stop."""
        if hands.passes is not None and not hands.secrets.get(TOKEN, "").strip():
            bearer, remedy = partial(hands.passes.token, repo, rights), "check the installation of the GitHub App"
            return cls(base_of(hands.settings), bearer, hands.sides.of("github"), hands.clock, remedy)
        return cls.open(hands.settings, hands.secrets.get(TOKEN, ""), hands.sides, hands.clock)

    @classmethod
    def open(cls, settings: Mapping[str, str], token: str, sides: Any, clock: Any) -> "GitHub":
        """The API of these variables. Raises Stop without a token."""
        if not token.strip():
            said = f"there is no token for GitHub: set {TOKEN} in .env, or for tools a GitHub App"
            raise Stop(said, code="no_github_token")

        async def lasting() -> str:
            return token.strip()

        return cls(base_of(settings), lasting, sides.of("github"), clock)

    async def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Send a request and return its JSON, None for an empty answer.

        Raises Permanent for a refusal (`http_404`, `http_422`), Stop for a wrong token, Transient when GitHub cannot be
        reached for now, and Unknown for a POST of which nobody can tell.
        """
        token = await self.bearer()

        async def once() -> Any:
            async with off_the_clock():
                return await self._sent(token, method, path, body, query)

        return await self.side.call(once, requests=1)

    async def every(self, path: str, pages: int = PAGES, **query: str | int) -> list[Any]:
        """All entries of a list, page by page, up to 3,000, or less when `pages` of a hundred are enough."""
        found: list[Any] = []
        for page in range(1, pages + 1):
            part = await self.ask("GET", path, None, **query, per_page=100, page=page)
            found += part if isinstance(part, list) else []
            if not isinstance(part, list) or len(part) < 100:
                break
        return found

    async def _sent(self, token: str, method: str, path: str, body: Any, query: Mapping[str, str | int]) -> Any:
        import asyncio  # noqa: PLC0415  with aiohttp, which is loaded late

        import aiohttp  # noqa: PLC0415

        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": VERSION,
            "User-Agent": "overnight",
        }
        what = f"GitHub {method} {path}"
        try:
            async with asyncio.timeout(SECONDS), aiohttp.ClientSession(headers=headers) as session:
                where, params = f"{self.base}{path}", {name: str(value) for name, value in query.items()}
                how = {"json": body, "params": params, "allow_redirects": False, "proxy": proxy_for(where)}
                async with session.request(method, where, **how) as response:
                    text = await _whole(response.content)
                    return self._read(what, method, response.status, response.headers, text)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as error:  # nothing was sent
            raise Transient(f"{what}: cannot connect ({type(error).__name__})", code="connection") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._lost(
                method, f"{what}: the connection was lost ({type(error).__name__})", "connection_lost"
            ) from error

    def _read(self, what: str, method: str, status: int, headers: Mapping[str, str], text: bytes) -> Any:
        if status < 300:
            try:
                return json.loads(text) if text.strip() else None
            except ValueError as error:
                raise self._lost(method, f"{what}: the answer is no JSON", "garbled") from error
        said = f"{what} answered {status}: {_message(text)}"
        code = f"http_{status}"
        if status == 401:
            raise Stop(f"{said}; {self.remedy}", code="github_token")
        if status == 429 or (status == 403 and _limited(headers, text)):
            raise Transient(said, code="http_429", after=_wait(headers, self.clock))
        if status >= 500:
            raise self._lost(method, said, code)
        raise Permanent(said, code=code)

    def _lost(self, method: str, said: str, code: str) -> OvernightError:
        if method in self.repeatable:
            return Transient(said, code=code)
        return Unknown(f"{said}; it may have been done", code=code)


def base_of(settings: Mapping[str, str]) -> str:
    """Where the API is."""
    return (settings.get("GITHUB_API_URL", "").strip() or OFFICIAL).rstrip("/")


def path_of(repo: str, *parts: object) -> str:
    """The path of something in a repository; every part is quoted."""
    return "/".join(
        ["/repos", *(quote(part, safe="") for part in repo.split("/")), *(quote(str(p), safe="") for p in parts)]
    )


async def _whole(content: Any) -> bytes:
    """The body, which comes in many pieces; what is longer than LARGEST is cut, and then no JSON."""
    body = bytearray()
    while len(body) < LARGEST and (chunk := await content.read(CHUNK)):
        body += chunk
    return bytes(body)


def _limited(headers: Mapping[str, str], text: bytes) -> bool:
    """A 403 that means: later. Said by its headers; by its words only where the header is missing."""
    return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or b"secondary rate limit" in text


def _wait(headers: Mapping[str, str], clock: Any) -> float:
    asked = retry_after(headers, clock)
    reset = headers.get("x-ratelimit-reset", "")
    if asked is None and headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        asked = int(reset) - clock.now().timestamp()
    return min(max(asked or 60.0, 1.0), 3600.0)  # without a word of it GitHub asks for a minute


def _message(text: bytes) -> str:
    try:
        said = json.loads(text)
    except ValueError:
        return "it does not say why"
    return str(said.get("message") or "it does not say why")[:200] if isinstance(said, dict) else "it does not say why"
