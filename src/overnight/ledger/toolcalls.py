"""Calls of tools in the ledger: each decision and its result, found again by the place of the call in its talk."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, select

from overnight.ledger.items import hold
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import tool_call
from overnight.outcome import Scope


class Told(NamedTuple):
    """What a model was told of its call: `verdict` is done, denied or failed, `result` JSON or a sentence."""

    id: str
    role: str
    tool: str
    arguments: str
    verdict: str
    result: str
    error_code: str | None = None
    duration_ms: int = 0


def keep(connection: Connection, scope: Scope, told: Told, at: datetime) -> None:
    """Note what a call has come to; the first note of it stands. Raises Fenced."""
    hold(connection, scope)
    row = told._asdict() | {"job": scope.job, "slot": scope.slot, "key": scope.key, "run_id": scope.run_id, "at": at}
    insert_new(connection, tool_call, [row])


def kept(connection: Connection, ids: Sequence[str]) -> dict[str, Told]:
    """What is known of these calls, by id; without those whose texts are past their retention."""
    columns = [tool_call.c[name] for name in Told._fields]
    known = select(*columns).where(tool_call.c.id.in_(ids), tool_call.c.result.is_not(None))
    return {row.id: Told(*row) for row in connection.execute(known)}


def tool_calls_of(connection: Connection, job: str, slot: str, key: str) -> Sequence[RowMapping]:
    """The calls of one item, in their order."""
    c = tool_call.c
    mine = select(tool_call).where(c.job == job, c.slot == slot, c.key == key).order_by(c.at, c.id)
    return connection.execute(mine).mappings().all()
