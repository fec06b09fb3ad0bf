"""The other sides: a model with its bill, a mail relay with its spool, a bucket. Each keeps books of its own.

What goes wrong is drawn for each step (`Faults.draw`), by words that are explained where they are acted upon.
"""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiosmtplib

from overnight.clock import Clock
from overnight.dependency import Dependencies, Dependency
from overnight.errors import Permanent, Stop, Transient
from overnight.model import Lost, ModelReply, ModelRequest
from overnight.pricing import Prices, Usage
from tests.simulation.loop import Killed, check, current

_MESSAGE_ID = re.compile(rb"^Message-ID: (<[^>]+>)", re.MULTILINE)


class Faults(Protocol):
    """What goes wrong."""

    def draw(self, step: str) -> str:
        """The fault of a step, "" for none."""
        ...


def die() -> None:
    """Kill the process that is doing this. Raises Killed."""
    process = current()
    if process is not None:
        process.kill()
        raise Killed


@dataclass(frozen=True, slots=True)
class Billed:
    """A request that the model's owner charges for."""

    request_id: str
    model: str
    cost_nano: int
    at: float


@dataclass(slots=True)
class Model:
    """The model of all processes."""

    clock: Clock
    faults: Faults
    bill: list[Billed] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)

    def check(self) -> None:
        """There is a key."""

    async def create(self, request: ModelRequest) -> ModelReply:
        """Answer, or fail in one of the ways the real port knows."""
        check()
        self.asked_at.append(self.clock.monotonic())
        fault = self.faults.draw("model")
        await self.clock.sleep(0.5)
        check()
        if fault == "die_sent":
            die()
        self._refuse(fault)
        reply = self._billed(request, fault)
        if fault == "die_billed":
            die()
        if fault == "billed_lost":
            raise Lost("the reply was lost", code="connection_lost")
        if fault == "hang":
            await self.clock.sleep(300)
            raise Lost("did not answer within 300 s", code="timeout")
        return reply

    async def close(self) -> None:
        """Nothing is open."""

    def _refuse(self, fault: str) -> None:
        match fault:
            case "400":
                raise Permanent("bad request", code="http_400")
            case "401":
                raise Stop("bad key", code="http_401")
            case "429":
                raise Transient("slower", code="http_429", after=5 + 40 * self.clock.random())
            case "500" | "529":
                raise Transient("out of order", code=f"http_{fault}")
            case "connection":
                raise Transient("cannot connect", code="connection")

    def _billed(self, request: ModelRequest, fault: str) -> ModelReply:
        share = self.clock.random()
        usage = Usage(round(request.input_estimate * (0.5 + share)), max(1, round(request.max_tokens * share)))
        cost = Prices().price(request.model, usage, at=self.clock.now())
        billed = Billed(f"req_{len(self.bill):08}", request.model, cost, self.clock.monotonic())
        self.bill.append(billed)
        stop = {"truncated": "max_tokens", "refusal": "refusal"}.get(fault, "end_turn")
        text = "nonsense" if fault == "invalid" else json.dumps(_answer(request))
        return ModelReply(text, stop, usage, request.model, billed.request_id)


def _answer(request: ModelRequest) -> dict[str, Any]:
    """An answer of the asked shape: words, and empty lists."""
    fields = (request.schema or {})["properties"].items()
    return {name: [] if kind.get("type") == "array" else f"the {name}" for name, kind in fields}


@dataclass(slots=True)
class Relay:
    """The mail relay: `spool` counts what it has accepted, by Message-ID."""

    clock: Clock
    faults: Faults
    spool: Counter[str] = field(default_factory=Counter)
    taken_at: list[float] = field(default_factory=list)

    def connection(self, **_settings: Any) -> "Connection":
        """Take the place of `aiosmtplib.SMTP`."""
        return Connection(self)


@dataclass(slots=True)
class Connection:
    """One connection, as far as the transport uses it."""

    relay: Relay
    is_connected: bool = False

    async def connect(self) -> None:
        match await self._step("connect", 0.05):
            case "refused":
                raise aiosmtplib.SMTPConnectError("connection refused")
            case "greeting":
                raise aiosmtplib.SMTPResponseException(421, "too busy")
        self.is_connected = True

    async def mail(self, _sender: str) -> None:
        self._lost(await self._step("mail", 0.01))

    async def rcpt(self, recipient: str) -> None:
        fault = await self._step("rcpt", 0.01)
        self._lost(fault)
        if int(re.sub(r"\D", "", recipient) or 0) % 40 == 39:
            raise aiosmtplib.SMTPResponseException(550, "5.1.1 no such user")
        if fault in ("421", "450"):
            raise aiosmtplib.SMTPResponseException(int(fault), "come back later")

    async def data(self, message: bytes) -> None:
        """Take a message. `ambiguous`: it is taken, and the line goes dead before the reply."""
        fault = await self._step("data", 0.05)
        self._lost(fault)
        if fault in ("451", "554"):
            raise aiosmtplib.SMTPResponseException(int(fault), "not now, or not this")
        found = _MESSAGE_ID.search(message)
        assert found is not None
        self.relay.spool[found.group(1).decode()] += 1
        self.relay.taken_at.append(self.relay.clock.monotonic())
        if fault == "die_after":
            die()
        await asyncio.sleep(0.01)
        check()
        self._lost("lost" if fault == "ambiguous" else "")

    async def rset(self) -> None:
        check()

    async def quit(self) -> None:
        check()

    def close(self) -> None:
        self.is_connected = False

    def get_transport_info(self, _key: str) -> None:
        return None

    async def _step(self, step: str, seconds: float) -> str:
        check()
        fault = self.relay.faults.draw(step)
        await asyncio.sleep(seconds)
        check()
        if fault == "die":
            die()
        return fault

    def _lost(self, fault: str) -> None:
        if fault == "lost":
            self.is_connected = False
            raise aiosmtplib.SMTPServerDisconnected("the line went dead")


@dataclass(slots=True)
class Bucket:
    """A bucket in which files are put."""

    faults: Faults
    files: dict[str, bytes] = field(default_factory=dict)
    puts: int = 0

    def opened(self, _url: str, _root: Path, _environ: Any, dependencies: Dependencies) -> "Side":
        """Take the place of `open_store`."""
        return Side(self, dependencies.of("s3:books"))

    def put(self, key: str, content: bytes) -> None:
        """Keep the file. `late`: it is kept, and the reply is lost."""
        fault = self.faults.draw("put")
        if fault == "die":
            die()
        if fault == "down":
            raise Transient("503 slow down", code="http_503")
        self.files[key] = content
        self.puts += 1
        if fault == "late":
            raise Transient("the reply was lost", code="connection_lost")


@dataclass(frozen=True, slots=True)
class Side:
    """The bucket as a process reaches it, through breaker, retries and quota as the real one."""

    bucket: Bucket
    side: Dependency

    async def put(self, key: str, content: bytes) -> None:
        """Put a file."""
        await self.side.call(lambda: self._once(key, content), requests=1)

    async def _once(self, key: str, content: bytes) -> None:
        check()
        await asyncio.sleep(0.05)
        check()
        self.bucket.put(key, content)

    async def get(self, key: str) -> bytes | None:
        """Read a file."""
        check()
        return self.bucket.files.get(key)

    def describe(self) -> str:
        """Where it is."""
        return "s3://books/simulated"
