"""Inserts that tolerate a row that is already there, in the words of the two databases; and prepared statements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Sql:
    text: str
    ordered: Callable[[Values], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement put into SQL once per dialect and given to the driver as it is, for the few that run with each item.

    SQLAlchemy's own `execute` takes 15 us when it is hot and 50 us when it is not, most of SQLite's statements here
    take 3. Values reach the driver as they are, so times are given as text (`iso`), and by position. `build` gets the
    dialect's `insert`, `columns` are those of an insert. It is for within a transaction, or for a look without one.
    Raises what `execute` raises; listeners to SQLAlchemy's statements do not hear of it.
    """

    build: Callable[[Any], Any]
    columns: tuple[str, ...] | None = None
    _compiled: dict[str, _Sql] = field(default_factory=dict)

    def row(self, connection: Connection, values: Values) -> tuple[Any, ...] | None:
        """Execute it; returns the first row."""
        sql = self._sql(connection)
        return _sent(connection, "execute", sql.text, sql.ordered(values), _first)

    def one(self, connection: Connection, values: Values) -> int:
        """Execute it; returns how many rows it has changed."""
        sql = self._sql(connection)
        return _sent(connection, "execute", sql.text, sql.ordered(values), _changed)

    def many(self, connection: Connection, rows: Iterable[Values]) -> int:
        """Execute it for each of one or more rows; returns how many rows it has changed."""
        sql = self._sql(connection)
        return _sent(connection, "executemany", sql.text, list(map(sql.ordered, rows)), _changed)

    def _sql(self, connection: Connection) -> _Sql:
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            kind: Any = type(dialect)
            positional = kind(paramstyle="qmark" if dialect.name == "sqlite" else "format")
            compiled = self.build(_dialect(dialect.name).insert).compile(dialect=positional, column_keys=self.columns)
            self._compiled[dialect.name] = _Sql(str(compiled), _ordered(*compiled.positiontup))
        return self._compiled[dialect.name]


def _ordered(*names: str) -> Callable[[Values], tuple[Any, ...]]:
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


def _sent(connection: Connection, how: str, text: str, values: Any, result: Callable[[Any], T]) -> T:
    """Let the driver do it. Its errors are handed to SQLAlchemy, to be raised as its own, or as the ledger's faults."""
    cursor = None
    try:
        cursor = connection.connection.cursor()
        getattr(cursor, how)(text, values)
        return result(cursor)
    except connection.dialect.loaded_dbapi.Error as error:  # there is no public door for it
        connection._handle_dbapi_exception(error, text, values, cursor, None)  # noqa: SLF001
    finally:
        if cursor is not None:
            cursor.close()


def _first(cursor: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def _changed(cursor: Any) -> int:
    changed: int = cursor.rowcount
    return changed


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
