"""The engine itself over items that do nothing: what is left is bookkeeping.

`python bench/ours.py outcomes COUNT` records outcomes, `whole COUNT LEVEL` plans, pages, works and records them with
that log level; each prints one JSON document.
"""

import asyncio
import itertools
import os
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
from overnight.ledger.runs import Opening, open_run, slot_of
from overnight.outcome import Outcome, Scope
from overnight.redact import Redactor

DUE = datetime(2026, 11, 22, 7, tzinfo=UTC)


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


async def outcomes(ledger: Ledger, folder: Path, count: int) -> float:
    del folder
    scope = await opened(ledger)
    for start in range(0, count, 500):
        rows = [(n, str(n), str(n)) for n in range(start, min(count, start + 500))]
        await ledger.write(lambda connection, rows=rows: plan(connection, scope, rows))
    keys = itertools.chain(range(count))

    async def worker() -> None:
        for n in keys:
            await ledger.record(record, Recorded(scope, "pending", Outcome(str(n), "ok", result="null"), DUE))

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    return time.perf_counter() - started


async def whole(ledger: Ledger, folder: Path, count: int) -> float:
    run = Run(
        scope=await opened(ledger),
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
    batch = Batch(noop, run, Options(concurrency=WORKERS), expires_at=ledger.clock.now() + timedelta(days=1))
    started = time.perf_counter()
    planning = asyncio.create_task(batch.plan())
    await batch.work(Picked(), planning)
    await planning
    return time.perf_counter() - started


def main(what: str, count: int, level: str = "warning") -> None:
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        logs.configure(level=level, shown="error", stream=nowhere, redactor=Redactor(), file=Path(folder) / "log.jsonl")
        ledger = Ledger.open("sqlite:///ledger.db", root=Path(folder), clock=SystemClock())
        measured = outcomes if what == "outcomes" else whole
        seconds = asyncio.run(measured(ledger, Path(folder), count))
        assert ledger.reading(slot_of, "noop", "2026-11-22")["ok"] == count
        ledger.close()
    told(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
