"""A server that speaks as much of GitHub's REST API as the tools use: for tests, on loopback, and honest about it.

It knows issues, comments, labels and pull requests of one repository, bearer tokens, pages of 100, and the headers of
rate limits; and of an app its installation and the tokens it buys, with their repository, rights and end. It does not
know users, branches, or anything else of GitHub. Its books are what tests compare
with: each write that was carried out, also one whose reply never arrived.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "ghp_sham-token-for-tests"
REPO = "acme/site"
OTHER = "acme/shop"  # has no issues
APP = "4711"
PAGE = 100


@dataclass
class Hub:
    """One repository and its books.

    `faults` are taken one for each request, None for none: a status such as 502 (nothing is done), `lost_502` and
    `lost` (done, but answered 502 or not at all), `secondary` (403 with retry-after), `limited` (403, nothing left).
    """

    url: str = ""
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    faults: list[str | int | None] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    retry_after: int = 1
    remaining: int = 5_000
    app_key: str = ""  # the public one
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    _ids: int = 1_000

    def issue(self, number: int, title: str = "An issue", body: str = "", *labels: str) -> None:
        """Open an issue."""
        made = {"number": number, "title": title, "body": body, "state": "open", "user": {"login": "somebody"}}
        self.issues[number] = made | {
            "labels": [{"name": label} for label in labels],
            "created_at": "2026-11-01T00:00:00Z",
        }

    def bodies(self, number: int | None = None) -> Counter[str]:
        """What the comments say, without markers."""
        return Counter(
            each["body"].partition("\n\n<!--")[0] for each in self.comments if number in (None, each["number"])
        )

    def labels(self, number: int) -> list[str]:
        """The labels of an issue."""
        return [each["name"] for each in self.issues[number]["labels"]]

    def open_pulls(self) -> Counter[str]:
        """The titles of open pull requests."""
        return Counter(each["title"] for each in self.pulls.values() if each["state"] == "open")

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._guard])
        at = f"/repos/{REPO}"
        app.add_routes(
            [
                web.get("/repos/acme/{name:site|shop}/installation", self._installation),
                web.post("/app/installations/77/access_tokens", self._sell),
                web.get(f"/repos/{OTHER}/issues", self._no_issues),
                web.get(f"{at}/issues", self._list_issues),
                web.get(f"{at}/issues/{{number}}", self._get_issue),
                web.get(f"{at}/issues/{{number}}/comments", self._list_comments),
                web.post(f"{at}/issues/{{number}}/comments", self._comment),
                web.delete(f"{at}/issues/comments/{{id}}", self._uncomment),
                web.get(f"{at}/issues/{{number}}/labels", self._list_labels),
                web.post(f"{at}/issues/{{number}}/labels", self._label),
                web.delete(f"{at}/issues/{{number}}/labels/{{name}}", self._unlabel),
                web.get(f"{at}/pulls", self._list_pulls),
                web.post(f"{at}/pulls", self._pull),
                web.patch(f"{at}/pulls/{{number}}", self._close_pull),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        self.remaining -= 1
        fault = self.faults.pop(0) if self.faults else None
        if refusal := self._refused(fault):
            return refusal
        if (status := self._barred(request)) is not None:
            return self._said(status, {"message": "Bad credentials" if status == 401 else "Not accessible"})
        try:
            status, answer = await handler(request)
        except web.HTTPException as error:
            return self._said(error.status, {"message": error.reason})
        if fault == "lost_502":
            return self._said(502, {"message": "Server Error"})
        if fault == "lost" and request.transport is not None:
            request.transport.abort()
        return self._said(status, answer)

    def _barred(self, request: web.Request) -> int | None:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.path.startswith("/app/") or request.path.endswith("/installation"):
            return None if self._is_app(bearer) else 401
        if bearer == TOKEN:
            return None
        sold = self.tokens.get(bearer)
        if sold is None or sold["until"] <= self.now():
            return 401
        kind = "pull_requests" if "/pulls" in request.path else "issues"
        level = sold["permissions"].get(kind)
        enough = level == "write" or (level == "read" and request.method == "GET")
        here = any(request.path.startswith(f"/repos/acme/{name}/") for name in sold["repositories"])
        return None if here and enough else 403

    def _is_app(self, bearer: str) -> bool:
        import jwt

        try:
            claims = jwt.decode(bearer, self.app_key, ["RS256"], options={"verify_exp": False, "verify_iat": False})
        except jwt.PyJWTError:
            return False
        now = self.now().timestamp()
        return claims["iss"] == APP and claims["iat"] <= now < claims["exp"] <= claims["iat"] + 600

    async def _installation(self, _request: web.Request) -> tuple[int, Any]:
        return 200, {"id": 77}

    async def _sell(self, request: web.Request) -> tuple[int, Any]:
        until = self.now().replace(microsecond=0) + timedelta(hours=1)
        token = f"ghs_Sham0token1of2an3app{self._next()}"
        self.tokens[token] = {**await request.json(), "until": until}
        return 201, {"token": token, "expires_at": until.strftime("%Y-%m-%dT%H:%M:%SZ")}

    async def _no_issues(self, _request: web.Request) -> tuple[int, Any]:
        return 200, []

    def _refused(self, fault: str | int | None) -> web.Response | None:
        if isinstance(fault, int):
            return self._said(fault, {"message": "A scripted fault."}, **({"retry-after": "1"} if fault == 429 else {}))
        if fault == "secondary":
            message = {"message": "You have exceeded a secondary rate limit."}
            return self._said(403, message, **{"retry-after": str(self.retry_after)})
        if fault == "limited":
            return self._said(403, {"message": "API rate limit exceeded."}, **{"x-ratelimit-remaining": "0"})
        return None

    def _said(self, status: int, answer: Any, **headers: str) -> web.Response:
        known = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": str(self.remaining), "x-ratelimit-reset": "0"}
        return (
            web.json_response(answer, status=status, headers=known | headers)
            if status != 204
            else web.Response(status=204)
        )

    def _found(self, request: web.Request) -> dict[str, Any]:
        number = int(request.match_info["number"])
        found = self.issues.get(number) or self.pulls.get(number)
        if found is None:
            raise web.HTTPNotFound(reason="Not Found")
        return found

    def _next(self) -> int:
        self._ids += 1
        return self._ids

    async def _list_issues(self, request: web.Request) -> tuple[int, Any]:
        wanted, state = request.query.get("labels"), request.query.get("state", "open")
        found = [
            each
            for each in self.issues.values()
            if state in ("all", each["state"]) and (not wanted or wanted in [name["name"] for name in each["labels"]])
        ]
        return 200, _page(request, found)

    async def _get_issue(self, request: web.Request) -> tuple[int, Any]:
        said = [each for each in self.comments if each["number"] == int(request.match_info["number"])]
        return 200, self._found(request) | {"comments": len(said)}

    async def _list_comments(self, request: web.Request) -> tuple[int, Any]:
        number = int(request.match_info["number"])
        return 200, _page(request, [each for each in self.comments if each["number"] == number])

    async def _comment(self, request: web.Request) -> tuple[int, Any]:
        self._found(request)
        body = (await request.json())["body"]
        number, id_ = int(request.match_info["number"]), self._next()
        made = {"id": id_, "body": body, "number": number, "user": {"login": "bot"}, "html_url": f"{self.url}/c/{id_}"}
        self.comments.append(made)
        return 201, made

    async def _uncomment(self, request: web.Request) -> tuple[int, Any]:
        id_ = int(request.match_info["id"])
        if all(each["id"] != id_ for each in self.comments):
            raise web.HTTPNotFound(reason="Not Found")
        self.comments = [each for each in self.comments if each["id"] != id_]
        return 204, None

    async def _list_labels(self, request: web.Request) -> tuple[int, Any]:
        return 200, _page(request, self._found(request)["labels"])

    async def _label(self, request: web.Request) -> tuple[int, Any]:
        found, wanted = self._found(request), (await request.json())["labels"]
        there = [each["name"].casefold() for each in found["labels"]]
        found["labels"] += [{"name": name} for name in wanted if name.casefold() not in there]
        return 200, found["labels"]

    async def _unlabel(self, request: web.Request) -> tuple[int, Any]:
        found, name = self._found(request), request.match_info["name"]
        if name not in [each["name"] for each in found["labels"]]:
            raise web.HTTPNotFound(reason="Label does not exist")
        found["labels"] = [each for each in found["labels"] if each["name"] != name]
        return 200, found["labels"]

    async def _list_pulls(self, request: web.Request) -> tuple[int, Any]:
        state = request.query.get("state", "open")
        return 200, _page(request, [each for each in reversed(self.pulls.values()) if state in ("all", each["state"])])

    async def _pull(self, request: web.Request) -> tuple[int, Any]:
        asked, number = await request.json(), self._next()
        same = [each for each in self.pulls.values() if each["head"] == asked["head"] and each["state"] == "open"]
        if same:
            raise web.HTTPUnprocessableEntity(reason="A pull request already exists")
        made = asked | {
            "id": number,
            "number": number,
            "state": "open",
            "labels": [],
            "html_url": f"{self.url}/p/{number}",
        }
        self.pulls[number] = made
        return 201, made

    async def _close_pull(self, request: web.Request) -> tuple[int, Any]:
        found = self._found(request)
        found["state"] = (await request.json())["state"]
        return 200, found


def _page(request: web.Request, entries: Sequence[Any]) -> list[Any]:
    size, page = min(int(request.query.get("per_page", "30")), PAGE), int(request.query.get("page", "1"))
    return list(entries[(page - 1) * size : page * size])


@asynccontextmanager
async def hub(*faults: str | int | None) -> AsyncIterator[Hub]:
    """Serve in this event loop."""
    made = Hub(faults=list(faults))
    async with TestServer(made.application()) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


@contextmanager
def hub_in_a_thread(*faults: str | int | None) -> Iterator[Hub]:
    """Serve beside a test that starts processes."""
    made, ready, loop = Hub(faults=list(faults)), threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with TestServer(made.application()) as server:
            made.url = str(server.make_url("")).rstrip("/")
            ready.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    def work() -> None:
        task = loop.create_task(serve())
        made_tasks.append(task)
        loop.run_until_complete(task)
        loop.close()

    made_tasks: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(30)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(made_tasks[0].cancel)
        thread.join(30)
