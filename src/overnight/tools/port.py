"""The port of tools: a typed function, the limits a role sets on its arguments, and what it may touch.

A tool registers nowhere: `@tool` makes a value of a function. Whether it may be called is decided outside the model, by
the role's limits, each time; what is not granted is denied.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field

from overnight.clock import Clock
from overnight.outcome import Scope

if TYPE_CHECKING:  # their libraries take half a second, which reading schedule.yaml does not need
    from overnight.dependency import Dependency
    from overnight.ledger import Ledger

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Arguments(BaseModel):
    """What a model hands to a tool: no unknown fields, no values of a nearly right type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(BaseModel):
    """What a role may do with a tool, written in schedule.yaml. `max_calls` counts within one question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_calls: int = Field(default=20, ge=1, le=1000)
    """Calls within one question."""

    def refuse(self, asked: Any) -> None:
        """Raise Denied for arguments that the role may not use. Called before anything happens."""

    def trusted(self, asked: Any) -> list[str]:  # noqa: ARG002
        """Texts whose links and addresses this call may publish, beside those of the role's prompt."""
        return []

    def shown(self) -> str:
        """The limits as they stand in schedule.yaml, on one line."""
        return ", ".join(f"{name} {_shown(value)}" for name, value in self.model_dump().items())


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


class Sides(Protocol):
    """The other sides, with their limits and breakers."""

    def of(self, name: str) -> "Dependency":
        """The dependency of this name."""
        ...


class Writes(Protocol):
    """Who does something outside once, and looks it up rather than repeat it."""

    async def once(
        self,
        name: str,
        do: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T | None]],
        undo: Callable[[T], Awaitable[object]] | None,
    ) -> T:
        """The value of `do()`, also of an earlier attempt."""
        ...


class Passes(Protocol):
    """Who gives out tokens that live for an hour, instead of one that lasts."""

    async def token(self, repo: str, rights: Mapping[str, str]) -> str:
        """A token for one repository with these rights and no others."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What a tool may touch during one call.

    `call_id` (32 hex digits) is the same for every attempt at this call: the marker in what it writes. `secrets` holds
    those that the role may use, `settings` the plain variables beside them, `passes` a GitHub App, if there is one.
    """

    scope: Scope
    call_id: str
    root: Path
    clock: Clock
    ledger: "Ledger"
    sides: Sides
    writes: Writes
    secrets: Mapping[str, str]
    settings: Mapping[str, str]
    passes: Passes | None = None

    async def once(
        self,
        do: Callable[[], Awaitable[T]],
        *,
        find: Callable[[], Awaitable[T | None]],
        undo: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """Do something that stays, once per call: its intent is committed before, its value after.

        `find()` looks it up after a crash or a lost reply, and returns its value, or None when it was not done.
        `undo(value)` takes it back when the item ends with Downstream. The value must survive JSON. `do` raises Unknown
        when it may or may not have happened, and any other error of this package when it surely has not.
        """
        return await self.writes.once(self.call_id, do, find, undo)

    async def before(self, look: Callable[[], Awaitable[T]]) -> T:
        """What `look()` saw before this call wrote anything, also when a crash has made it look again: for `undo`."""

        async def find() -> T | None:
            return None  # nothing was written yet: it is looked at anew

        return await self.writes.once(f"{self.call_id}:before", look, find, None)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    `outward`: it reaches other machines, so that what the model has read can leave with its arguments. `publishes`:
    others will read the texts in its arguments. `writes`: it leaves something behind, by `hands.once`. `secrets`: names
    of variables it cannot do without.
    """

    name: str
    work: Callable[[Any, Any, Hands], Awaitable[Any]]
    arguments: type[Arguments]
    limits: type[Limits]
    outward: bool = False
    publishes: bool = False
    writes: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def wire_name(self) -> str:
        """The name that a model calls it by: the API allows no dots."""
        return "".join(char if char.isalnum() or char in "_-" else "_" for char in self.name)

    def declared(self) -> dict[str, Any]:
        """The tool as the API takes it."""
        schema = self.arguments.model_json_schema()
        return {"name": self.wire_name, "description": inspect.getdoc(self.work) or self.name, "input_schema": schema}


def tool(
    name: str,
    *,
    outward: bool = False,
    publishes: bool = False,
    writes: bool = False,
    secrets: tuple[str, ...] = (),
) -> Callable[[Callable[[Any, Any, Hands], Awaitable[Any]]], Tool]:
    """Make a tool of `async def work(asked: Arguments, limits: Limits, hands: Hands)`; its docstring is for the model.

    Raises TypeError when the two models are not annotated.
    """

    def made(work: Callable[[Any, Any, Hands], Awaitable[Any]]) -> Tool:
        hints = get_type_hints(work)
        arguments, limits, *_ = [*(hints.get(each) for each in inspect.signature(work).parameters), None, None]
        if not _is(arguments, Arguments) or not _is(limits, Limits):
            raise TypeError(f"the tool {name!r} is to be annotated: (asked: Arguments, limits: Limits, hands: Hands)")
        return Tool(name, work, arguments, limits, outward, publishes, writes, secrets)

    return made


def _is(hint: Any, base: type[M]) -> TypeGuard[type[M]]:
    return isinstance(hint, type) and issubclass(hint, base)
