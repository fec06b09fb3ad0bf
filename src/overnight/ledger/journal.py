"""The journal of model calls: a row before the request is sent, corrected when its outcome is known.

Costs of item, slot and run move in the transaction of the row, so that they are at all times the sums of their calls.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, func, or_, select, update

from overnight.clock import iso
from overnight.ledger.items import hold
from overnight.ledger.rollups import Move, spent
from overnight.ledger.statements import Prepared
from overnight.ledger.tables import call, item, run, slot
from overnight.outcome import Scope
from overnight.pricing import Usage


@dataclass(frozen=True, slots=True)
class Sent:
    """A request about to be sent; `worst` (nano-USD) is what it may cost at most."""

    id: str
    scope: Scope
    hash: str
    role: str
    model: str
    worst: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended: `status` is ok, failed or unknown, `cost_nano` what it is charged.

    `naive_nano` is what an answer would have cost without a route and a cache: see `Prices.naive`.
    """

    status: str
    cost_nano: int
    duration_ms: int
    usage: Usage = field(default_factory=Usage)
    request_id: str | None = None
    response: str | None = None
    stop_reason: str | None = None
    error_class: str | None = None
    error_code: str | None = None
    naive_nano: int | None = None


_insert = Prepared(
    lambda insert: insert(call).values(
        nth=select(func.count())
        .where(call.c.job == bindparam("b_job"), call.c.slot == bindparam("b_slot"))
        .where(call.c.key == bindparam("b_key"), call.c.hash == bindparam("b_hash"))
        .scalar_subquery()
    ),
    columns=(
        "id", "job", "slot", "key", "hash", "run_id", "role", "model", "status", "error_class", "error_code",
        "cost_nano", "budget_day", "started_at", "nth",
    ),
)  # fmt: skip
_BOOKED = (
    "status", "cost_nano", "duration_ms", "request_id", "response", "stop_reason", "error_class", "error_code",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "cache_write_1h_tokens", "naive_nano",
)  # fmt: skip
_correct = Prepared(
    lambda _insert: (
        update(call).where(call.c.id == bindparam("b_id")).values({name: bindparam(f"v_{name}") for name in _BOOKED})
    )
)


def _cost(table: Table, *keys: str) -> Prepared:
    of_one = [table.c[name] == bindparam(f"b_{name}") for name in keys]
    moved = table.c.cost_nano + bindparam("v_nano")
    return Prepared(lambda _insert: update(table).where(*of_one).values(cost_nano=moved))


_cost_of_item = _cost(item, "job", "slot", "key")
_cost_of_slot = _cost(slot, "job", "slot")
_cost_of_run = _cost(run, "id")


def begin(connection: Connection, starts: Sequence[tuple[Sent, str]]) -> None:
    """Book requests `(sent, budget day)` as unknown at their worst cost, before they are sent. Raises Fenced."""
    for scope in {(s.scope.job, s.scope.slot, s.scope.fence): s.scope for s, _ in starts}.values():
        hold(connection, scope)
    _insert.many(connection, [_begun(sent, day) for sent, day in starts])
    spent(connection, [(sent.id, Move(calls=1, cost_nano=sent.worst)) for sent, _ in starts])
    _charge(connection, [(sent.scope, sent.worst) for sent, _ in starts])


def forget(connection: Connection, never: Sequence[Sent]) -> None:
    """Remove requests that were never sent."""
    spent(connection, [(sent.id, Move(calls=-1, cost_nano=-sent.worst)) for sent in never])
    connection.execute(delete(call).where(call.c.id.in_([sent.id for sent in never])))
    _charge(connection, [(sent.scope, -sent.worst) for sent in never])


def book(connection: Connection, ends: Sequence[tuple[Sent, Ended]]) -> None:
    """Correct the rows of requests, and the costs of their items, slots and runs, by what became of them."""
    _correct.many(connection, [_booked(sent, ended) for sent, ended in ends])
    spent(connection, [(sent.id, _move(sent, ended)) for sent, ended in ends])
    _charge(connection, [(sent.scope, ended.cost_nano - sent.worst) for sent, ended in ends])


def discard(connection: Connection, call_id: str, error_code: str) -> None:
    """Mark an answer as not valid: it stays paid, is never replayed, and nobody would have been content with it."""
    naive = connection.execute(select(call.c.naive_nano).where(call.c.id == call_id)).scalar_one_or_none()
    spent(connection, [(call_id, Move(naive_nano=-(naive or 0)))])
    values = {"status": "failed", "error_class": "invalid", "error_code": error_code, "naive_nano": None}
    connection.execute(update(call).where(call.c.id == call_id).values(values))


