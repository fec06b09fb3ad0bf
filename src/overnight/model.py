"""The model, behind one port: a request, a reply, and every failure as one of our errors.

The only importer of anthropic, and a late one: it costs a second, which jobs without a model must not pay. The SDK
never retries here: its repetitions would be unseen by budget and limits. Sampling parameters are not sent, current
models refuse them.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from overnight import logs
from overnight.clock import Clock, SystemClock
from overnight.errors import OvernightError, Permanent, Stop, TooLong, Transient
from overnight.retry import retry_after
from overnight.wire import SMALLEST_WINDOW, Lost, ModelReply, ModelRequest, checked, garbled, parsed

__all__ = [
    "SMALLEST_WINDOW",
    "Listed",
    "Lost",
    "Model",
    "ModelReply",
    "ModelRequest",
    "Models",
    "forbid_real",
    "headers_of",
]

DEADLINE = 300.0  # seconds for a whole request; the SDK's own timeouts are per read and never end a trickle
CONNECT = 10.0  # seconds until there is a connection; nothing is billed before
OFFICIAL = "https://api.anthropic.com"
SPENT = {"enforced_spend_limit_reached", "linked_organization_spend_limit_reached", "contract_spend_limit_reached"}
MESSAGE = 200  # characters of the API's own words in an error of ours
REMEDIES = {  # what no request can get around, and what to do about it
    301: "the model is somewhere else: check ANTHROPIC_BASE_URL",
    308: "the model is somewhere else: check ANTHROPIC_BASE_URL",
    401: "check ANTHROPIC_API_KEY in .env and what this key may use",
    402: "the account may not spend more; see its billing page",
    403: "check ANTHROPIC_API_KEY in .env and what this key may use",
    404: "check the names of models under `roles:` in schedule.yaml",
    407: "the proxy on the way to the model asks for a password: set it in HTTPS_PROXY",
}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Listed:
    """What the API says of a model; None: it does not say. `max_tokens` is the most an answer may have."""

    lifecycle: str
    retires_at: datetime | None = None
    max_tokens: int | None = None


class Models(Protocol):
    """Who answers requests: the real API, or a script in tests."""

    def check(self) -> None:
        """Raise Stop when no request can be made at all, before anybody waits for one."""
        ...

    async def create(self, request: ModelRequest) -> ModelReply:
        """Answer one request, or raise one of our errors."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


_forbidden: list[str] = []  # an entry for each `forbid_real` in force; a list because they nest


@contextmanager
def forbid_real() -> Iterator[None]:
    """Until the block ends this process talks to models on loopback only: tests must not cost money."""
    _forbidden.append("here")
    try:
        yield
    finally:
        _forbidden.pop()


class Model:
    """Models of the Anthropic API, or of a server that speaks like it."""

    def __init__(self, key: str, url: str, clock: Clock, deadline: float) -> None:
        self._given, self._key = key, key.strip().strip("\"'").strip()
        self._url = url
        self._clock = clock
        self._deadline = deadline
        self._client: Any = None
        self._opening = asyncio.Lock()

    @classmethod
    def open(cls, environ: Mapping[str, str], *, clock: Clock | None = None, deadline: float = DEADLINE) -> Self:
        """Prepare a model with the key `ANTHROPIC_API_KEY` at `ANTHROPIC_BASE_URL` (default: the real API).

        Connects to nothing yet; a missing key is a Stop of the first request. `deadline`: seconds for a whole request.
        """
        key = environ.get("ANTHROPIC_API_KEY", "")
        url = environ.get("ANTHROPIC_BASE_URL", "").strip() or OFFICIAL
        return cls(key, url, clock or SystemClock(), deadline)

    async def create(self, request: ModelRequest) -> ModelReply:
        """Ask once, within the deadline.

        Raises Transient for what may work in a moment (Lost when it may have been billed), Permanent for a request the
        API refuses, Stop for what no request can get around: key, billing, an unknown model.
        """
        client = await self._opened()
        import anthropic  # noqa: PLC0415  after _opened has loaded it in a thread

        try:
            async with asyncio.timeout(self._deadline):
                answer = await client.messages.with_raw_response.create(**_parameters(request))
                body = await answer.read()
        except anthropic.APIError as error:
            raise self._classified(error, request) from error
        except TimeoutError as error:
            raise Lost(f"{request.model} did not answer within {self._deadline:.0f} s", code="timeout") from error
        return checked(parsed(body), dict(answer.headers.items()))

    async def listed(self, model: str) -> Listed | None:
        """Ask what is known of a model, which costs nothing; None when the API knows no such model.

        Raises as `create` does.
        """
        client = await self._opened()
        import anthropic  # noqa: PLC0415  loaded by now

        try:
            async with asyncio.timeout(self._deadline):
                info = await client.models.retrieve(model)
        except anthropic.NotFoundError:
            return None
        except anthropic.APIError as error:
            raise self._classified(error, ModelRequest(model, "", (), 0)) from error
        except TimeoutError as error:
            raise Transient(f"nothing was heard of {model} within {self._deadline:.0f} s", code="timeout") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise garbled("JSON that ends too early") from error
        if not isinstance(info, anthropic.types.ModelInfo) or not isinstance(info.lifecycle, str):
            raise garbled(type(info).__name__)
        return Listed(info.lifecycle, info.retires_at, info.max_tokens)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self.check()
                self._client = await asyncio.to_thread(self._connected)
        return self._client

    def check(self) -> None:
        """Raise Stop for a key that is missing or cannot be one; without asking anybody."""
        if _forbidden and urlsplit(self._url).hostname not in LOOPBACK:
            raise Stop(f"a test would have asked the real model at {self._url}; script the answers", code="real_model")
        if not self._key:
            raise Stop(
                "there is no API key for the model: set ANTHROPIC_API_KEY in .env, or try `overnight demo`",
                code="no_api_key",
            )
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise Stop("ANTHROPIC_API_KEY holds characters no key has: copy it again into .env", code="no_api_key")
        if self._given != self._key:
            logs.get().warning("ANTHROPIC_API_KEY has blanks or quotes around it, which are left out: mend it in .env")
            self._given = self._key

    def _connected(self) -> Any:
        import anthropic  # noqa: PLC0415  late, and in a thread: it takes a second

        timeout = anthropic.Timeout(self._deadline, connect=min(CONNECT, self._deadline / 4))
        client = anthropic.DefaultAioHttpClient(timeout=timeout, follow_redirects=False)
        return anthropic.AsyncAnthropic(
            api_key=self._key, base_url=self._url, max_retries=0, timeout=timeout, http_client=client
        )

    def _classified(self, error: Any, request: ModelRequest) -> OvernightError:
        """Our error for one of the SDK's, by class and code; messages change without notice."""
        import anthropic  # noqa: PLC0415  loaded by now

        if isinstance(error, anthropic.APIStatusError):
            return _refused(error, request, retry_after(error.response.headers, self._clock))
        if isinstance(error, anthropic.APIConnectionError):
            return _disconnected(error, self._url)
        return garbled(type(error).__name__)


