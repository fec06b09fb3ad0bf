"""The engine itself over items that do nothing: what is left is bookkeeping.

`python bench/ours.py outcomes COUNT` records outcomes, `whole COUNT LEVEL` plans, pages, works and records them with
that log level; `resume COUNT` is killed half-way through so many and goes on: the seconds from opening the ledger to
the first item. Each prints one JSON document.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from figures import WORKERS, told

from overnight import Run, job, logs
from overnight.batch import Batch, Picked
from overnight.clock import SystemClock
from overnight.jobs import Options
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.items import planned as plan_is_complete
from overnight.ledger.runs import Opening, open_run, slot_of
from overnight.outcome import Outcome, Scope
from overnight.redact import Redactor

DUE = datetime(2026, 11, 22, 7, tzinfo=UTC)
LATER = DUE + timedelta(days=3650)
MORE: dict[str, float] = {}  # figures beside the seconds


class Nobody:
    """Neither mail nor models are part of this."""

    def spent(self, scope: Scope) -> None:
        del scope


def numbers(run: Run) -> Any:
    return range(run.params["count"])


@job(items=numbers)
async def noop(number: int, run: Run) -> None:
    del number, run


async def opened(ledger: Ledger) -> Scope:
    day = DUE.date().isoformat()
    opening = Opening("noop", day, "manual", DUE, day, day, "bench", 1, "bench", "bench")
    return await ledger.write(lambda connection: open_run(connection, opening, DUE, locked=True))


async def planned(ledger: Ledger, count: int) -> Scope:
    scope = await opened(ledger)
    for start in range(0, count, 500):
        rows = [(n, str(n), str(n)) for n in range(start, min(count, start + 500))]
        await ledger.write(lambda connection, rows=rows: plan(connection, scope, rows))
    return scope


async def recorded(ledger: Ledger, scope: Scope, keys: range) -> list[float]:
    """Record an outcome for each key, 100 workers at a time; returns the seconds each of them waited."""
    left, took = iter(keys), []

    async def worker() -> None:
        for n in left:
            asked = time.perf_counter()
            await ledger.record(record, Recorded(scope, "pending", Outcome(str(n), "ok", result="null"), DUE))
            took.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    return took


async def outcomes(ledger: Ledger, folder: Path, count: int) -> float:
    del folder
    scope = await planned(ledger, count)
    started = time.perf_counter()
    waits = sorted(await recorded(ledger, scope, range(count)))
    took = time.perf_counter() - started
    MORE["p99_ms"] = waits[len(waits) * 99 // 100] * 1000
    return took


async def killed_halfway(ledger: Ledger, count: int) -> None:
    scope = await planned(ledger, count)
    await ledger.write(lambda connection: plan_is_complete(connection, scope, DUE))
    await recorded(ledger, scope, range(count // 2))


async def resume(ledger: Ledger, folder: Path, count: int) -> float:
    """How long it takes until the first item that is left is worked on."""
    began: list[float] = []

    @job(items=numbers)
    async def noop(number: int, run: Run) -> None:
        began.append(time.perf_counter())
        assert number == count // 2
        run.log.debug("the first")
        batch.drain()

    batch = Batch(noop, run_of(await opened(ledger), ledger, folder, count), Options(concurrency=1), expires_at=LATER)
    await batch.work(Picked())
    return began[0]


async def whole(ledger: Ledger, folder: Path, count: int) -> float:
    run = run_of(await opened(ledger), ledger, folder, count)
    batch = Batch(noop, run, Options(concurrency=WORKERS), expires_at=LATER)
    started = time.perf_counter()
    planning = asyncio.create_task(batch.plan())
    await batch.work(Picked(), planning)
    await planning
    return time.perf_counter() - started


def run_of(scope: Scope, ledger: Ledger, folder: Path, count: int) -> Run:
    return Run(
        scope=scope,
        scheduled_for=DUE,
        params={"count": count},
        root=folder,
        zone=ZoneInfo("UTC"),
        clock=ledger.clock,
        ledger=ledger,
        asks=Nobody(),
        post=Nobody(),
        log=logs.get().bind(run_id="r_20261122070000abcdef01", worker_id="bench:1"),
    )


def halved(folder: Path, count: int) -> None:
    """A process of its own that dies after half of the items."""
    pid = os.fork()
    if pid == 0:
        ledger = Ledger.open("sqlite:///ledger.db", root=folder, clock=SystemClock())
        asyncio.run(killed_halfway(ledger, count))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def main(what: str, count: int, level: str = "warning") -> None:
    with tempfile.TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
        folder = Path(name)
        logs.configure(level=level, shown="error", stream=nowhere, redactor=Redactor(), file=folder / "log.jsonl")
        if what == "resume":
            halved(folder, count)
        started = time.perf_counter()
        ledger = Ledger.open("sqlite:///ledger.db", root=folder, clock=SystemClock())
        seconds = asyncio.run({"outcomes": outcomes, "whole": whole, "resume": resume}[what](ledger, folder, count))
        if what == "resume":
            seconds -= started
        else:
            assert ledger.reading(slot_of, "noop", "2026-11-22")["ok"] == count
        ledger.close()
    told(seconds, **MORE)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
