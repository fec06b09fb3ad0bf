"""Side effects outside, in the ledger: an intent before anything goes out, the result after.

What still stands at `intent` when its process is dead may or may not have happened; whoever made the effect decides
what to do about it. Rows are keyed by item, kind, name and target, so that a second attempt finds the first.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from overnight.clock import Clock, iso
from overnight.errors import Fenced
from overnight.ledger import Ledger
from overnight.ledger.items import TERM, fence_of, hold, move
from overnight.ledger.runs import days_of, effects_of, item_of, owe_reports
from overnight.ledger.statements import Prepared
from overnight.ledger.tables import UNKNOWN
from overnight.ledger.tables import effect as table
from overnight.outcome import Scope

EffectState = Literal["intent", "done", "failed", "unknown", "undoing", "undone", "stuck"]
ANEW = ("failed", "undone")  # surely not, or not any more: such an effect begins anew


@dataclass(frozen=True, slots=True)
class Effect:
    """One side effect as the ledger knows it.

    `fresh` is true for the caller whose `begin` wrote the intent: only that one may act without asking what became of
    an earlier attempt. `run_id` is the run of its newest attempt.
    """

    id: str
    kind: str
    name: str
    target: str
    ref: str
    state: EffectState
    detail: str | None = None
    fresh: bool = False
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class _Intent:
    id: str
    scope: Scope
    kind: str
    name: str
    target: str
    ref: str
    at: datetime
    check: Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class _Result:
    id: str
    run_id: str
    state: EffectState
    detail: str | None
    at: datetime


def no_check(_connection: Connection) -> None:
    """Nothing speaks against it."""


def effect_id(scope: Scope, kind: str, name: str, target: str) -> str:
    """Identity of an effect (64 hex digits): the same for every attempt, run and process."""
    parts = (scope.job, scope.slot, scope.key, kind, name, target)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Effects:
    """Writes effects; each method returns once its row is durable.

    Concurrent callers share commits, so that a durable intent costs about as much as an undurable one.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def find(self, scope: Scope, kind: str, name: str, target: str) -> Effect | None:
        """Look up what is known of this effect, or None."""
        return await self._ledger.read(find, kind, effect_id(scope, kind, name, target))

    async def of_item(self, scope: Scope, kind: str) -> list[Effect]:
        """All effects of this kind that the item has, of whatever attempt, the oldest first."""
        return await self._ledger.read(_of_item, scope, kind)

    async def begin(
        self,
        scope: Scope,
        kind: str,
        name: str,
        target: str,
        ref: str,
        check: Callable[[Connection], None] = no_check,
    ) -> Effect:
        """Commit the intent, or return the effect that is there already.

        One that failed or was undone begins anew (`fresh`). Raises Fenced when another process owns the slot, and what
        `check` raises, which is asked in the same transaction: then nothing may go out.
        """
        id_ = effect_id(scope, kind, name, target)
        intent = _Intent(id_, scope, kind, name, target, ref, self._clock.now(), check)
        begun: Effect = await self._ledger.record(_begin_many, intent)
        return begun

    async def again(self, scope: Scope, effect: Effect, check: Callable[[Connection], None] = no_check) -> Effect:
        """Return an unsettled effect to `intent` on purpose: it is about to be done a second time.

        Raises what `begin` raises.
        """
        now = self._clock.now()
        intent = _Intent(effect.id, scope, effect.kind, effect.name, effect.target, effect.ref, now, check)
        return await self._ledger.write(lambda connection: _again(connection, intent))

    async def done(self, effect: Effect, detail: str | None = None) -> None:
        """Note that it happened."""
        await self._settle(effect, "done", detail)

    async def failed(self, effect: Effect, detail: str | None = None) -> None:
        """Note that it was refused and surely did not happen; it may be tried again."""
        await self._settle(effect, "failed", detail)

    async def unknown(self, effect: Effect, detail: str | None = None) -> None:
        """Note that nobody can tell; reports name it until somebody settles it."""
        await self._settle(effect, "unknown", detail)

    async def undoing(self, scope: Scope, effect: Effect) -> None:
        """Note that it is about to be undone. Raises Fenced when another process owns the slot."""
        await self._ledger.write(lambda connection: _mark(connection, scope, effect, "undoing"))

    async def undone(self, effect: Effect) -> None:
        """Note that it was undone; it may be done again."""
        await self._settle(effect, "undone", None)

    async def stuck(self, scope: Scope, effect: Effect) -> None:
        """Note that it could not be undone and still stands; its detail stays. Raises Fenced."""
        await self._ledger.write(lambda connection: _mark(connection, scope, effect, "stuck"))

    async def _settle(self, effect: Effect, state: EffectState, detail: str | None) -> None:
        await self._ledger.record(_settle_many, _Result(effect.id, effect.run_id, state, detail, self._clock.now()))


_NAMES = ("id", "kind", "name", "target", "ref", "state", "detail", "run_id")
_find = Prepared(
    lambda _insert: select(*(table.c[name] for name in _NAMES)).where(
        table.c.id == bindparam("id"), table.c.kind == bindparam("kind")
    )
)


def find(connection: Connection, kind: str, id_: str) -> Effect | None:
    """Look up an effect of this kind by its identity, or None."""
    row = _find.row(connection, {"id": id_, "kind": kind})
    return None if row is None else Effect(**dict(zip(_NAMES, row, strict=True)))


def _of_item(connection: Connection, scope: Scope, kind: str) -> list[Effect]:
    found = effects_of(connection, scope.job, scope.slot, key=scope.key)
    return [Effect(**{name: row[name] for name in _NAMES}) for row in found if row["kind"] == kind]


