"""A slot to work on: the clock, ledger and run that tests of the engine share."""

import asyncio
import dataclasses
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Table, select

from overnight import logs
from overnight.ledger import Ledger
from overnight.ledger.runs import Opening, open_run
from overnight.outcome import Scope
from overnight.run import Run

SLOT = "2026-11-22"
NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)


class ManualClock:
    """A clock whose sleeps take no time: they move it on."""

    def __init__(self, now: datetime = NOW) -> None:
        self.at = now
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOW).total_seconds()

    def random(self) -> float:
        return 0.5

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.move(max(seconds, 0))
        await asyncio.sleep(0)


class Nobody:
    """The mailer and the agent of a job that needs neither."""

    async def send(self, *_arguments: Any, **_options: Any) -> str:
        raise AssertionError("no mail was meant to be sent")

    async def ask(self, *_arguments: Any, **_more: Any) -> Any:
        raise AssertionError("no model was meant to be asked")

    def spent(self, *_arguments: Any) -> None:
        """Nothing."""


def open_ledger(folder: Path, clock: ManualClock) -> Ledger:
    """Open the ledger of a test's own folder."""
    return Ledger.open(f"sqlite:///{folder}/ledger.db", clock=clock)


def opening(job: str = "greet", slot: str = SLOT, **changes: Any) -> Opening:
    """Describe a run of this process that wants to start."""
    day = slot[:10]
    plain = Opening(job, slot, "manual", NOW, day, day, "here", 1, "code", "config")
    return dataclasses.replace(plain, **changes)


def begin(ledger: Ledger, job: str = "greet", slot: str = SLOT, **changes: Any) -> Scope:
    """Open a run over a slot; takes the slot over from an older run."""
    now = ledger.clock.now()
    return ledger.writing(lambda connection: open_run(connection, opening(job, slot, **changes), now, locked=True))


def run_in(ledger: Ledger, scope: Scope, root: Path, **changes: Any) -> Run:
    """Make the run a job's function gets."""
    plain = Run(
        scope=scope,
        scheduled_for=NOW,
        params={},
        root=root,
        zone=ZoneInfo("UTC"),
        clock=ledger.clock,
        ledger=ledger,
        asks=Nobody(),
        post=Nobody(),
        log=logs.get(),
    )
    return dataclasses.replace(plain, **changes)


def rows(ledger: Ledger, table: Table, **equal: Any) -> list[dict[str, Any]]:
    """Read the rows of a table in which these columns have these values."""
    query = select(table).where(*(table.c[name] == value for name, value in equal.items()))
    return ledger.reading(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


@contextmanager
def locked(ledger: Ledger) -> Iterator[None]:
    """Lock the ledger's file, as another program may."""
    with closing(sqlite3.connect(str(ledger.engine.url.database), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