def paid_answers(connection: Connection, scope: Scope, hashes: Collection[str]) -> Sequence[RowMapping]:
    """Find the answers `(id, model, response, stop_reason)` to any of these questions of an item, the oldest first."""
    c = call.c
    query = (
        select(c.id, c.model, c.response, c.stop_reason)
        .where(
            c.job == scope.job,
            c.slot == scope.slot,
            c.key == scope.key,
            c.hash.in_(hashes),
            c.status == "ok",
            c.response.is_not(None),
        )
        .order_by(c.started_at, c.id)
    )
    return connection.execute(query).mappings().all()


def discarded_answers(connection: Connection, scope: Scope, hashes: Collection[str], most: int) -> Sequence[RowMapping]:
    """Find the answers `(id, model, hash, response, stop_reason, error_code)` of this item that were thrown away.

    None of an item that has failed: who has it done again wants other answers. One that was cut off counts only when
    it had `most` tokens: more may be allowed since.
    """
    c, i = call.c, item.c
    whole = or_(c.error_code != "truncated", c.output_tokens >= most)
    query = (
        select(c.id, c.model, c.hash, c.response, c.stop_reason, c.error_code)
        .join(item, (i.job == c.job) & (i.slot == c.slot) & (i.key == c.key))
        .where(c.job == scope.job, c.slot == scope.slot, c.key == scope.key, c.hash.in_(hashes), i.state != "failed")
        .where(c.status == "failed", c.error_class == "invalid", c.response.is_not(None), whole)
        .order_by(c.started_at, c.id)
    )
    return connection.execute(query).mappings().all()


def cut_off(connection: Connection, scope: Scope, hashes: Collection[str], error_code: str) -> bool:
    """Tell whether an answer to any of these questions was paid for and thrown away with this code."""
    c = call.c
    of_item = (c.job == scope.job, c.slot == scope.slot, c.key == scope.key, c.hash.in_(hashes))
    return connection.execute(select(c.id).where(*of_item, c.error_code == error_code).limit(1)).first() is not None


def _begun(sent: Sent, day: str) -> dict[str, Any]:
    scope = sent.scope
    return {
        "id": sent.id, "job": scope.job, "slot": scope.slot, "key": scope.key, "hash": sent.hash,
        "run_id": scope.run_id, "role": sent.role, "model": sent.model, "status": "unknown",
        "error_class": "transient", "error_code": "in_flight", "cost_nano": sent.worst, "budget_day": day,
        "started_at": iso(sent.started_at), "b_job": scope.job, "b_slot": scope.slot, "b_key": scope.key,
        "b_hash": sent.hash,
    }  # fmt: skip


def _booked(sent: Sent, ended: Ended) -> dict[str, Any]:
    usage = ended.usage
    return {
        "b_id": sent.id, "v_status": ended.status, "v_cost_nano": ended.cost_nano, "v_duration_ms": ended.duration_ms,
        "v_request_id": ended.request_id, "v_response": ended.response, "v_stop_reason": ended.stop_reason,
        "v_error_class": ended.error_class, "v_error_code": ended.error_code, "v_input_tokens": usage.input_tokens,
        "v_output_tokens": usage.output_tokens, "v_cache_read_tokens": usage.cache_read_tokens,
        "v_cache_write_tokens": usage.cache_write_tokens, "v_cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "v_naive_nano": ended.naive_nano,
    }  # fmt: skip


def _move(sent: Sent, ended: Ended) -> Move:
    usage = ended.usage
    return Move(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        cost_nano=ended.cost_nano - sent.worst,
        naive_nano=ended.naive_nano or 0,
    )


def _charge(connection: Connection, charges: Sequence[tuple[Scope, int]]) -> None:
    """Move the costs of items one by one, those of slots and runs by the sum of their charges."""
    slots: Counter[tuple[str, str]] = Counter()
    runs: Counter[str] = Counter()
    for scope, nano in charges:
        slots[scope.job, scope.slot] += nano
        runs[scope.run_id] += nano
    moved = [{"b_job": s.job, "b_slot": s.slot, "b_key": s.key, "v_nano": nano} for s, nano in charges]
    _cost_of_item.many(connection, moved)
    _cost_of_slot.many(connection, [{"b_job": j, "b_slot": s, "v_nano": nano} for (j, s), nano in slots.items()])
    _cost_of_run.many(connection, [{"b_id": run_id, "v_nano": nano} for run_id, nano in runs.items()])
