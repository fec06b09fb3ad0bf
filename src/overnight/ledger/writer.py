"""The group-commit writer: one thread per process that commits whatever is queued.

Each caller is released only after the commit that holds its row, and no timer makes anybody wait: while one group is
being synced to disk the next one gathers. Waiting a few milliseconds for more was six times slower.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError

from overnight.errors import Stop

T = TypeVar("T")
Write = Callable[[Connection], T]
Many = Callable[[Connection, Sequence[Any]], Sequence[Any]]

GROUP = 500  # rows a commit at most: bounds the time that the write lock is held


def _each(connection: Connection, writes: Sequence[Write[Any]]) -> list[Any]:
    return [write(connection) for write in writes]


@dataclass(slots=True)
class _Op:
    many: Many
    argument: Any
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Writer:
    """Serialises the writes of this process; `BEGIN IMMEDIATE` serialises it with others."""

    engine: Engine
    _queue: queue.SimpleQueue[_Op | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    async def write(self, write: Write[T]) -> T:
        """Run `write(connection)` in a group transaction; returns its value once it is durable.

        An error of the function is raised here and undoes only its own rows.
        """
        result: T = await self.submit(_each, write)
        return result

    def submit(self, many: Many, argument: Any) -> asyncio.Future[Any]:
        """Queue one argument for `many(connection, arguments)`; arguments of the same function share one call."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
            self._thread.start()
        op = _Op(many, argument, loop, loop.create_future())
        self._queue.put(op)
        return op.done

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._gather()
            if group:
                _transact(self.engine, group)
                _release(group)

    def _gather(self) -> tuple[list[_Op], bool]:
        group: list[_Op] = []
        op = self._queue.get()
        while op is not None:
            group.append(op)
            if len(group) == GROUP or self._queue.empty():
                return group, True
            op = self._queue.get()
        return group, False


@dataclass(slots=True)
class Inline:
    """Commits in the event loop itself, once per turn: without a thread nothing is left to chance, for simulations."""

    engine: Engine
    _group: list[_Op] = field(default_factory=list)

    async def write(self, write: Write[T]) -> T:
        """Run `write(connection)` in the transaction of this turn."""
        result: T = await self.submit(_each, write)
        return result

    def submit(self, many: Many, argument: Any) -> asyncio.Future[Any]:
        """Queue one argument for `many(connection, arguments)`."""
        loop = asyncio.get_running_loop()
        op = _Op(many, argument, loop, loop.create_future())
        self._group.append(op)
        if len(self._group) == 1:
            self.wake(loop)
        return op.done

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the group committed at the end of this turn."""
        loop.call_soon(self.commit)

    def commit(self) -> None:
        """Commit what is queued, and tell."""
        group, self._group = self._group, []
        _transact(self.engine, group)
        _resolve(group)

    def close(self) -> None:
        """Commit what is queued."""
        if self._group:
            self.commit()


def _transact(engine: Engine, group: list[_Op]) -> None:
    """Commit a group; whoever cannot even connect tells its callers, and lives on for the next group."""
    try:
        with engine.connect() as connection:
            _commit(connection, group)
    except BaseException as error:  # noqa: BLE001
        for op in group:
            op.error = op.error or error


def _commit(connection: Connection, group: list[_Op]) -> None:
    begun = False
    try:
        with connection.begin():
            begun = True
            for many, ops in _by_function(group).items():
                for op, result in zip(ops, many(connection, [op.argument for op in ops]), strict=True):
                    op.result = result
    except BaseException as error:  # noqa: BLE001  whatever it is belongs to the callers, never to who commits
        if begun and len(group) > 1:
            for op in group:  # one bad row must not fail its neighbours
                _commit(connection, [op])
            return
        for op in group:  # a file that is locked is so for all of them: one wait is enough
            op.error = error


def told(error: BaseException) -> BaseException:
    """A Stop where the database does not work: who cannot note what he does must not go on. Anything else is a bug."""
    if not isinstance(error, DatabaseError) or isinstance(error, IntegrityError | ProgrammingError | DataError):
        return error
    stop = Stop(f"the ledger cannot be written: {error.orig}; free some disk space, then run it again", code="ledger")
    stop.__cause__ = error
    return stop


def _by_function(group: list[_Op]) -> dict[Many, list[_Op]]:
    parts: dict[Many, list[_Op]] = {}
    for op in group:
        parts.setdefault(op.many, []).append(op)
    return parts


def _release(group: list[_Op]) -> None:
    """Wake the callers: one call into each loop for the whole group."""
    loops: dict[asyncio.AbstractEventLoop, list[_Op]] = {}
    for op in group:
        loops.setdefault(op.loop, []).append(op)
    for loop, ops in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, ops)


def _resolve(ops: list[_Op]) -> None:
    for op in ops:
        if op.done.done():  # its caller was cancelled; the row stands all the same
            continue
        if op.error is not None:
            op.done.set_exception(told(op.error))
        else:
            op.done.set_result(op.result)
