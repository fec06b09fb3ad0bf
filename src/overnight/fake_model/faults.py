"""Scripted faults: which request is hit, and what happens to it.

A list of rules, in YAML or JSON, from a file or `POST /_fake/faults`; the first rule that fires decides:

    - match: {contains: "t-3", nth: 1}          # empty: every request; also model, path, every
      fault: {kind: status, code: 529}
      times: 2                                  # default: no end

A fault acts at one of three moments, and each kind is one function in the table of its moment: instead of accepting
the request (`REFUSALS`), on the answer before it is billed (`EDITS`), or on the way back, when it is billed already
(`DELIVERIES`).
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from overnight.clock import Clock
from overnight.errors import ConfigError
from overnight.fake_model.material import embedded, leaves

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Dropped(Exception):
    """The connection is to be cut without an answer."""


class ApiError(Exception):
    """An answer in the error envelope of the API; `headers` go with it."""

    def __init__(
        self, status: int, message: str, *, error_code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error: dict[str, Any] = {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}
        if error_code is not None:
            self.error["details"] = {"error_code": error_code}


@dataclass(slots=True)
class Reply:
    """An answer on its way: the content blocks and why the model stopped."""

    content: list[dict[str, Any]]
    stop_reason: str = "end_turn"

    @property
    def text(self) -> str:
        """The text of the first block, which is what faults spoil; empty for a tool call."""
        return str(self.content[0].get("text", "")) if self.content else ""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Model):
    """Which requests; all given conditions hold. `nth` and `every` count the requests the others let through."""

    contains: str | None = None
    model: str | None = None
    path: str | None = None
    nth: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)

    def covers(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether a request is of this kind, counting aside."""
        return (
            self.path in (None, path)
            and self.model in (None, body.get("model"))
            and (self.contains is None or self.contains in _readable(body))
        )

    def chosen(self, count: int) -> bool:
        """Whether the `count`-th covered request is one to hit."""
        return self.nth in (None, count) and (self.every is None or count % self.every == 0)


class Fault(_Model):
    """What happens. `code`, `retry_after`, `error_code`, `message` belong to `status`, `seconds` to `hang`."""

    kind: str
    code: int = Field(default=500, ge=400, le=599)
    retry_after: str | float | None = None  # sent as written: seconds, an HTTP date, or nonsense
    error_code: str | None = None
    message: str = "A scripted fault."
    seconds: float = Field(default=3600, ge=0)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no fault {kind!r}; known are {', '.join(sorted(KINDS))}")
        return kind


class Rule(_Model):
    """One line of the script."""

    match: Match = Match()
    fault: Fault
    times: int | None = Field(default=None, ge=1)


class Script:
    """A list of rules and how often each has been met and has fired."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = list(rules)
        self._met = [0] * len(rules)
        self._fired = [0] * len(rules)

    def next_fault(self, path: str, body: Mapping[str, Any]) -> Fault | None:
        """Decide the fault for this request, if any. Every rule counts the request, the first that fires is used."""
        ready = [place for place, rule in enumerate(self._rules) if self._is_due(place, rule, path, body)]
        if not ready:
            return None
        self._fired[ready[0]] += 1
        return self._rules[ready[0]].fault

    def _is_due(self, place: int, rule: Rule, path: str, body: Mapping[str, Any]) -> bool:
        if not rule.match.covers(path, body):
            return False
        self._met[place] += 1
        return rule.match.chosen(self._met[place]) and (rule.times is None or self._fired[place] < rule.times)


def parse(rules: Any, where: str) -> Script:
    """Make a script from decoded YAML or JSON. Raises `ConfigError` naming `where` it came from."""
    try:
        return Script(TypeAdapter(list[Rule]).validate_python(rules or []))
    except ValidationError as error:
        raise ConfigError(f"{where}: the list of faults is not valid: {error}", code="faults") from None


def load(path: Path) -> Script:
    """Read the script in a YAML or JSON file. Raises `ConfigError`."""
    try:
        rules = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot read the list of faults: {error}", code="faults") from None
    return parse(rules, str(path))


def _readable(body: Mapping[str, Any]) -> str:
    texts = list(leaves(body))
    return "\n".join([*texts, *(inner for text in texts for inner in leaves(embedded(text)))])


def _status(fault: Fault) -> None:
    headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    raise ApiError(fault.code, fault.message, error_code=fault.error_code, headers=headers)


def _drop(_: Fault) -> None:
    raise Dropped


def _refused(_: Reply) -> Reply:
    return Reply([], "refusal")


def _cut_short(reply: Reply) -> Reply:
    return Reply([{"type": "text", "text": reply.text[: len(reply.text) // 2]}], "max_tokens")


def _misshapen(reply: Reply) -> Reply:
    """JSON of another kind than was asked for: whatever the schema says, an object is no array."""
    wrong: Any = {"unexpected": reply.text[:40]} if reply.text.startswith("[") else ["unexpected", reply.text[:40]]
    return Reply([{"type": "text", "text": json.dumps(wrong)}])


async def _hang(fault: Fault, response: web.Response, clock: Clock) -> web.Response:
    await clock.sleep(fault.seconds)
    return response


async def _drop_accepted(_: Fault, __: web.Response, ___: Clock) -> web.Response:
    raise Dropped


async def _cut_json(_: Fault, response: web.Response, __: Clock) -> web.Response:
    text = response.text or ""
    return web.Response(text=text[: len(text) // 2], content_type="application/json", headers=_own(response))


async def _html(_: Fault, response: web.Response, __: Clock) -> web.Response:
    page = "<!doctype html><title>Welcome</title><p>Please sign in to use this network.</p>"
    return web.Response(text=page, content_type="text/html", headers=_own(response))


def _own(response: web.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if not name.lower().startswith("content-")}


REFUSALS: dict[str, Callable[[Fault], None]] = {"status": _status, "drop_before_accept": _drop}
EDITS: dict[str, Callable[[Reply], Reply]] = {
    "refusal": _refused,
    "max_tokens": _cut_short,
    "schema_violation": _misshapen,
}
DELIVERIES: dict[str, Callable[[Fault, web.Response, Clock], Awaitable[web.Response]]] = {
    "hang": _hang,
    "drop_after_accept": _drop_accepted,
    "bad_json": _cut_json,
    "html": _html,
}
KINDS = {**REFUSALS, **EDITS, **DELIVERIES}
