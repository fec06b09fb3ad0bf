"""The floor: the standard library's sqlite3 and one thread, with nothing of ours around them.

The same rows, the same file settings and the same waiting workers as the engine; no counts, no leases, no types.
`python bench/bare.py outcomes|whole|single COUNT` prints one JSON document; `single` commits each row by itself.
"""

import asyncio
import itertools
import queue
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from figures import WORKERS, told

COLUMNS = (
    "job", "slot", "key", "seq", "state", "payload", "result", "reason", "error_class", "error_code", "error",
    "attempts", "next_at", "expires_at", "run_id", "ended_at", "duration_ms", "cost_nano",
)  # fmt: skip
TABLE = f"create table item ({', '.join(COLUMNS)}, primary key (job, slot, key)) without rowid"
INDEX = "create index item_in_order on item (job, slot, seq)"
PLAN = "insert into item (job, slot, key, seq, state, payload) values ('noop', '2026-11-22', ?, ?, 'pending', ?)"
FINISH = (
    "insert into item (job, slot, key, seq, state, payload, result, attempts, run_id, ended_at, duration_ms) "  # noqa: S608
    "values ('noop', '2026-11-22', ?, 0, 'ok', '', 'null', 1, 'r_20261122070000abcdef01', ?, 0) on conflict do update "
    f"set {', '.join(f'{name} = excluded.{name}' for name in ('state', 'result', *COLUMNS[7:-1]))}"
)
ENDED = "2026-11-22T07:00:00.000Z"


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    return connection


def plan(connection: sqlite3.Connection, count: int) -> None:
    for start in range(0, count, 500):
        rows = [(str(n), n, str(n)) for n in range(start, min(count, start + 500))]
        connection.execute("begin immediate")
        connection.executemany(PLAN, rows)
        connection.execute("commit")


class Writer:
    """Commits whatever is queued, then wakes those who wait for it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection, self.loop = connection, asyncio.get_running_loop()
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def record(self, row: tuple[Any, ...]) -> asyncio.Future[None]:
        done = self.loop.create_future()
        self.queue.put((row, done))
        return done

    def serve(self) -> None:
        while (first := self.queue.get()) is not None:
            group, last = [first], False
            while not self.queue.empty():
                group.append(self.queue.get())
            if group[-1] is None:
                last = bool(group.pop() is None)
            self.connection.execute("begin immediate")
            self.connection.executemany(FINISH, [row for row, _ in group])
            self.connection.execute("commit")
            self.loop.call_soon_threadsafe(lambda group=group: [done.set_result(None) for _, done in group])
            if last:
                return

    def close(self) -> None:
        self.queue.put(None)
        self.thread.join()


async def finish(connection: sqlite3.Connection, count: int) -> None:
    writer, keys = Writer(connection), itertools.chain(range(count))

    async def worker() -> None:
        for n in keys:
            await writer.record((str(n), ENDED))

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    writer.close()


def finish_singly(connection: sqlite3.Connection, count: int) -> None:
    for n in range(count):
        connection.execute("begin immediate")
        connection.execute(FINISH, (str(n), ENDED))
        connection.execute("commit")


def main(what: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        connection = connect(str(Path(folder) / "bare.db"))
        connection.execute(TABLE)
        connection.execute(INDEX)
        started = time.perf_counter()
        plan(connection, count)
        if what != "whole":
            started = time.perf_counter()
        if what == "single":
            finish_singly(connection, count)
        else:
            asyncio.run(finish(connection, count))
        seconds = time.perf_counter() - started
        assert connection.execute("select count(*) from item where state = 'ok'").fetchone() == (count,)
        connection.close()
    told(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
