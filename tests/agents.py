"""An agent on a ledger of its own, asking the fake model; its clock is never waited for."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from overnight.agent import Agent, Answer
from overnight.budget import Budgets, Caps
from overnight.dependency import Dependencies
from overnight.fake_model import FakeModel, serve
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.items import plan
from overnight.ledger.runs import Opening, open_run
from overnight.ledger.tables import call, item, run, slot
from overnight.model import Model, ModelReply, ModelRequest
from overnight.outcome import Scope
from overnight.roles import Role, Roles

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
STORIES = {"stories": [{"id": "s-1", "title": "Rain", "body": "Rain fell on the market for three days."}]}


@dataclass
class Edition:
    """What the editor is asked for."""

    subject: str
    intro: str


PLAIN = Edition("Today", "Here is the news.")


@dataclass
class Clock:
    """A clock whose sleeps take no time."""

    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Killed:
    """A model during whose request the process dies."""

    def check(self) -> None:
        """No key is needed."""

    async def create(self, request: ModelRequest) -> ModelReply:
        """Never answer."""
        await asyncio.Event().wait()
        raise AssertionError(request)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Bench:
    """A project of one role and one item, with a fake model."""

    root: Path
    fake: FakeModel
    ledger: Ledger
    scope: Scope
    clock: Clock = field(default_factory=Clock)
    key: str = "sk-sham"
    models: tuple[str, ...] = (HAIKU,)
    caps: Caps = field(default_factory=Caps)
    agents: list[Agent] = field(default_factory=list)

    def agent(self, **options: Any) -> Agent:
        """Make a new agent on the same ledger, as a process started after a crash would."""
        environ = {"ANTHROPIC_API_KEY": self.key, "ANTHROPIC_BASE_URL": self.fake.url}
        ports: dict[str, Any] = {
            "model": Model.open(environ, clock=self.clock, deadline=5),
            "budgets": Budgets(self.ledger, self.clock, ZoneInfo("UTC"), self.caps),
            "api": Dependencies({}, self.clock).of("anthropic"),
            "ledger": self.ledger,
            "roles": Roles(self.root, {"editor": Role("editor", self.models, max_tokens=300)}),
        }
        self.agents.append(Agent(clock=self.clock, **{**ports, **options}))
        return self.agents[-1]

    async def ask(self, agent: Agent | None = None, **options: Any) -> Answer[Any]:
        """Ask the editor for an edition."""
        asked = {"data": STORIES, "output": Edition, **options}
        return await (agent or self.agent()).ask(self.scope, "editor", **asked)

    @property
    def posts(self) -> int:
        """Requests that reached the server."""
        return sum(self.fake.requests().get("/v1/messages", {}).values())

    def rows(self) -> list[dict[str, Any]]:
        """Read the calls, oldest first."""
        query = select(call).order_by(call.c.started_at, call.c.nth)
        return self.ledger.reading(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def costs(self) -> set[int]:
        """Read what item, slot, run and the sum of calls have come to: one number when the books are right."""
        columns = [item.c.cost_nano, slot.c.cost_nano, run.c.cost_nano]
        read = [
            self.ledger.reading(lambda connection, c=c: connection.execute(select(c)).scalar_one()) for c in columns
        ]
        return {*read, sum(row["cost_nano"] for row in self.rows())}

    def day(self) -> tuple[int, int]:
        """Read what the day's budget has settled and reserved."""
        query = select(budget.c.settled_nano, budget.c.reserved_nano).where(budget.c.scope == "day:2026-11-22")
        row = self.ledger.reading(lambda connection: connection.execute(query).one())
        return (row[0], row[1])


@asynccontextmanager
async def opened(root: Path, *faults: Mapping[str, Any]) -> AsyncIterator[Bench]:
    folder = root / "templates" / "roles"
    folder.mkdir(parents=True)
    (folder / "editor.md.j2").write_text("You are an editor.")
    ledger = Ledger.open(f"sqlite:///{root}/ledger.db")
    opening = Opening("daily", "2026-11-22", "manual", NOW, "2026-11-22", "2026-11-22", "here", 1, "1", "h")
    scope = ledger.writing(lambda connection: open_run(connection, opening, NOW, locked=True))
    ledger.writing(lambda connection: plan(connection, scope, [(0, "s1", "{}")]))
    async with serve(faults=faults) as fake:
        bench = Bench(root, fake, ledger, dataclasses.replace(scope, key="s1"))
        yield bench
        for agent in bench.agents:
            await agent.model.close()
    ledger.close()


def status(code: int, **more: Any) -> dict[str, Any]:
    return {"match": {"path": "/v1/messages"}, "fault": {"kind": "status", "code": code, **more}}
