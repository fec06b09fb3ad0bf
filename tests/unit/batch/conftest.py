"""A slot to work a batch on, and jobs whose items raise or count."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from overnight import Run, job
from overnight.batch import Batch, Picked
from overnight.jobs import Job, Options
from overnight.ledger import Ledger
from overnight.ledger.tables import item
from overnight.outcome import Outcome
from tests.slots import ManualClock, begin, open_ledger, rows, run_in

DAY = timedelta(days=1)


@dataclass
class Slot:
    """A slot of a job, worked on as often as a test likes."""

    ledger: Ledger
    clock: ManualClock
    root: Path
    told: list[Outcome] = field(default_factory=list)

    async def work(
        self,
        job: Job[Any, Any],
        picked: Picked | None = None,
        *,
        plan: bool = True,
        expires: timedelta = DAY,
        **options: Any,
    ) -> Batch:
        """One run over the slot, plan and all."""
        batch = self.batch(job, expires=expires, **options)
        if plan:
            await batch.plan()
        await batch.work(picked or Picked())
        return batch

    def batch(self, job: Job[Any, Any], *, expires: timedelta = DAY, **options: Any) -> Batch:
        """A batch that has not begun."""
        run = run_in(self.ledger, begin(self.ledger), self.root)
        chosen = Options().override(job.options).override(options)
        return Batch(job, run, chosen, expires_at=self.clock.now() + expires, on_outcome=self.told.append)

    @property
    def states(self) -> dict[str, str]:
        return {row["key"]: row["state"] for row in sorted(rows(self.ledger, item), key=lambda row: row["seq"])}

    def one(self, key: str) -> dict[str, Any]:
        [row] = rows(self.ledger, item, key=key)
        return row


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Slot]:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    yield Slot(ledger, clock, tmp_path)
    ledger.close()


def raising(**errors: BaseException | Callable[[], BaseException]) -> Job[str, str]:
    """A job of items by these names, each of which raises its error, and of one that is well."""

    @job(items=lambda _run: [*errors, "well"], key=str)
    async def greet(name: str, run: Run) -> str:
        await asyncio.sleep(0)
        if name in errors:
            error = errors[name]
            raise error if isinstance(error, BaseException) else error()
        return f"hello {name}"

    return greet


def counting(n: int) -> Any:
    return lambda _run: [f"k{i:04}" for i in range(n)]
