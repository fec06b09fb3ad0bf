"""The journal of model calls: a row before the request is sent, corrected when its outcome is known.

Costs of item, slot and run move in the transaction of the row, so that they are at all times the sums of their calls.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from overnight.ledger.items import hold
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
    """How a request ended: `status` is ok, failed or unknown, `cost_nano` what it is charged."""

    status: str
    cost_nano: int
    duration_ms: int
    usage: Usage = field(default_factory=Usage)
    request_id: str | None = None
    response: str | None = None
    error_class: str | None = None
    error_code: str | None = None


def begin(connection: Connection, sent: Sent, budget_day: str) -> None:
    """Book a request as unknown at its worst cost, before it is sent. Raises Fenced."""
    hold(connection, sent.scope)
    c, scope = call.c, sent.scope
    asked = (c.job == scope.job, c.slot == scope.slot, c.key == scope.key, c.hash == sent.hash)
    nth = select(func.count()).where(*asked).scalar_subquery()
    connection.execute(
        insert(call).values(
            id=sent.id, job=scope.job, slot=scope.slot, key=scope.key, hash=sent.hash, nth=nth, run_id=scope.run_id,
            role=sent.role, model=sent.model, status="unknown", error_class="transient", error_code="in_flight",
            cost_nano=sent.worst, budget_day=budget_day, started_at=sent.started_at,
        )
    )  # fmt: skip
    _charge(connection, scope, sent.worst)


def forget(connection: Connection, sent: Sent) -> None:
    """Remove a request that was never sent."""
    connection.execute(delete(call).where(call.c.id == sent.id))
    _charge(connection, sent.scope, -sent.worst)


def book(connection: Connection, sent: Sent, ended: Ended) -> None:
    """Correct the row of a request, and the costs of its item, slot and run, by what became of it."""
    usage = ended.usage
    connection.execute(
        update(call)
        .where(call.c.id == sent.id)
        .values(
            status=ended.status, cost_nano=ended.cost_nano, duration_ms=ended.duration_ms, request_id=ended.request_id,
            response=ended.response, error_class=ended.error_class, error_code=ended.error_code,
            input_tokens=usage.input_tokens, output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_write_tokens,
        )
    )  # fmt: skip
    _charge(connection, sent.scope, ended.cost_nano - sent.worst)


def discard(connection: Connection, call_id: str, error_code: str) -> None:
    """Mark an answer as not valid: it stays paid, and is never replayed."""
    values = {"status": "failed", "error_class": "invalid", "error_code": error_code}
    connection.execute(update(call).where(call.c.id == call_id).values(values))


def paid_answers(connection: Connection, scope: Scope, hashes: Collection[str]) -> Sequence[RowMapping]:
    """Find the answers `(id, model, response)` this item was given to any of these questions, the oldest first."""
    c = call.c
    query = (
        select(c.id, c.model, c.response)
        .where(c.job == scope.job, c.slot == scope.slot, c.key == scope.key, c.hash.in_(hashes), c.status == "ok")
        .order_by(c.started_at, c.id)
    )
    return connection.execute(query).mappings().all()


def cut_off(connection: Connection, scope: Scope, hashes: Collection[str], error_code: str) -> bool:
    """Tell whether an answer to any of these questions was paid for and thrown away with this code."""
    c = call.c
    of_item = (c.job == scope.job, c.slot == scope.slot, c.key == scope.key, c.hash.in_(hashes))
    return connection.execute(select(c.id).where(*of_item, c.error_code == error_code).limit(1)).first() is not None


def _charge(connection: Connection, scope: Scope, nano: int) -> None:
    of_item = (item.c.job == scope.job, item.c.slot == scope.slot, item.c.key == scope.key)
    connection.execute(update(item).where(*of_item).values(cost_nano=item.c.cost_nano + nano))
    of_slot = (slot.c.job == scope.job, slot.c.slot == scope.slot)
    connection.execute(update(slot).where(*of_slot).values(cost_nano=slot.c.cost_nano + nano))
    connection.execute(update(run).where(run.c.id == scope.run_id).values(cost_nano=run.c.cost_nano + nano))
