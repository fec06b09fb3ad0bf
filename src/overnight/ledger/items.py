"""Queries about items: plan them, page through them, record what became of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, and_, bindparam, case, or_, select, update

from overnight.clock import iso
from overnight.errors import Fenced
from overnight.histogram import bucket_of
from overnight.ledger.rollups import BY_KEY, OPEN_TROUBLE, entered, in_slot, left, of_slot
from overnight.ledger.statements import Prepared
from overnight.ledger.tables import DEFERRED, histogram, item, lease, run, slot
from overnight.outcome import STATES, Outcome, Scope, State

Selection = Literal["due", "deferred", "again"]


@dataclass(frozen=True, slots=True)
class Planned:
    """An item that is to be worked on; `payload` is its JSON, `state` what it was before."""

    seq: int
    key: str
    payload: str
    state: State
    attempts: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An outcome on its way into the ledger; `was` is the state the item had before."""

    scope: Scope
    was: State
    outcome: Outcome
    ended_at: datetime


_fence_of = Prepared(
    lambda _insert: select(lease.c.fence).where(lease.c.job == bindparam("job"), lease.c.slot == bindparam("slot"))
)
_plan = Prepared(
    lambda insert: insert(item).on_conflict_do_nothing(), columns=("job", "slot", "key", "seq", "state", "payload")
)


def fence_of(connection: Connection, job: str, slot: str) -> int | None:
    """The fence of who owns the slot; None when nobody does."""
    found = _fence_of.row(connection, {"job": job, "slot": slot})
    return None if found is None else found[0]


def hold(connection: Connection, scope: Scope) -> None:
    """Check in this transaction that the slot is still ours; raises Fenced."""
    fence = fence_of(connection, scope.job, scope.slot)
    if fence is not None and fence != scope.fence:
        raise Fenced(
            f"{scope.job}/{scope.slot}: another process has taken over (fence {fence}, ours {scope.fence}); "
            "this one writes nothing more"
        )


def plan(connection: Connection, scope: Scope, rows: Sequence[tuple[int, str, str]]) -> int:
    """Add items `(seq, key, payload)` as pending; keys already planned are left alone. Returns how many were new."""
    hold(connection, scope)
    if not rows:
        return 0
    new = _plan.many(
        connection,
        [
            {"job": scope.job, "slot": scope.slot, "key": key, "seq": seq, "state": "pending", "payload": payload}
            for seq, key, payload in rows
        ],
    )
    connection.execute(_MORE_PENDING, {"b_job": scope.job, "b_slot": scope.slot, "v_new": new})
    return new


def planned(connection: Connection, scope: Scope, now: datetime) -> None:
    """The audience of the slot is complete, and from now on frozen."""
    hold(connection, scope)
    connection.execute(_PLANNED, {"b_job": scope.job, "b_slot": scope.slot, "v_now": now})


_SLOT = update(slot).where(slot.c.job == bindparam("b_job"), slot.c.slot == bindparam("b_slot"))
_MORE_PENDING = _SLOT.values(pending=slot.c.pending + bindparam("v_new"))
_PLANNED = _SLOT.values(planned_at=bindparam("v_now"))


def page(
    connection: Connection, scope: Scope, after: int, *, selection: Selection, now: datetime, limit: int = 500
) -> list[Planned]:
    """The next items to work on, in the order of the plan.

    `due`: never finished, or deferred and their time has come; `deferred`: only the latter. `again`: whatever is not
    done, failed and still deferred ones and those for which there was no budget included.
    """
    values = {"job": scope.job, "slot": scope.slot, "after": after, "limit": limit}
    rows = connection.execute(_PAGES[selection], values if selection == "again" else values | {"now": now})
    return [Planned(*row) for row in rows]


_come = and_(item.c.state == "retry", item.c.next_at <= bindparam("now"))
_WANTED: dict[Selection, ColumnElement[bool]] = {
    "due": or_(item.c.state == "pending", _come),
    "deferred": _come,
    "again": or_(
        item.c.state.in_(("pending", "retry", "failed")), and_(item.c.state == "skipped", item.c.reason == "budget")
    ),
}
_PAGES = {
    selection: select(item.c.seq, item.c.key, item.c.payload, item.c.state, item.c.attempts, item.c.expires_at)
    .where(item.c.job == bindparam("job"), item.c.slot == bindparam("slot"), item.c.seq > bindparam("after"), wanted)
    .order_by(item.c.seq)
    .limit(bindparam("limit"))
    for selection, wanted in _WANTED.items()
}


def _moved(table: Table, names: Sequence[str]) -> dict[str, Any]:
    return {name: table.c[name] + bindparam(f"v_{name}") for name in names}


_WORKED = tuple(state for state in STATES if state != "pending")
_WRITTEN = (
    "state", "result", "reason", "error_class", "error_code", "error", "next_at", "expires_at", "run_id", "ended_at",
    "duration_ms",
)  # fmt: skip
_finish = Prepared(
    lambda _insert: (
        update(item)
        .where(item.c.job == bindparam("b_job"), item.c.slot == bindparam("b_slot"), item.c.key == bindparam("b_key"))
        .values({name: bindparam(f"v_{name}") for name in _WRITTEN} | _moved(item, ["attempts"]))
    )
)
_move_slot = Prepared(
    lambda _insert: (
        update(slot)
        .where(slot.c.job == bindparam("b_job"), slot.c.slot == bindparam("b_slot"))
        .values(_moved(slot, STATES))
    )
)
_move_run = Prepared(
    lambda _insert: (
        update(run).where(run.c.id == bindparam("b_id")).values(_moved(run, ["items", "attempts", *_WORKED]))
    )
)
_move_bucket = Prepared(
    lambda insert: (new := insert(histogram)).on_conflict_do_update(
        index_elements=list(histogram.primary_key), set_={"n": histogram.c.n + new.excluded.n}
    ),
    columns=("run_id", "bucket", "n"),
)