def headers_of(error: BaseException) -> Mapping[str, str]:
    """Return the headers of the response behind an error of `Model.create`; none when there was no response."""
    response = getattr(error.__cause__, "response", None)
    return {} if response is None else response.headers


def _parameters(request: ModelRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": [dict(message) for message in request.messages],
    }
    if request.system:
        parameters["system"] = request.system
    if request.tools:
        parameters["tools"] = [dict(tool) for tool in request.tools]
        parameters["tool_choice"] = {"type": "none" if request.answer_now else "auto"}
    if request.schema is not None:
        schema = _transformed(json.dumps(request.schema))
        parameters["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return parameters


@lru_cache(maxsize=64)
def _transformed(schema: str) -> Mapping[str, Any]:
    """A JSON schema, as text, in the form that the API takes."""
    import anthropic  # noqa: PLC0415  loaded by now

    return anthropic.transform_schema(json.loads(schema))


def _refused(error: Any, request: ModelRequest, after: float | None) -> OvernightError:
    status, reason = error.status_code, error.error_code or error.type or "no reason given"
    said = f"the model's API answered {status} ({reason})"
    if error.request_id:
        said += f", request {error.request_id}"
    code = error.error_code or f"http_{status}"
    broke = error.error_code in SPENT or error.type == "billing_error"
    if remedy := REMEDIES.get(402 if broke else status):
        return Stop(f"{said}: {remedy}", code=code)
    if status == 504:
        return Lost(said, code=code, after=after)
    if 300 <= status < 400:
        return Transient(f"{said}: something on the way leads elsewhere, such as a network's login page", code=code)
    if status in (408, 409, 429) or status >= 500:
        return Transient(said, code=code, after=after)
    if status == 413 or (code == "http_400" and not request.surely_fits):
        return TooLong(f"{said}, to {request.size} bytes for {request.model}: give it less data, or split=", code=code)
    return Permanent(f"{said}: {_told(error)}", code=code)


def _told(error: Any) -> str:
    """What the API says is wrong with a request: for a person to read, nothing is decided by it."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inside = body.get("error")
    message = inside.get("message") if isinstance(inside, Mapping) else None
    return str(message or "it does not say why")[:MESSAGE]


def _disconnected(error: BaseException, url: str) -> OvernightError:
    """Tell apart what was never sent, for want of a connection, from what may have been carried out.

    Only the innermost cause can tell: the transport says ConnectError also for a connection cut after the request.
    """
    import aiohttp  # noqa: PLC0415  the SDK's backend, loaded by now

    host = urlsplit(url).netloc
    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            return Stop(
                f"the certificate of {host} is not valid ({cause.certificate_error}): check ANTHROPIC_BASE_URL, the "
                "clock of this machine, and whether a proxy stands in between",
                code="certificate",
            )
        if isinstance(cause, aiohttp.ClientHttpProxyError) and cause.status == 407:
            return Stop(f"{REMEDIES[407]} (407)", code="http_407")
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            return Transient(f"the proxy on the way to {host} answered {cause.status}", code="proxy")
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            reason = getattr(cause, "strerror", None) or "no answer"
            return Transient(f"cannot connect to the model at {host}: {reason}", code="connection")
    return Lost(f"lost the connection to the model at {host} before its reply", code="connection_lost")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
