"""The other sides: a model with its bill, a mail relay with its spool, a bucket. Each keeps books of its own.

What goes wrong is drawn for each step (`Faults.draw`), by words that are explained where they are acted upon.
"""

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from overnight.clock import Clock
from overnight.dependency import Dependencies, Dependency
from overnight.errors import Permanent, Stop, Transient
from overnight.mail.dialling import Unreachable
from overnight.mail.line import Lost, Reply
from overnight.mail.replies import classify
from overnight.model import Lost as ModelLost
from overnight.model import ModelReply, ModelRequest
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
            raise ModelLost("the reply was lost", code="connection_lost")
        if fault == "hang":
            await self.clock.sleep(300)
            raise ModelLost("did not answer within 300 s", code="timeout")
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
    """The mail relay: `spool` counts what it has accepted, by Message-ID.

    `known` asks the sender's ledger whether a message is done; `needless` are those that came in all the same.
    """

    clock: Clock
    faults: Faults
    known: Callable[[str], bool]
    spool: Counter[str] = field(default_factory=Counter)
    needless: list[str] = field(default_factory=list)
    taken_at: list[float] = field(default_factory=list)

    async def dial(self, _settings: Any) -> "Connection":
        """Take the place of `overnight.mail.smtp.dial`."""
        connection = Connection(self)
        match await connection.step("connect", 0.05):
            case "refused":
                raise Unreachable("connection refused", code="smtp_unreachable")
            case "greeting":
                raise classify("greeting", 421, "too busy")
        return connection

    def take(self, id_: str) -> None:
        """Accept a message."""
        if id_ in self.spool and self.known(id_):
            self.needless.append(id_)
        self.spool[id_] += 1


@dataclass(slots=True)
class Connection:
    """One connection, as far as the transport uses it: what is written is worked on when its reply is waited for."""

    relay: Relay
    quiet: bool = True
    extensions: frozenset[str] = frozenset()
    written: deque[bytes] = field(default_factory=deque)
    refusal: str = ""

    def write(self, data: bytes) -> None:
        """Take a command, or a text."""
        check()
        if not self.quiet:
            raise Lost("the line is dead")
        self.written.append(data)

    async def reply(self, at_least: float = 0.0) -> Reply:  # noqa: ARG002  as of a line; its steps take their own time
        """Answer what was written first."""
        command = self.written.popleft()
        word = command[:4]
        if word == b"MAIL":
            self._lost(await self.step("mail", 0.01))
        elif word == b"RCPT":
            return await self._recipient(command.decode())
        elif word == b"DATA":
            self.refusal = await self.step("data", 0.05)
            self._lost(self.refusal)
            return Reply(354, "go on")
        elif word not in (b"RSET", b"QUIT"):
            return await self._text(command)
        check()
        return Reply(250, "ok")

    def close(self) -> None:
        """Hang up."""
        self.quiet = False

    async def _recipient(self, command: str) -> Reply:
        fault = await self.step("rcpt", 0.01)
        self._lost(fault)
        if int(re.sub(r"\D", "", command) or 0) % 40 == 39:
            return Reply(550, "5.1.1 no such user")
        return Reply(int(fault), "come back later") if fault in ("421", "450") else Reply(250, "ok")

    async def _text(self, message: bytes) -> Reply:
        """Take a message. `ambiguous`: it is taken, and the line goes dead before the reply."""
        fault, self.refusal = self.refusal, ""
        if fault in ("451", "554"):
            return Reply(int(fault), "not now, or not this")
        found = _MESSAGE_ID.search(message)
        assert found is not None
        self.relay.take(found.group(1).decode())
        self.relay.taken_at.append(self.relay.clock.monotonic())
        if fault == "die_after":
            die()
        await asyncio.sleep(0.01)
        check()
        self._lost("lost" if fault == "ambiguous" else "")
        return Reply(250, "taken")

    async def step(self, step: str, seconds: float) -> str:
        """Do one thing that takes time and may fail."""
        check()
        fault = self.relay.faults.draw(step)
        await asyncio.sleep(seconds)
        check()
        if fault == "die":
            die()
        return fault

    def _lost(self, fault: str) -> None:
        if fault == "lost":
            self.quiet = False
            raise Lost("the line went dead")


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
