"""Queries about model calls."""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, select

from overnight.ledger.tables import call


def calls_of(connection: Connection, job: str, slot: str, key: str) -> Sequence[RowMapping]:
    """The model calls of one item, oldest first, without their texts."""
    columns = [column for column in call.c if column.name != "response"]
    query = select(*columns).where(call.c.job == job, call.c.slot == slot, call.c.key == key)
    return connection.execute(query.order_by(call.c.started_at)).mappings().all()
