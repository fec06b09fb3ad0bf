"""The group-commit writer: who is told that a row stands can rely on it."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from overnight.errors import Stop
from overnight.ledger import Ledger
from overnight.ledger.tables import meta
from tests.slots import ManualClock, open_ledger

ACKNOWLEDGING = """
import asyncio, sys
from sqlalchemy import insert
from overnight.ledger import Ledger
from overnight.ledger.tables import meta

async def keep(ledger, name):
    await ledger.write(lambda connection: connection.execute(insert(meta).values(name=name, value="")))
    print(name, flush=True)

async def main():
    ledger = Ledger.open(sys.argv[1])
    n = 0
    while True:
        await asyncio.gather(*(keep(ledger, f"{sys.argv[2]}-{n + i}") for i in range(20)))
        n += 20

asyncio.run(main())
"""


def adding(name: str, value: str = "") -> Any:
    return lambda connection: connection.execute(insert(meta).values(name=name, value=value)).rowcount


def names(ledger: Ledger) -> set[str]:
    return set(ledger.reading(lambda connection: connection.execute(select(meta.c.name)).scalars().all())) - {"schema"}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "waited 30 s"
        time.sleep(0.01)


def held_up(ledger: Ledger) -> tuple[threading.Event, Any]:
    """A write that keeps the writer busy until the event is set, so that others gather behind it."""
    go = threading.Event()

    def wait(_connection: Connection) -> None:
        go.wait(10)

    return go, wait


async def test_one_bad_row_does_not_fail_its_neighbours(ledger: Ledger) -> None:
    go, wait = held_up(ledger)
    first = asyncio.ensure_future(ledger.write(wait))
    await asyncio.sleep(0.05)
    group = [asyncio.ensure_future(ledger.write(adding(name))) for name in ("a", "b", "schema", "c")]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(first, *group, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), int, int, IntegrityError, int]
    assert names(ledger) == {"a", "b", "c"}


async def test_rows_of_a_bad_argument_are_undone_and_those_of_the_good_ones_stand(ledger: Ledger) -> None:
    def many(connection: Connection, arguments: Sequence[str]) -> list[None]:
        for name in arguments:
            connection.execute(insert(meta).values(name=name, value=""))
            if name == "bad":
                raise ValueError(name)
        return [None for _ in arguments]

    go, wait = held_up(ledger)
    first = asyncio.ensure_future(ledger.write(wait))
    await asyncio.sleep(0.05)
    futures = [ledger.writer.submit(many, name) for name in ("good", "bad", "better")]
    go.set()
    await first
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ValueError, type(None)]
    assert names(ledger) == {"good", "better"}


async def test_arguments_of_one_function_share_one_call_and_get_their_own_results(ledger: Ledger) -> None:
    calls: list[int] = []

    def many(connection: Connection, arguments: Sequence[int]) -> list[int]:
        calls.append(len(arguments))
        return [2 * n for n in arguments]

    go, wait = held_up(ledger)
    first = asyncio.ensure_future(ledger.write(wait))
    await asyncio.sleep(0.05)
    futures = [ledger.writer.submit(many, n) for n in range(400)]
    go.set()
    await first
    assert await asyncio.gather(*futures) == [2 * n for n in range(400)]
    assert calls == [400]


async def test_writes_of_one_caller_keep_their_order(ledger: Ledger) -> None:
    order: list[int] = []

    def write(n: int) -> Any:
        return lambda _connection: order.append(n)

    await asyncio.gather(*(ledger.write(write(n)) for n in range(1200)))
    assert order == list(range(1200))


async def test_what_a_cancelled_caller_wrote_stands_and_the_next_caller_is_served(ledger: Ledger) -> None:
    go, wait = held_up(ledger)
    first = asyncio.ensure_future(ledger.write(wait))
    await asyncio.sleep(0.05)
    cancelled = asyncio.ensure_future(ledger.write(adding("cancelled")))
    await asyncio.sleep(0)
    cancelled.cancel()
    go.set()
    await first
    await ledger.write(adding("next"))
    assert cancelled.cancelled()
    assert names(ledger) == {"cancelled", "next"}


async def test_close_commits_what_is_queued(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    futures = [ledger.writer.submit(lambda c, ns: [adding(n)(c) for n in ns], f"row-{n}") for n in range(300)]
    await asyncio.to_thread(ledger.close)
    assert len(names(ledger)) == 300
    assert await asyncio.gather(*futures) == [1] * 300
    ledger.engine.dispose()


async def test_a_locked_file_fails_everybody_after_one_wait(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=200"))
    with sqlite3.connect(tmp_path / "ledger.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = asyncio.get_running_loop().time()
        late = [asyncio.ensure_future(ledger.write(adding(f"late-{n}"))) for n in range(50)]
        results = await asyncio.gather(*late, return_exceptions=True)
        took = asyncio.get_running_loop().time() - started
        other.execute("ROLLBACK")
    other.close()
    assert {getattr(result, "code", result) for result in results} == {"ledger_locked"}
    assert took < 2, "one after the other would be fifty waits"
    await ledger.write(adding("afterwards"))
    assert "afterwards" in names(ledger)


async def test_a_write_that_fails_leaves_no_lock_behind(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no such table"):
        await ledger.write(lambda connection: connection.execute(text("INSERT INTO nowhere VALUES (1)")))
    with sqlite3.connect(tmp_path / "ledger.db", timeout=0.1, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()


@contextmanager
def two_busy_processes(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Both write without pause to one ledger, and name in a file each what was acknowledged; killed at the end."""
    url, told = f"sqlite:///{folder}/shared.db", [folder / "left", folder / "right"]
    with ExitStack() as files:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", ACKNOWLEDGING, url, path.name], stdout=files.enter_context(path.open("w"))
            )
            for path in told
        ]
    try:
        yield url, told
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait(30)


def acknowledged(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1]


@pytest.mark.slow
def test_every_acknowledged_row_is_in_the_file_after_kill_9_of_two_processes(tmp_path: Path) -> None:
    with two_busy_processes(tmp_path) as (url, told):
        wait_until(lambda: all(len(acknowledged(path)) > 200 for path in told))
    ledger = Ledger.open(url)
    stored = names(ledger)
    ledger.close()
    sure = [name for path in told for name in acknowledged(path)]
    assert set(sure) - stored == set()
    assert len(sure) == len(set(sure)) > 400


@pytest.mark.slow
def test_a_busy_process_does_not_starve_another(tmp_path: Path) -> None:
    with two_busy_processes(tmp_path) as (_, told):
        wait_until(lambda: all(len(acknowledged(path)) > 0 for path in told))
        before = [len(acknowledged(path)) for path in told]
        wait_until(lambda: sum(len(acknowledged(path)) for path in told) - sum(before) > 2000)
        left, right = (len(acknowledged(path)) - n for path, n in zip(told, before, strict=True))
    assert min(left, right) > 0.2 * max(left, right), "by lot, one of them had nothing for seconds"


async def test_a_writer_that_cannot_connect_tells_so_and_goes_on_once_it_can(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(ledger.writer, "engine", SimpleNamespace(connect=refused))
    with pytest.raises(OSError, match="Too many open files"):
        await asyncio.wait_for(ledger.write(adding("lost")), 10)
    monkeypatch.undo()
    await ledger.write(adding("afterwards"))
    assert names(ledger) >= {"afterwards"}
    assert "lost" not in names(ledger)