def begun_at(connection: Connection, scope: Scope) -> datetime | None:
    """When the newest attempt at an effect of this item was begun; None when there was none."""
    mine = (table.c.job == scope.job, table.c.slot == scope.slot, table.c.key == scope.key)
    found: datetime | None = connection.execute(select(func.max(table.c.intent_at)).where(*mine)).scalar_one()
    return found


def _mark(connection: Connection, scope: Scope, effect: Effect, state: EffectState) -> None:
    hold(connection, scope)
    connection.execute(update(table).where(table.c.id == effect.id).values(state=state))


def _check_all(connection: Connection, intents: Sequence[_Intent]) -> None:
    """Refuse the whole group when one is fenced or unwanted; the writer then tries each alone, and only that fails."""
    slots = {(intent.scope.job, intent.scope.slot) for intent in intents}
    fences = {slot: fence_of(connection, *slot) for slot in slots}
    for intent in intents:
        intent.check(connection)
        fence = fences[intent.scope.job, intent.scope.slot]
        if fence is not None and fence != intent.scope.fence:
            raise Fenced(
                f"{intent.scope.task_id}: {intent.kind} {intent.name} was not sent, another process has taken over "
                f"{intent.scope.job}/{intent.scope.slot} (fence {fence}, ours is {intent.scope.fence})"
            )


_COLUMNS = ("id", "job", "slot", "key", "kind", "name", "target", "ref", "state", "run_id", "intent_at")
_new = Prepared(lambda _insert: insert(table), columns=_COLUMNS)


def _begin_many(connection: Connection, intents: Sequence[_Intent]) -> list[Effect]:
    _check_all(connection, intents)
    known = {intent.id: find(connection, intent.kind, intent.id) for intent in intents}
    new: list[dict[str, Any]] = []
    results = []
    for intent in intents:
        effect = known[intent.id]
        if effect is None:
            effect = _fresh(intent)
            new.append(_row(intent))
        elif effect.state in ANEW:
            effect = _again(connection, intent)
        results.append(effect)
        known[intent.id] = Effect(**{**_fields(effect), "fresh": False})  # the next one in this group came second
    if new:
        _new.many(connection, new)
    return results


def _fields(effect: Effect) -> dict[str, Any]:
    return {name: getattr(effect, name) for name in Effect.__slots__}


def _fresh(intent: _Intent) -> Effect:
    run_id = intent.scope.run_id
    return Effect(intent.id, intent.kind, intent.name, intent.target, intent.ref, "intent", fresh=True, run_id=run_id)


def _row(intent: _Intent) -> dict[str, Any]:
    scope = intent.scope
    return {
        "id": intent.id,
        "job": scope.job,
        "slot": scope.slot,
        "key": scope.key,
        "kind": intent.kind,
        "name": intent.name,
        "target": intent.target,
        "ref": intent.ref,
        "state": "intent",
        "run_id": scope.run_id,
        "intent_at": iso(intent.at),
    }


def _again(connection: Connection, intent: _Intent) -> Effect:
    _check_all(connection, [intent])
    values = {"state": "intent", "ref": intent.ref, "run_id": intent.scope.run_id, "intent_at": intent.at}
    connection.execute(update(table).where(table.c.id == intent.id).values(**values, detail=None, done_at=None))
    return _fresh(intent)


def _settle_many(connection: Connection, results: Sequence[_Result]) -> list[None]:
    """Write results. Of an attempt that somebody has taken over only `done` counts: it has happened all the same."""
    for result in results:
        values = {
            "b_id": result.id,
            "b_run_id": result.run_id,
            "v_state": result.state,
            "v_detail": result.detail,
            "v_done_at": iso(result.at),
        }
        usual, parked = _DONE
        if result.state != "done":
            usual, parked = _OURS
        if usual.one(connection, values) == 0 and parked.one(connection, values):
            _learned(connection, result)
    return [None] * len(results)


def _learned(connection: Connection, result: _Result) -> None:
    """Let an item be taken up again of which everything is known at last: it finds what was done, and goes on.

    A process was stopped for longer than its lease, its heir has left the item as unknown, and here it wakes. What has
    happened stays so however late the next sweep comes; what has not is not done days later.
    """
    of = connection.execute(select(table.c.job, table.c.slot, table.c.key).where(table.c.id == result.id)).one()
    found = item_of(connection, *of)
    if found is None or found["state"] != "unknown" or connection.execute(_STILL_OPEN, of._asdict()).first():
        return
    why = {"reason": f"settled by its run: {result.state}", "error_class": None, "error_code": None, "error": None}
    until = result.at + TERM if result.state == "failed" else None
    move(connection, found, "retry", next_at=result.at, expires_at=until, **why)
    owe_reports(connection, days_of(connection, of.job, of.slot))


_STILL_OPEN = select(table.c.id).where(
    *(table.c[name] == bindparam(name) for name in ("job", "slot", "key")), table.c.state.in_(("unknown", "intent"))
)
_SET: dict[str, Any] = {name: bindparam(f"v_{name}") for name in ("state", "detail", "done_at")}
_THIS = (table.c.id == bindparam("b_id"),)
_ATTEMPT = (*_THIS, table.c.run_id == bindparam("b_run_id"))
_UNSETTLED = text("state NOT IN ('done', 'unknown')")


def _settling(*where: Any) -> Prepared:
    return Prepared(lambda _insert: update(table).where(*where).values(_SET))


_DONE, _OURS = ((_settling(*each, _UNSETTLED), _settling(*each, UNKNOWN)) for each in (_THIS, _ATTEMPT))
