"""The ledger: what happened, durably, in one SQL database (SQLite file or Postgres).

Every outcome is recorded when it happens; several processes on one file are normal. Functions that read or write are
plain functions of a connection (see `queries`), so that any number of them can share one transaction.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from overnight.clock import Clock, SystemClock
from overnight.errors import ConfigError
from overnight.ledger.tables import SCHEMA_VERSION, meta, metadata
from overnight.ledger.writer import Inline, Many, Write, Writer, told

__all__ = ["Ledger", "Write"]

T = TypeVar("T")

BUSY_SECONDS = 60  # how long a write waits for another process before it gives up


@dataclass(slots=True)
class Ledger:
    """An open ledger. `read` and `write` take a function of a SQLAlchemy connection."""

    engine: Engine
    writer: Writer | Inline
    clock: Clock

    @classmethod
    def open(cls, url: str, *, root: Path | None = None, clock: Clock | None = None, inline: bool = False) -> Self:
        """Open or create the ledger at `url` (`sqlite:///var/overnight.db` is relative to `root`).

        Raises ConfigError when the file cannot be opened or written, is damaged, or was made by a newer version.
        `inline`: commits happen in the event loop, for simulations.
        """
        where = _resolve(url, root or Path.cwd())
        engine = create_engine(where)
        if engine.dialect.name == "sqlite":
            _tune(engine)
        try:
            _create(engine)
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise ConfigError(
                f"cannot open the ledger {_shown(where)}: {cause}; "
                "check that the file and its folder are writable and no disk is full"
            ) from error
        return cls(engine, (Inline if inline else Writer)(engine), clock or SystemClock())

    def reading(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run `query(connection, *arguments)` in this thread, for short reads."""
        with self.engine.connect() as connection:
            return query(connection.execution_options(isolation_level="AUTOCOMMIT"), *arguments)

    async def read(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run `query(connection, *arguments)` in a thread of its own, so that the loop goes on. Raises Stop."""
        try:
            return await asyncio.to_thread(self.reading, query, *arguments)
        except DatabaseError as error:
            raise told(error) from error

    async def write(self, write: Write[T]) -> T:
        """Run `write(connection)` in a group transaction; returns once it is durable. Raises Stop."""
        return await self.writer.write(write)

    async def record(self, many: Many, argument: Any) -> Any:
        """Queue one argument of a function that writes many at once; returns once it is durable. Raises Stop."""
        return await self.writer.submit(many, argument)

    def writing(self, write: Write[T]) -> T:
        """Run `write(connection)` in a transaction of this thread: for commands without an event loop."""
        with self.engine.begin() as connection:
            return write(connection)

    def close(self) -> None:
        """Commit what is queued and let go of the file."""
        self.writer.close()
        self.engine.dispose()


def _resolve(url: str, root: Path) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    path = root / str(parsed.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the ledger's folder {path.parent}: {error.strerror}") from error
    return f"sqlite:///{path}"


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True).removeprefix("sqlite:///")


def _tune(engine: Engine) -> None:
    """WAL, FULL sync, and BEGIN IMMEDIATE.

    A deferred transaction that reads first and writes later fails at once with BUSY_SNAPSHOT, whatever the timeout.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        with _turn(str(engine.url.database)):  # the switch to WAL does not wait for others by itself
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            with _turn(str(engine.url.database)):
                connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _turn(database: str) -> Iterator[None]:
    """Queue up for the write lock: SQLite's own waiting is a lottery, in which a busy process starves the others.

    Seconds without a single write were measured for one of two processes; here each waits for one transaction of each
    other process.
    """
    file = os.open(f"{database}-turn", os.O_WRONLY | os.O_CREAT, 0o666)  # an open() of Python's costs 20 us
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _create(engine: Engine) -> None:
    with engine.begin() as connection:
        if not inspect(connection).has_table("meta"):
            metadata.create_all(connection)
            connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
        version = int(connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar_one())
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"the ledger has schema {version}, this version of overnight knows {SCHEMA_VERSION}: "
            "upgrade overnight, or point `ledger:` to another file"
        )
    if engine.dialect.name == "sqlite" and engine.url.database and not os.access(engine.url.database, os.W_OK):
        raise ConfigError(f"the ledger {engine.url.database} is not writable: check its owner and mode")
