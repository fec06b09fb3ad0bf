"""Side effects of a job's own making: each is done once per item, and undone when a later step refuses.

The intent is committed before the effect and its value after it, so that a resumed run takes the value and does not do
it again. What an item has done is undone in reverse order when it ends with Downstream (a saga). Nothing of this is
exactly once: a crash between effect and commit leaves `unknown`, which `on_unknown` settles; a crash while undoing
makes the next run undo again. So `undo` must bear being called twice.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter

from overnight.deadline import deadline
from overnight.effects import Effect, Effects
from overnight.errors import Fenced, OvernightError, Permanent, Unknown
from overnight.outcome import Scope

T = TypeVar("T")

KIND = "step"
UNDOABLE = "undoable"  # the `ref` of one that has an `undo`: a later attempt that does not come to it knows by this
PATIENCE = 120.0  # seconds for one compensation: the default `item_timeout`


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One effect of an item: how it is done, undone, and looked up when nobody knows whether it was done."""

    name: str
    do: Callable[[], Awaitable[T]]
    undo: Callable[[T], Awaitable[object]] | None = None
    find: Callable[[], Awaitable[T | None]] | None = None

    codec: TypeAdapter[T] = field(init=False)

    def __post_init__(self) -> None:
        """How the value of `do` is stored: by its annotation, else as plain JSON. Settled before anything happens."""
        try:
            returned = get_type_hints(self.do).get("return", Any)
        except (TypeError, NameError):  # a partial, or a name that only type checkers see
            returned = Any
        object.__setattr__(self, "codec", TypeAdapter(returned))


@dataclass(slots=True)
class Steps:
    """The steps of one item, in the order they were done."""

    effects: Effects
    scope: Scope
    on_unknown: Literal["park", "resend", "reconcile"] = "park"
    _done: dict[str, tuple[Effect, Step[Any], Any]] = field(default_factory=dict)

    @property
    def taken(self) -> bool:
        """Whether anything was done that stands and can be undone."""
        return any(step.undo for _, step, _ in self._done.values())

    async def take(self, step: Step[T]) -> T:
        """Do the step, or return the value it had. Raises Unknown when nobody can tell whether it was done.

        An error of this package's own (Permanent, Transient …) out of `do` says that it was surely not done; any other
        leaves it unknown.
        """
        effect = await self.effects.begin(self.scope, KIND, step.name, "", UNDOABLE if step.undo else "")
        if effect.state == "done":
            return self._note(effect, step, await self._value(effect, step))
        if not effect.fresh:
            found = await self._settled(effect, step)
            if found is not None:
                return found
            effect = await self.effects.again(self.scope, effect)
        return await self._do(effect, step)

    async def seen(self, name: str, look: Callable[[], Awaitable[T]]) -> T:
        """What `look()` saw first, also in later attempts: there is nothing to undo, and to look again does no harm."""

        async def find() -> T | None:
            return None

        return await replace(self, on_unknown="reconcile").take(Step(name, look, None, find))

    async def undo(self) -> list[str]:
        """Undo what was done, the last first; returns what could not be undone and why. Raises Fenced.

        How to undo what only an earlier attempt has done this one cannot know: it is left as `stuck`, and told.
        """
        failures = await self._left_by_others()
        for effect, step, value in reversed(self._done.values()):
            if step.undo is None:
                continue
            try:
                await self._undo(effect, step, value)
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001  the steps before it are undone all the same
                await self.effects.stuck(self.scope, effect)
                failures.append(f"{effect.name} of {self.scope.task_id} still stands: {type(error).__name__}: {error}")
        self._done.clear()
        return failures

    async def _left_by_others(self) -> list[str]:
        failures = []
        for effect in await self.effects.of_item(self.scope, KIND):
            if effect.ref == UNDOABLE and effect.state in ("done", "undoing") and effect.id not in self._done:
                await self.effects.stuck(self.scope, effect)
                failures.append(f"{effect.name} of {self.scope.task_id} still stands: an earlier attempt has done it")
        return failures

    async def _do(self, effect: Effect, step: Step[T]) -> T:
        try:
            value = await step.do()
        except Unknown as error:
            await self.effects.unknown(effect, str(error))
            raise
        except OvernightError as error:
            await self.effects.failed(effect, f"{error.code}: {error}")
            raise
        except BaseException as error:
            await self.effects.unknown(effect, f"{type(error).__name__}: {error}")
            raise
        try:
            stored = step.codec.dump_json(value, warnings="error").decode()
        except Exception:  # what cannot be stored was done all the same
            await self.effects.done(effect)
            raise
        await self.effects.done(effect, stored)
        return self._note(effect, step, step.codec.validate_json(stored))  # as every later attempt will see it

    async def _value(self, effect: Effect, step: Step[T]) -> T:
        """The stored value; of a step that a person has settled as done `find` knows it, or it is None."""
        if effect.detail is not None:
            return step.codec.validate_json(effect.detail)
        return cast("T", await step.find() if step.find else None)

    def _note(self, effect: Effect, step: Step[T], value: T) -> T:
        self._done[effect.id] = (effect, step, value)
        return value

    async def _settled(self, effect: Effect, step: Step[T]) -> T | None:
        """What an earlier attempt came to; None when the step is to be done again."""
        if effect.state in ("undoing", "stuck"):
            await self._undo(effect, step, await self._value(effect, step))
            return None
        if self.on_unknown == "resend":
            return None
        if self.on_unknown == "reconcile" and step.find is not None:
            found = await step.find()
            if found is not None:
                await self.effects.done(effect, step.codec.dump_json(found).decode())
                return self._note(effect, step, found)
            return None
        await self.effects.unknown(effect, "the process ended before it was known")
        raise Unknown(
            f"{step.name} of {self.scope.task_id} may or may not have been done by an earlier run: look it up there, "
            "then `overnight settle`",
            code="step_unknown",
        )

    async def _undo(self, effect: Effect, step: Step[Any], value: Any) -> None:
        if step.undo is None:
            raise Permanent(f"{step.name} of {self.scope.task_id} is to be undone, but its step has no `undo` any more")
        await self.effects.undoing(self.scope, effect)
        async with deadline(PATIENCE):
            await step.undo(value)
        await self.effects.undone(effect)
