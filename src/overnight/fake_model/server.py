"""The HTTP side of the fake model: the endpoints of the Messages API on the loopback interface."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from aiohttp import web

from overnight.clock import Clock, SystemClock, token
from overnight.errors import ConfigError
from overnight.fake_model import messages
from overnight.fake_model.answers import Unsatisfiable
from overnight.fake_model.bill import MODELS, Bill
from overnight.fake_model.envelope import ApiError, Dropped
from overnight.fake_model.faults import Fault, delivery, edited, refuse, rewritten
from overnight.fake_model.rates import Limits, Rates
from overnight.fake_model.script import Script, load, parse
from overnight.fake_model.stream import in_one_piece, streamed

HOST = "127.0.0.1"  # nobody else is to reach it
_LARGEST_BODY = 32 * 1024**2  # bytes, as in the real API
_KEY_HEADERS = ("authorization", "x-api-key")  # the SDK sends a bearer token since 2.x, curl users the other
_CONTEXT = 1_000_000  # tokens

_ID = web.RequestKey("id", str)
_MODEL = web.RequestKey("model", str)  # known once the body has been found valid

Handler = Callable[[web.Request], Any]


class FakeModel:
    """A running fake: `url`, its own bill and counts, and the script of faults."""

    def __init__(self, script: Script, limits: Limits, bill: Bill, clock: Clock) -> None:
        self.url = ""
        self._script = script
        self._rates = Rates(limits, clock)
        self._bill = bill
        self._clock = clock
        self._seen: Counter[tuple[str, str]] = Counter()

    def bill(self) -> list[dict[str, Any]]:
        """Every accepted request: request_id, model, tokens, cost_nano, delivered, status."""
        return self._bill.entries()

    def requests(self) -> dict[str, dict[str, int]]:
        """How many requests of each path got which status; `dropped` for a connection that was cut."""
        counts: dict[str, dict[str, int]] = {}
        for (path, status), count in self._seen.items():
            counts.setdefault(path, {})[status] = count
        return counts

    def set_faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the script. Raises `ConfigError` for a rule that is not valid."""
        self._script = parse(rules, "faults")

    def application(self) -> web.Application:
        """Build the aiohttp application with all routes."""
        app = web.Application(middlewares=[self._envelope], client_max_size=_LARGEST_BODY)
        app.add_routes(
            [
                web.post("/v1/messages", self._messages),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{model}", self._model),
                web.get("/_fake/health", self._health),
                web.get("/_fake/bill", self._show_bill),
                web.get("/_fake/requests", self._show_requests),
                web.post("/_fake/faults", self._post_faults),
            ]
        )
        return app

    @web.middleware
    async def _envelope(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_ID] = f"req_{token(12)}"
        own = request.path.startswith("/_fake/")
        try:
            response: web.StreamResponse = await (handler if own else _authenticated(handler))(request)
        except ApiError as error:
            response = _error(error, request[_ID], self._rates.headers(request[_MODEL]) if _MODEL in request else {})
        except web.HTTPException as error:
            response = _error(
                ApiError(error.status, f"{error.reason}: {request.method} {request.path}"), request[_ID], {}
            )
        except Dropped:
            self._seen[request.path, "dropped"] += 1
            return _cut(request)
        if not own:
            self._seen[request.path, str(response.status)] += 1
        return response

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body, fault = await self._admitted(request)
        reply, output_tokens = messages.within(_reply(fault, body), body["max_tokens"])
        input_tokens = messages.input_tokens(body)
        headers = self._rates.take(body["model"], input_tokens, output_tokens) | {"request-id": request[_ID]}
        entry = self._bill.accept(request[_ID], body["model"], input_tokens, output_tokens)
        message = messages.message(entry.request_id, body["model"], reply, input_tokens, output_tokens)
        sent = rewritten(fault, streamed(message) if body.get("stream") else in_one_piece(message))
        response = web.StreamResponse(headers={**headers, "content-type": sent.content_type})
        if len(sent.pieces) == 1:
            response.content_length = len(sent.whole)
        if await _delivered(request, response, delivery(fault, sent, self._clock)):
            self._bill.deliver(entry)
        return response

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body, _ = await self._admitted(request, limited=False)
        headers = self._rates.headers(body["model"]) | {"request-id": request[_ID]}
        return web.json_response({"input_tokens": messages.input_tokens(body)}, headers=headers)

    async def _admitted(self, request: web.Request, *, limited: bool = True) -> tuple[dict[str, Any], Fault | None]:
        """Return the valid body of a request and its fault, unless the fault is not to admit it at all."""
        body = await _json(request)
        messages.check(body, limited=limited)
        request[_MODEL] = body["model"]
        fault = self._script.next_fault(request.path, body)
        refuse(fault, self._clock)
        return body, fault

    async def _models(self, request: web.Request) -> web.Response:
        models = [_model_info(model) for model in MODELS]
        listing = {"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        return web.json_response(listing, headers={"request-id": request[_ID]})

    async def _model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        if model not in MODELS:
            raise ApiError(404, f"model: {model}")
        return web.json_response(_model_info(model), headers={"request-id": request[_ID]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _show_bill(self, _: web.Request) -> web.Response:
        return web.json_response(self.bill())

    async def _show_requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests())

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            self.set_faults(await _json(request, list))
        except ConfigError as error:
            raise ApiError(400, str(error)) from None
        return web.json_response({"status": "ok"})


@asynccontextmanager
async def serve(
    port: int = 0,
    *,
    faults: Path | Sequence[Mapping[str, Any]] = (),
    limits: Limits = Limits(),  # noqa: B008  frozen
    bill_file: Path | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[FakeModel]:
    """Run the fake model on a loopback address; port 0 takes a free one.

    `faults` is a script or the file of one, `bill_file` keeps the bill as JSON lines beyond this process. Raises
    `ConfigError` for a script that is not valid.
    """
    script = load(faults) if isinstance(faults, Path) else parse(list(faults), "faults")
    with closing(Bill(bill_file)) as bill:
        fake = FakeModel(script, limits, bill, clock or SystemClock())
        runner = web.AppRunner(fake.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
            fake.url = f"http://{HOST}:{runner.addresses[0][1]}"
            yield fake
        finally:
            await runner.cleanup()


def run_forever(
    port: int,
    faults_file: Path | None,
    ready: Callable[[str], object],
    *,
    bill_file: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the URL once requests are answered.

    Raises `ConfigError` for a script that is not valid, `OSError` for a port in use.
    """
    asyncio.run(_until_signal(port, faults_file, ready, bill_file))


async def _until_signal(
    port: int, faults_file: Path | None, ready: Callable[[str], object], bill_file: Path | None
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(port=port, faults=faults_file or (), bill_file=bill_file) as fake:
        ready(fake.url)
        await stop.wait()


def _authenticated(handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        if not any(request.headers.get(name) for name in _KEY_HEADERS):
            raise ApiError(401, "The API key is missing.")
        response: web.StreamResponse = await handler(request)
        return response

    return checked


async def _json(request: web.Request, kind: type = dict) -> Any:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON.") from None
    if not isinstance(body, kind):
        raise ApiError(400, f"The body is a JSON {type(body).__name__}, not a {kind.__name__}.")
    return body


def _reply(fault: Fault | None, body: Mapping[str, Any]) -> messages.Reply:
    try:
        return edited(fault, messages.reply(body), body)
    except Unsatisfiable as error:
        raise ApiError(400, f"output_config.format.schema: {error}") from None


def _model_info(model: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "1970-01-01T00:00:00Z",  # the API's own word for "not known"
        "lifecycle": "active",
        "line": model.split("-")[1],
        "max_input_tokens": _CONTEXT,
        "max_tokens": messages.MOST_OUTPUT,
    }


def _error(error: ApiError, request_id: str, rates: Mapping[str, str]) -> web.Response:
    headers = {**rates, **error.headers, "request-id": request_id}
    return web.json_response(error.envelope(request_id), status=error.status, headers=headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _delivered(request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> bool:
    """Send the pieces as they come; False when nobody is there to take them."""
    try:
        async for piece in pieces:
            await response.prepare(request)  # does nothing from the second time on
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return False
    return True
