"""Inserts that tolerate a row that is already there, in the words of the two databases; and prepared statements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, CursorResult, Table
from sqlalchemy.dialects import postgresql, sqlite

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Sql:
    text: str
    ordered: Callable[[Values], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement put into SQL once per dialect, for the few that run with every outcome.

    An ordinary `execute` costs some 10 us a row and 150 us a call before the database hears of it. Here values reach
    the driver as they are, so times are given as text (`iso`), and by position, which halves SQLite's own time.
    `build` gets the dialect's `insert`, `columns` are those of an insert; a statement has two parameters at least.
    """

    build: Callable[[Any], Any]
    columns: tuple[str, ...] | None = None
    _compiled: dict[str, _Sql] = field(default_factory=dict)

    def one(self, connection: Connection, values: Values) -> CursorResult[Any]:
        """Execute it."""
        sql = self._sql(connection)
        return connection.exec_driver_sql(sql.text, sql.ordered(values))

    def many(self, connection: Connection, rows: Iterable[Values]) -> CursorResult[Any]:
        """Execute it for each of one or more rows."""
        sql = self._sql(connection)
        return connection.exec_driver_sql(sql.text, list(map(sql.ordered, rows)))

    def _sql(self, connection: Connection) -> _Sql:
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            kind: Any = type(dialect)
            positional = kind(paramstyle="qmark" if dialect.name == "sqlite" else "format")
            compiled = self.build(_dialect(dialect.name).insert).compile(dialect=positional, column_keys=self.columns)
            self._compiled[dialect.name] = _Sql(str(compiled), itemgetter(*compiled.positiontup))
        return self._compiled[dialect.name]


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose primary or unique key is free; returns how many were new."""
    if not rows:
        return 0
    return int(connection.execute(_insert_new(connection.dialect.name, table), list(rows)).rowcount)


def put(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert the row or replace the one with its primary key."""
    connection.execute(_put(connection.dialect.name, table, tuple(row)), row)


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    return _dialect(dialect).insert(table).on_conflict_do_nothing()


@cache
def _put(dialect: str, table: Table, names: tuple[str, ...]) -> Any:
    new = _dialect(dialect).insert(table)
    keys = {column.name for column in table.primary_key}
    return new.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: new.excluded[name] for name in names if name not in keys}
    )


def _dialect(name: str) -> Any:
    return sqlite if name == "sqlite" else postgresql
