"""The HTTP side of the fake model: the endpoints of the Messages API on the loopback interface."""

import asyncio
import ipaddress
import json
import math
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from aiohttp import web

from overnight.clock import Clock, SystemClock
from overnight.errors import ConfigError
from overnight.fake_model import faults as fault_script
from overnight.fake_model.answers import Unsatisfiable, answer, user_texts, written
from overnight.fake_model.bill import MODELS, Bill
from overnight.fake_model.faults import DELIVERIES, EDITS, REFUSALS, ApiError, Dropped, Fault, Reply, Script
from overnight.fake_model.material import Source, leaves
from overnight.fake_model.rates import Limits, Rates

_BYTES_PER_TOKEN = 3.6
_LARGEST_BODY = 32 * 1024**2  # bytes, as in the real API
_MOST_OUTPUT = 128_000  # tokens
_KEY_HEADERS = ("authorization", "x-api-key")  # the SDK sends a bearer token since 2.x, curl users the other
_CONTEXT = 1_000_000  # tokens

_ID = web.RequestKey("id", str)

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
        self._script = fault_script.parse(rules, "faults")

    def application(self) -> web.Application:
        """Build the aiohttp application with all routes."""
        app = web.Application(middlewares=[self._envelope], client_max_size=_LARGEST_BODY)
        app.add_routes(
            [
                web.post("/v1/messages", self._messages),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.get("/v1/models", self._models),
                web.get("/_fake/health", self._health),
                web.get("/_fake/bill", self._show_bill),
                web.get("/_fake/requests", self._show_requests),
                web.post("/_fake/faults", self._post_faults),
            ]
        )
        return app

    @web.middleware
    async def _envelope(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_ID] = f"req_{uuid.uuid4().hex[:24]}"
        own = request.path.startswith("/_fake/")
        try:
            response: web.StreamResponse = await (handler if own else _authenticated(handler))(request)
        except ApiError as error:
            response = _error(error, request[_ID])
        except web.HTTPException as error:
            response = _error(ApiError(error.status, f"{error.reason}: {request.method} {request.path}"), request[_ID])
        except Dropped:
            self._seen[request.path, "dropped"] += 1
            return _cut(request)
        if not own:
            self._seen[request.path, str(response.status)] += 1
        return response

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body, fault = await self._admitted(request)
        reply = _reply(body)
        if fault and fault.kind in EDITS:
            reply = EDITS[fault.kind](reply)
        reply, output_tokens = _within(reply, body["max_tokens"])
        input_tokens = _input_tokens(body)
        headers = self._rates.take(body["model"], input_tokens, output_tokens) | {"request-id": request[_ID]}
        entry = self._bill.accept(request[_ID], body["model"], input_tokens, output_tokens)
        message = _message(entry.request_id, body["model"], reply, input_tokens, output_tokens)
        response = web.json_response(message, headers=headers)
        if fault and fault.kind in DELIVERIES:
            response = await DELIVERIES[fault.kind](fault, response, self._clock)
        if await _sent(request, response):
            self._bill.deliver(entry)
        return response

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body, _ = await self._admitted(request, limited=False)
        return web.json_response({"input_tokens": _input_tokens(body)}, headers={"request-id": request[_ID]})

    async def _admitted(self, request: web.Request, *, limited: bool = True) -> tuple[dict[str, Any], Fault | None]:
        """Return the valid body of a request and its fault, unless the fault is not to admit it at all."""
        body = await _json(request)
        _validate(body, limited=limited)
        fault = self._script.next_fault(request.path, body)
        if fault and fault.kind in REFUSALS:
            REFUSALS[fault.kind](fault)
        return body, fault

    async def _models(self, request: web.Request) -> web.Response:
        models = [_model_info(model) for model in MODELS]
        listing = {"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
        return web.json_response(listing, headers={"request-id": request[_ID]})

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
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    faults: Path | Sequence[Mapping[str, Any]] = (),
    limits: Limits = Limits(),  # noqa: B008  frozen
    bill_file: Path | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[FakeModel]:
    """Run the fake model on a loopback address; port 0 takes a free one.

    `faults` is a script or the file of one, `bill_file` keeps the bill as JSON lines beyond this process. Raises
    `ConfigError` for an address others could reach and for a script that is not valid.
    """
    _refuse_public(host)
    script = fault_script.load(faults) if isinstance(faults, Path) else fault_script.parse(list(faults), "faults")
    with closing(Bill(bill_file)) as bill:
        fake = FakeModel(script, limits, bill, clock or SystemClock())
        runner = web.AppRunner(fake.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            bound_host, bound_port = runner.addresses[0][:2]
            fake.url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
            yield fake
        finally:
            await runner.cleanup()


def run_forever(
    port: int,
    faults_file: Path | None,
    ready: Callable[[str], object],
    *,
    limits: Limits = Limits(),  # noqa: B008  frozen
    bill_file: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the URL once requests are answered.

    Raises `ConfigError` for a script that is not valid, `OSError` for a port in use.
    """
    asyncio.run(_until_signal(port, faults_file, ready, limits, bill_file))


async def _until_signal(
    port: int, faults_file: Path | None, ready: Callable[[str], object], limits: Limits, bill_file: Path | None
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(port=port, faults=faults_file or (), limits=limits, bill_file=bill_file) as fake:
        ready(fake.url)
        await stop.wait()


def _authenticated(handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        if not any(request.headers.get(name) for name in _KEY_HEADERS):
            raise ApiError(401, "The API key is missing.")
        response: web.StreamResponse = await handler(request)
        return response

    return checked


def _refuse_public(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(f"the fake model listens on loopback only, not on {host!r}: use 127.0.0.1", code="host")


async def _json(request: web.Request, kind: type = dict) -> Any:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON.") from None
    if not isinstance(body, kind):
        raise ApiError(400, f"The body is a JSON {type(body).__name__}, not a {kind.__name__}.")
    return body


def _validate(body: dict[str, Any], *, limited: bool) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "messages: a list of at least one message is required.")
    if not isinstance(body.get("model"), str):
        raise ApiError(400, "model: a string is required.")
    if body["model"] not in MODELS:
        raise ApiError(404, f"model: {body['model']}")
    most = body.get("max_tokens")
    if limited and (isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= _MOST_OUTPUT):
        raise ApiError(400, f"max_tokens: a whole number from 0 to {_MOST_OUTPUT} is required, not {most!r}.")
    if body.get("stream"):
        raise ApiError(400, "stream: this server answers in one piece only.")


def _reply(body: dict[str, Any]) -> Reply:
    try:
        call = _tool_call(body)
        return Reply([call], "tool_use") if call else Reply([{"type": "text", "text": answer(body)}])
    except Unsatisfiable as error:
        raise ApiError(400, f"output_config.format.schema: {error}") from None


def _tool_call(body: dict[str, Any]) -> dict[str, Any] | None:
    """Call an offered tool: the one demanded, or one the user names that was not called before."""
    choice = body.get("tool_choice") or {"type": "auto"}
    texts = user_texts(body)
    called = {block.get("name") for block in _assistant_blocks(body) if block.get("type") == "tool_use"}
    for tool in body.get("tools") or ():
        demanded = choice["type"] == "any" or choice.get("name") == tool["name"]
        named = choice["type"] == "auto" and tool["name"] not in called and any(tool["name"] in text for text in texts)
        if demanded or named:
            arguments = written(tool.get("input_schema") or {"type": "object"}, Source.of_messages(texts))
            identity = f"toolu_{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([tool['name'], len(body['messages'])])).hex}"
            return {"type": "tool_use", "id": identity[:30], "name": tool["name"], "input": arguments}
    return None


def _assistant_blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = [message.get("content") for message in body["messages"] if message.get("role") == "assistant"]
    return [block for content in contents if isinstance(content, list) for block in content]


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode(errors="replace")) / _BYTES_PER_TOKEN)


def _input_tokens(body: dict[str, Any]) -> int:
    texts = [*leaves([body.get("system", ""), body["messages"]])]
    return _tokens(
        "".join(texts) + "".join(json.dumps(body[part]) for part in ("tools", "output_config") if part in body)
    )


def _within(reply: Reply, max_tokens: int) -> tuple[Reply, int]:
    """Cut the reply to `max_tokens` and count its tokens; an argument of a tool is never cut in the middle."""
    text = reply.text or "".join(json.dumps(block["input"]) for block in reply.content)
    needed = _tokens(text)
    if needed <= max_tokens:
        return reply, needed
    kept = reply.text.encode(errors="replace")[: math.floor(max_tokens * _BYTES_PER_TOKEN)].decode(errors="ignore")
    return Reply([{"type": "text", "text": kept}] if kept else [], "max_tokens"), max_tokens


def _message(request_id: str, model: str, reply: Reply, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    }
    return {
        "id": request_id.replace("req_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": reply.content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _model_info(model: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "1970-01-01T00:00:00Z",  # the API's own word for "not known"
        "lifecycle": "active",
        "line": model.split("-")[1],
        "max_input_tokens": _CONTEXT,
        "max_tokens": _MOST_OUTPUT,
    }


def _error(error: ApiError, request_id: str) -> web.Response:
    envelope = {"type": "error", "error": error.error, "request_id": request_id}
    return web.json_response(envelope, status=error.status, headers={**error.headers, "request-id": request_id})


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _sent(request: web.Request, response: web.Response) -> bool:
    """Send the response; False when nobody is there to take it."""
    if request.transport is None or request.transport.is_closing():
        return False
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return True
