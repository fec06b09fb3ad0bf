"""The ledger: what happened, durably, in one SQL database (SQLite file or Postgres).

Every outcome is recorded when it happens; several processes on one file are normal. Functions that read or write are
plain functions of a connection (see `queries`), so that any number of them can share one transaction.
"""

import asyncio
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from overnight.clock import Clock, SystemClock
from overnight.errors import ConfigError, Refused
from overnight.ledger import schema
from overnight.ledger.copies import damage, unused
from overnight.ledger.faults import Faults, LedgerFault, way_out
from overnight.ledger.presence import Nowhere, Presence
from overnight.ledger.turn import turn
from overnight.ledger.writer import Inline, Many, Write, Writer, told

__all__ = ["Ledger", "LedgerFault", "Write"]

T = TypeVar("T")

BUSY_SECONDS = 60  # how long a write waits for another process before it gives up
LOCKLESS = "overnight_lockless"  # on a connection that only reads: no BEGIN IMMEDIATE, no turn
TURN_SECONDS = 10  # how long it waits for its turn before it goes on without: shorter than a lease


@dataclass(slots=True)
class Ledger:
    """An open ledger. `read` and `write` take a function of a SQLAlchemy connection."""

    engine: Engine
    writer: Writer | Inline
    clock: Clock
    presence: Presence | Nowhere
    faults: Faults

    @classmethod
    def open(cls, url: str, *, root: Path | None = None, clock: Clock | None = None, inline: bool = False) -> Self:
        """Open or create the ledger at `url` (`sqlite:///var/overnight.db` is relative to `root`).

        Raises ConfigError when the file cannot be opened or written, or was made by a newer version; LedgerFault when
        it is damaged or gone. After an end that was none (kill -9, power) the file is checked first.
        `inline`: commits happen in the event loop, for simulations.
        """
        where = _resolve(url, root or Path.cwd())
        engine, faults = create_engine(where), Faults(Path(_shown(where)))
        presence: Presence | Nowhere = Nowhere()
        try:
            if engine.dialect.name == "sqlite":
                presence = (
                    Presence.enter(faults.file) if engine.url.database not in (None, "", ":memory:") else presence
                )
                _tune(engine, presence, faults)
            ledger = cls(engine, (Inline if inline else Writer)(engine), clock or SystemClock(), presence, faults)
            weakref.finalize(engine, presence.leave)  # for who forgets to close
            if presence.unclean:
                ledger.check()
            schema.prepare(engine, presence)
            _require_writable(engine)
        except BaseException as error:
            presence.leave()
            engine.dispose()
            if isinstance(error, (SQLAlchemyError, sqlite3.Error, OSError)):
                raise _unopened(where, error) from error
            raise
        presence.settle()
        return ledger

    def check(self) -> None:
        """Read the whole file and see that it is one: about 1 ms a megabyte. Raises LedgerFault."""
        if self.engine.dialect.name != "sqlite":
            return
        found = damage(self.engine)
        if found is not None:
            self.faults.found = LedgerFault(
                "damaged", f"the ledger {self.faults.file} is damaged: {found}. {way_out(self.faults.file)}"
            )
            self.faults.refuse()

    def size(self) -> int:
        """Bytes of the file with its write-ahead log; 0 for a ledger on a server."""
        files = (self.faults.file, self.faults.file.with_name(f"{self.faults.file.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def shrink(self) -> bool:
        """Give free space back, so that nothing deleted is left in the file; False when a reader kept the log.

        Writers wait meanwhile, and the disk must have room for a second copy.
        """
        with _lockless(self.engine) as connection:
            plain = connection.execution_options(isolation_level="AUTOCOMMIT")
            plain.exec_driver_sql("VACUUM")
            if self.engine.dialect.name != "sqlite":
                return True
            busy: int = plain.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
            return not busy

    def reading(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run `query(connection, *arguments)` in this thread, for short reads.

        SQLAlchemy's AUTOCOMMIT would say the same, but its way back is a PRAGMA, after which SQLite prepares every
        statement of the connection anew: 130 us for each read.
        """
        with _lockless(self.engine) as connection:
            return query(connection, *arguments)

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
        """Commit what is queued and let go of the file.

        After an error of the disk nothing is tidied up, for SQLite would sync again: the process is to end as it is.
        """
        if self.faults.found is not None and self.faults.found.kind == "io":
            self.presence.abandon()
            return
        self.writer.close()
        self.presence.leave()
        self.engine.dispose()


def file_of(url: str, root: Path) -> Path:
    """The file of a ledger. Raises Refused for one that is on a server."""
    where = make_url(_resolve(url, root))
    if where.get_backend_name() != "sqlite":
        raise Refused("the ledger is on a database server: use the server's own tools")
    return Path(str(where.database))


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


def _unopened(where: str, error: Exception) -> ConfigError:
    cause = getattr(error, "orig", None) or error
    return ConfigError(
        f"cannot open the ledger {_shown(where)}: {cause}; "
        "check that the file and its folder are writable and no disk is full"
    )


def _require_writable(engine: Engine) -> None:
    if engine.dialect.name == "sqlite" and engine.url.database and not os.access(engine.url.database, os.W_OK):
        raise ConfigError(f"the ledger {engine.url.database} is not writable: check its owner and mode")


def _tune(engine: Engine, presence: Presence | Nowhere, faults: Faults) -> None:
    """WAL, FULL sync, and BEGIN IMMEDIATE, each time on the file that was opened.

    A deferred transaction that reads first and writes later fails at once with BUSY_SNAPSHOT, whatever the timeout.
    It is begun by the dialect: one listener to an event of connections makes each statement look for listeners, which
    costs a tenth of all that is asked.
    """
    faults.watch(engine)
    turns = _Turns(str(engine.url.database), TURN_SECONDS)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        _refuse(presence, faults)
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        with turns.take():  # the switch to WAL does not wait for others by itself
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    def begin(connection: Any) -> None:
        if LOCKLESS not in connection.info:
            _refuse(presence, faults)
            with turns.take():
                connection.execute("BEGIN IMMEDIATE")

    engine.dialect.do_begin = begin  # type: ignore[method-assign, assignment]


@contextmanager
def _lockless(engine: Engine) -> Iterator[Connection]:
    """A connection whose transactions take no lock before they write."""
    with engine.connect() as connection:
        marks = connection.info
        marks[LOCKLESS] = True
        try:
            yield connection
        finally:
            del marks[LOCKLESS]


@dataclass(slots=True)
class _Turns:
    """Queue up for the write lock: SQLite's own waiting is a lottery, in which a busy process starves the others.

    Seconds without a single write were measured for one of two processes; here each waits for one transaction of each
    other process. Who waited in vain, for one that is stopped, takes part in the lottery until the queue moves again.
    """

    database: str
    patience: float

    @contextmanager
    def take(self) -> Iterator[None]:
        with turn(f"{self.database}-turn", self.patience) as mine:
            self.patience = TURN_SECONDS if mine else 0
            yield


def _refuse(presence: Presence | Nowhere, faults: Faults) -> None:
    """Begin nothing after a fault. What only this process still has of a file that is gone is saved first."""
    faults.refuse()
    try:
        presence.verify()
    except LedgerFault as fault:
        saved = unused(faults.file, "rescued")
        presence.rescue(saved)
        told = f"{fault}. Everything up to now was saved as {saved}: `overnight restore {saved}`"
        faults.found = LedgerFault(fault.kind, told)
        faults.refuse()
