"""Queries about model calls."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select

from overnight.ledger.tables import call


def calls_of(connection: Connection, job: str, slot: str, key: str) -> Sequence[RowMapping]:
    """The model calls of one item, oldest first, without their texts."""
    return connection.execute(_calls(job, slot).where(call.c.key == key)).mappings().all()


def replies_of(connection: Connection, job: str, slot: str, key: str) -> dict[str, str]:
    """What models have replied to one item, by the id of the call; without texts that are past their retention."""
    c = call.c
    mine = select(c.id, c.response).where(c.job == job, c.slot == slot, c.key == key, c.response.is_not(None))
    return {row.id: row.response for row in connection.execute(mine)}


def shared_calls_of(connection: Connection, job: str, slot: str) -> Sequence[RowMapping]:
    """The calls of a slot that were made for all items together: those of its `once` values, without their texts."""
    return connection.execute(_calls(job, slot).where(call.c.key.startswith("once:"))).mappings().all()


def _calls(job: str, slot: str) -> Select[Any]:
    columns = [column for column in call.c if column.name != "response"]
    return select(*columns).where(call.c.job == job, call.c.slot == slot).order_by(call.c.started_at)
