"""The tools of all roles of a run, and what they may touch: made once from the settings, opened for one item at a time.

What a tool leaves behind is a step of the item: its intent is committed before, and what nobody knows of is looked up.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from overnight.clock import Clock, SystemClock
from overnight.compensation import Step, Steps
from overnight.errors import Deferred, Denied, Unknown
from overnight.outcome import Scope
from overnight.tools.github_api import TOKEN
from overnight.tools.port import Arguments, Hands, Passes, Sides
from overnight.tools.toolbox import Granted, Toolbox, boxed

if TYPE_CHECKING:
    from overnight.ledger import Ledger

T = TypeVar("T")

LOOKS = 3  # times that something of unknown fate is looked up, and done again when it is not there
PAUSE = 2.0  # seconds between them
LATER = 300.0  # seconds until the item is taken up again whose write nobody could settle


@dataclass(frozen=True, slots=True)
class Toolkit:
    """Who may use what. `secrets` are values by role and name, `settings` plain variables, `redact` cleans results."""

    root: Path
    ledger: "Ledger"
    clock: Clock
    sides: Sides | None
    granted: Mapping[str, Mapping[str, Granted]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    redact: Callable[[Any], Any] = lambda value: value
    passes: Passes | None = None

    def box(self, role: str, scope: Scope, prompt: str, steps: Steps | None) -> "Box":
        """The tools of a role for one item; only links of its prompt may be published."""
        return Box(self, role, scope, boxed(self.granted.get(role, {}), prompt), steps)


@dataclass(frozen=True, slots=True)
class Box:
    """The tools of one item in one role."""

    kit: Toolkit
    role: str
    scope: Scope
    tools: Toolbox
    steps: Steps | None

    def __bool__(self) -> bool:
        return bool(self.tools)

    async def use(self, grant: Granted, asked: Arguments, call_id: str) -> Any:
        """Do what was allowed; returns what the model is told, without secrets."""
        kit = self.kit
        assert kit.sides is not None, "a role with tools has sides to ask"  # noqa: S101
        writes = _Written(self.steps, kit.clock)
        secrets = kit.secrets.get(self.role, {})
        passes = kit.passes if TOKEN in secrets else None  # the app stands in for the token, for nobody else
        hands = Hands(
            self.scope, call_id, kit.root, kit.clock, kit.ledger, kit.sides, writes, secrets, kit.settings, passes
        )  # fmt: skip
        return kit.redact(await grant.tool.work(asked, grant.limits, hands))


@dataclass(frozen=True, slots=True)
class _Written:
    """Writes as steps of the item. What is of unknown fate is always looked up, whatever the job says of its own."""

    steps: Steps | None
    clock: Clock

    async def once(
        self,
        name: str,
        do: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T | None]],
        undo: Callable[[T], Awaitable[object]] | None,
    ) -> T:
        if self.steps is None:
            raise Denied("here nothing may be written: it is no item's own work", code="no_item")
        steps, step = replace(self.steps, on_unknown="reconcile"), Step(f"tool:{name}", do, undo, find)
        for attempt in range(LOOKS):
            try:
                return await steps.take(step)
            except Unknown as error:
                last = error
                await self.clock.sleep(PAUSE * (attempt + 1))
        raise Deferred(f"{last}; it is looked up again later", code=last.code, after=LATER) from last


NO_TOOLS = Toolkit(Path(), None, SystemClock(), None)  # type: ignore[arg-type]  # no tools, no ledger