def record(connection: Connection, records: Sequence[Recorded]) -> list[None]:
    """Write outcomes and, in the same transaction, the counts of their slots and runs. Raises Fenced."""
    for scope in {(r.scope.job, r.scope.slot, r.scope.fence): r.scope for r in records}.values():
        hold(connection, scope)
    for keys in _by_key(r for r in records if r.was in OPEN_TROUBLE):
        left(connection, BY_KEY, keys)
    _finish.many(connection, map(_values, records))
    for keys in _by_key(r for r in records if r.outcome.state in OPEN_TROUBLE):
        entered(connection, BY_KEY, keys)
    by_run: dict[tuple[str, str, str], list[Recorded]] = defaultdict(list)
    for r in records:
        by_run[r.scope.job, r.scope.slot, r.scope.run_id].append(r)
    for part in by_run.values():
        _count(connection, part)
    return [None] * len(records)


def _by_key(records: Iterable[Recorded]) -> Iterator[dict[str, Any]]:
    """The items of these records, a slot at a time."""
    keys: dict[tuple[str, str], list[str]] = defaultdict(list)
    for r in records:
        keys[r.scope.job, r.scope.slot].append(r.outcome.key)
    for (job, name), mine in keys.items():
        yield of_slot(job, name) | {"w_keys": mine}


def _values(r: Recorded) -> dict[str, Any]:
    scope, out = r.scope, r.outcome
    return {
        "b_job": scope.job, "b_slot": scope.slot, "b_key": out.key,
        "v_state": out.state, "v_result": out.result, "v_reason": out.reason, "v_error_class": out.error_class,
        "v_error_code": out.error_code, "v_error": out.error, "v_attempts": out.attempts,
        "v_next_at": out.next_at and iso(out.next_at), "v_expires_at": out.expires_at and iso(out.expires_at),
        "v_run_id": scope.run_id, "v_ended_at": iso(r.ended_at), "v_duration_ms": out.duration_ms,
    }  # fmt: skip


def _count(connection: Connection, records: Sequence[Recorded]) -> None:
    """Move the counts of one run and its slot by what these outcomes change."""
    scope = records[0].scope
    ended = Counter(r.outcome.state for r in records)
    left = Counter(r.was for r in records)
    moved = {f"v_{state}": ended[state] - left[state] for state in STATES}
    _move_slot.one(connection, {"b_job": scope.job, "b_slot": scope.slot} | moved)
    counted = {f"v_{state}": ended[state] for state in _WORKED}
    attempts = sum(r.outcome.attempts for r in records)
    _move_run.one(connection, {"b_id": scope.run_id, "v_items": len(records), "v_attempts": attempts} | counted)
    worked = Counter(bucket_of(r.outcome.duration_ms) for r in records if r.outcome.state in ("ok", "failed"))
    if worked:
        _move_bucket.many(connection, [{"run_id": scope.run_id, "bucket": b, "n": n} for b, n in worked.items()])


TERM = timedelta(days=1)  # how long what was settled as not done is tried again
SETTLED = ("settled by hand", "settled by its run")  # how the reason of an item begins that was unknown before


def move(connection: Connection, found: RowMapping, state: State, **values: Any) -> None:
    """Put an item that no run works on into another state, and its slot's counts with it."""
    this = of_slot(found["job"], found["slot"]) | {"w_keys": [found["key"]]}
    mine = (*in_slot(found["job"], found["slot"]), item.c.key == found["key"])
    left(connection, BY_KEY, this)
    connection.execute(update(item).where(*mine).values(state=state, **values))
    entered(connection, BY_KEY, this)
    if found["state"] != state:
        moved = {found["state"]: slot.c[found["state"]] - 1, state: slot.c[state] + 1}
        its_slot = (slot.c.job == found["job"], slot.c.slot == found["slot"])
        connection.execute(update(slot).where(*its_slot).values(**moved))


def moved_by_hand(why: str) -> Any:
    """The reason of an item that a person, not a run, has moved; one that was settled before says so still."""
    return case(*((item.c.reason.startswith(how), f"{how}, then {why}") for how in SETTLED), else_=why)


def due_slots(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """Slots `(job, slot)` with a deferred item whose time has come."""
    return [(job, name) for job, name in connection.execute(_DUE_SLOTS, {"now": now})]


_DUE_SLOTS = select(item.c.job, item.c.slot).where(DEFERRED, item.c.next_at <= bindparam("now")).distinct()


def items_of(connection: Connection, job: str, name: str, states: Iterable[str] = STATES) -> list[dict[str, Any]]:
    """All items of a slot in the given states, in the order of the plan, without their payload."""
    columns = [column for column in item.c if column.name != "payload"]
    rows = connection.execute(
        select(*columns)
        .where(item.c.job == job, item.c.slot == name, item.c.state.in_(list(states)))
        .order_by(item.c.seq)
    )
    return [dict(row) for row in rows.mappings()]
