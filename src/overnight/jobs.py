"""A job is a function of one item; `@job` says where the items come from and changes nothing else.

    @job(items=active_subscribers, key=lambda s: s.id, concurrency=20)
    async def daily_email(subscriber: Subscriber, run: Run) -> str: ...

Decorating has no side effect and registers nowhere; the decorated function stays callable. The author never writes the
loop: that one item's failure does not touch the others is structure, not care.
"""

import dataclasses
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_type_hints, overload

from pydantic import TypeAdapter

from overnight.errors import ConfigError
from overnight.run import Run

I = TypeVar("I")  # noqa: E741  I for item, R for result: the two letters of this module
R = TypeVar("R")

Items = Callable[[Run], Iterable[I] | AsyncIterable[I]]


@dataclass(frozen=True, slots=True)
class Options:
    """How a job is run. Seconds for times; `attempts` includes the first; pauses grow from `initial`."""

    concurrency: int = 8  # items at a time
    timeout: float = 3600.0  # seconds for a run; what is left stays pending
    item_timeout: float = 120.0  # seconds for an item, without waits; each request to a model has 300 of its own
    attempts: int = 3  # of an item that raises Transient, the first included
    initial: float = 1.0
    longest: float = 30.0

    def override(self, values: dict[str, Any]) -> "Options":
        """These options with some replaced."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class Job(Generic[I, R]):
    """A unit of schedule.yaml: `work` is done for each of `items`, known by `key`."""

    name: str
    work: Callable[[I, Run], Awaitable[R]]
    items: Items[I] | None
    key: Callable[[I], str]
    options: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, item: I, run: Run) -> R:
        """Do the work of one item."""
        return await self.work(item, run)

    def takes(self, kind: type) -> bool:
        """Whether its items are of this very type."""
        return self._hints().get("item") is kind

    def codec(self) -> TypeAdapter[I]:
        """How an item travels through JSON: by the type of the function's first parameter.

        Raises ConfigError for one without a type: what `items` yields would come back from the ledger as a plain dict.
        """
        hints = self._hints()
        if self.items is not None and "item" not in hints:
            raise ConfigError(self._untyped())
        return TypeAdapter(hints.get("item", Any))

    def results(self) -> TypeAdapter[R]:
        """How a result is kept as JSON: by the function's return type."""
        return TypeAdapter(self._hints().get("return", Any))

    def _hints(self) -> dict[str, Any]:
        try:
            hints = get_type_hints(self.work)
        except NameError as error:
            raise ConfigError(f"job {self.name}: {error}; its types must be importable in its module") from error
        first = self._first()
        return {name: hints[key] for name, key in (("item", first), ("return", "return")) if key in hints}

    def _first(self) -> str:
        return next(iter(inspect.signature(self.work).parameters), "item")

    def _untyped(self) -> str:
        code, first = inspect.unwrap(self.work).__code__, self._first()
        return (
            f"{code.co_filename}:{code.co_firstlineno}: error: job {self.name}: {first} has no type, so its items "
            f"would come back from the ledger as plain dicts; write the type that items= yields: "
            f"async def {self.work.__name__}({first}: TYPE, run: Run)"
        )


@overload
def job(work: Callable[[str, Run], Awaitable[R]], /) -> Job[str, R]: ...
@overload
def job(
    *,
    items: Items[I],
    key: Callable[[I], str] = ...,
    concurrency: int | None = ...,
    timeout: float | None = ...,
    item_timeout: float | None = ...,
    attempts: int | None = ...,
) -> Callable[[Callable[[I, Run], Awaitable[R]]], Job[I, R]]: ...


def job(
    work: Callable[[Any, Run], Awaitable[Any]] | None = None,
    /,
    *,
    items: Items[Any] | None = None,
    key: Callable[[Any], str] = str,
    **options: Any,
) -> Any:
    """Make a Job of a function of `(item, run)`; without `items` the one item is the slot, a string.

    `items(run)` yields the items, an async generator as well; they are written into the ledger when the slot begins,
    and come from there, rebuilt by the annotation of the function's first parameter. `key(item)` names each: short,
    stable, nothing about a person. A result is kept as JSON. schedule.yaml wins over the other options.
    """

    def wrap(work: Callable[[Any, Run], Awaitable[Any]]) -> Job[Any, Any]:
        return Job(work.__name__, work, items, key, options)

    return wrap if work is None else wrap(work)
