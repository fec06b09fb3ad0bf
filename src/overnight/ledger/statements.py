"""Inserts that tolerate a row that is already there, in the words of the two databases."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose primary or unique key is free; returns how many were new."""
    if not rows:
        return 0
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement: Any = dialect.insert(table).on_conflict_do_nothing()
    return int(connection.execute(statement, list(rows)).rowcount)


def add_up(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *columns: str) -> None:
    """Insert the rows; where the key exists, add their `columns` to what is there."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    new: Any = dialect.insert(table)
    sums = {name: table.c[name] + new.excluded[name] for name in columns}
    connection.execute(new.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums), list(rows))


def put(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert the row or replace the one with its primary key."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    new: Any = dialect.insert(table).values(row)
    keys = {column.name for column in table.primary_key}
    connection.execute(
        new.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={name: new.excluded[name] for name in row if name not in keys}
        )
    )
