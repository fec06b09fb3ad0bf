"""`tasks.create` and `tasks.results`: for the one role that plans the night; all others cannot touch the queue."""

from typing import Any

from pydantic import Field

from overnight.errors import Denied
from overnight.tools.port import Arguments, Hands, Limits, tool

MOST = 100  # tasks in one answer
WORDS = 2_000  # characters of a result in it


class Planning(Limits):
    """The roles that new tasks may be given to."""

    roles: list[str] = Field(min_length=1)
    """Roles that new tasks may have."""

    def refuse(self, asked: "Plan") -> None:
        """Deny other roles."""
        if asked.role not in self.roles:
            raise Denied(f"tasks may be given to {', '.join(self.roles)}, not to {asked.role:.64}", code="role")


class Plan(Arguments):
    """A task for a later night."""

    role: str = Field(max_length=64)
    title: str = Field(min_length=1, max_length=500)
    body: str = Field(default="", max_length=50_000)
    priority: int = Field(default=0, ge=-1000, le=1000)


class Which(Arguments):
    """Tasks in one state: open, done or cancelled."""

    state: str = Field(default="done", pattern="^(open|done|cancelled)$")


@tool("tasks.create", writes=True)
async def create(asked: Plan, _limits: Planning, hands: Hands) -> dict[str, str]:
    """Put a task into the queue; it is worked on in a later night. One that is there already is not added again."""
    from overnight.tasks import NewTask, add, id_of, withdraw  # noqa: PLC0415  late: the database library is behind it

    new, now = NewTask(**asked.model_dump()), hands.clock.now()

    async def do() -> dict[str, str]:
        added = await hands.ledger.write(lambda connection: add(connection, [new], f"tool:{hands.call_id}", now))
        known = await hands.ledger.read(id_of, new)
        return {"task": known or "", "added": "yes" if added else "there already"}

    async def find() -> dict[str, str] | None:
        return None  # the same task once more is the same task

    async def undo(value: dict[str, str]) -> None:
        source = f"tool:{hands.call_id}"
        await hands.ledger.write(lambda connection: withdraw(connection, value["task"], source, hands.clock.now()))

    return await hands.once(do, find=find, undo=undo)


@tool("tasks.results")
async def results(asked: Which, _limits: Limits, hands: Hands) -> list[dict[str, Any]]:
    """List the tasks of a state with their results, the latest first."""
    from overnight.tasks import listing  # noqa: PLC0415  late

    rows = await hands.ledger.read(listing, asked.state)
    latest = sorted(rows, key=lambda row: row["done_at"] or row["created_at"], reverse=True)[:MOST]
    names = ("id", "role", "title", "state", "priority", "attempts", "error")
    return [{**{name: row[name] for name in names}, "result": (row["result"] or "")[:WORDS]} for row in latest]
