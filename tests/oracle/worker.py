"""A process that asks questions for the oracle: many callers, one agent, on a ledger it shares with others.

Reads commands from stdin, one JSON object a line, and answers each by one line on stdout:

    {"do": "open", "root": …, "job": …, "epoch": …}       a run over the job's slot, with the ports of its project
    {"do": "work", "keys": […], "callers": 32}            ask a question for each key until none is left, or no money
    {"do": "close"}

An hour on its clock is 3.6 s for everybody, so that waits are short and all their proportions are kept.
"""

import asyncio
import dataclasses
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import anthropic  # noqa: F401  loaded before a clock runs on which that second would be a quarter of an hour
from annotated_types import MinLen

from overnight import logs
from overnight.budget import reap
from overnight.errors import Deferred, OvernightError, Skip
from overnight.ledger import Ledger
from overnight.ledger.items import plan
from overnight.ledger.runs import Opening, open_run
from overnight.model import Model, ModelReply, ModelRequest, Models
from overnight.outcome import Scope
from overnight.ports import Ports, open_ports
from overnight.pricing import Prices
from overnight.redact import Redactor
from overnight.retry import Retry
from overnight.schedule import load

SPEED = 1000
DAY = datetime(2026, 11, 22, tzinfo=UTC)
LONGEST = 30.0  # seconds on our clock until a deferred question is asked again
PATIENCE = 500  # times a question is taken up again
TEXT = (
    "The mast at the northern end of the harbour was struck twice during the storm of the third night, and nobody has "
    "yet been able to say why it stands. The keeper of the light has written down the hour of both, and a third that "
    "he has only heard of from the crew of a ferry. Nothing else was lost."
)


@dataclass
class Findings:
    """A long answer to a short question: what it costs is close to what it may cost."""

    lines: Annotated[list[str], MinLen(26)]


class FastClock:
    """The real clock, a thousand times as fast, from the first minute of a day on."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch

    def now(self) -> datetime:
        return DAY + timedelta(seconds=60 + (time.time() - self._epoch) * SPEED)

    def monotonic(self) -> float:
        return time.monotonic() * SPEED

    def random(self) -> float:
        return random.random()  # noqa: S311  jitter

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0) / SPEED)


@dataclass
class Watched:
    """A model that notes the most a request to it could have cost, in nano-USD."""

    model: Models
    largest: int = 0

    def check(self) -> None:
        self.model.check()

    async def create(self, request: ModelRequest) -> ModelReply:
        most = Prices().worst(request.model, request.input_bound, request.max_tokens, at=DAY)
        self.largest = max(self.largest, most)
        return await self.model.create(request)

    async def close(self) -> None:
        await self.model.close()


@dataclass
class Desk:
    """One open run: its agent, and what it believes has happened."""

    ledger: Ledger
    ports: Ports
    scope: Scope
    clock: FastClock
    watched: Watched
    ends: Counter[str] = field(default_factory=Counter)
    answered: list[str] = field(default_factory=list)
    believed: int = 0
    patience: int = PATIENCE

    @classmethod
    def open(cls, root: str, job: str, epoch: float, *, deadline: float | None = None, attempts: int = 3) -> "Desk":
        clock = FastClock(epoch)
        schedule = load(Path(root) / "schedule.yaml", os.environ)
        ledger = Ledger.open(schedule.ledger, root=Path(root), clock=clock)
        ports = open_ports(Path(root), schedule, schedule.jobs[job], ledger, clock)
        model = ports.agent.model if deadline is None else Model.open(schedule.environ, clock=clock, deadline=deadline)
        watched = Watched(model)
        ports = replace(ports, agent=replace(ports.agent, model=watched, retry=Retry(attempts)))
        day = DAY.date().isoformat()
        opening = Opening(job, day, "manual", DAY, day, day, "here", os.getpid(), "1", "h")
        scope = ledger.writing(lambda connection: open_run(connection, opening, clock.now(), locked=True))
        ledger.writing(lambda connection: reap(connection, clock.now()))
        return cls(ledger, ports, scope, clock, watched)

    async def work(
        self, keys: list[str], callers: int, *, hurried: int | None = None, patience: int = PATIENCE
    ) -> dict[str, Any]:
        """Ask for all keys, a deferred one up to `patience` times; with `hurried`, a seed, some callers give up."""
        self.patience = patience
        rows = [(number, key, "{}") for number, key in enumerate(keys)]
        await self.ledger.write(lambda connection: plan(connection, self.scope, rows))
        waiting = iter(keys)
        await asyncio.gather(*(self._caller(waiting, hurried) for _ in range(callers)))
        return {
            "ends": self.ends,
            "answered": self.answered,
            "believed": self.believed,
            "largest": self.watched.largest,
            "warnings": sum("nearly spent" in notice for notice in self.ports.agent.warnings),
        }

    async def close(self) -> None:
        await self.ports.close()
        self.ledger.close()

    async def _caller(self, waiting: Any, hurried: int | None) -> None:
        for key in waiting:
            dice = random.Random(f"{hurried}/{key}")  # noqa: S311  a seed that can be replayed
            limit = dice.random() * 0.1 if hurried is not None and dice.random() < 0.2 else None
            try:
                async with asyncio.timeout(limit):
                    await self._asked(key)
            except TimeoutError:
                self.ends["gave_up"] += 1
            except Skip as error:
                self.ends[f"skip_{error}"] += 1
                return
            except OvernightError as error:
                self.ends[error.code] += 1
            finally:
                spent = self.ports.agent.spent(dataclasses.replace(self.scope, key=key))
                self.believed += spent.cost_nano if spent else 0

    async def _asked(self, key: str) -> None:
        """Ask until there is an answer; every seventh is asked for a second time, as after a failure behind it."""
        source = await self._answer(key)
        self.ends[source] += 1
        self.answered.append(key)
        if int(key) % 7 == 0:
            self.ends[f"then_{await self._answer(key)}"] += 1

    async def _answer(self, key: str) -> str:
        scope = dataclasses.replace(self.scope, key=key)
        for _ in range(self.patience):
            try:
                answer = await self.ports.agent.ask(scope, "witness", data={"id": key, "report": TEXT}, output=Findings)
            except Deferred as error:
                self.ends["deferred"] += 1
                await self.clock.sleep(min(error.after or LONGEST, LONGEST))
            else:
                return answer.source
        raise Deferred("asked too often", code="worn_out")


async def serve() -> None:
    """Follow commands until there are none."""
    desk: Desk | None = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        match command.pop("do"):
            case "open":
                desk, said = Desk.open(**command), {}
            case "work":
                assert desk is not None
                said = await desk.work(**command)
            case _:
                assert desk is not None
                await desk.close()
                desk, said = None, {}
        print(json.dumps(said), flush=True)  # noqa: T201  the protocol


if __name__ == "__main__":
    logs.configure(level="error", stream=sys.stderr, redactor=Redactor(()))
    asyncio.run(serve())
