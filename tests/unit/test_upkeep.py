"""A ledger in trouble: `serve` tells it once, goes on where it may, and ends where only a new process can look."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.faults import Kind
from overnight.ledger.tables import meta
from overnight.redact import Redactor
from overnight.runner import Workplace
from overnight.schedule import load
from overnight.upkeep import Upkeep
from tests.slots import ManualClock, open_ledger, rows

SCHEDULE = """version: 1
mail: {transport: "outbox:var/outbox", from: news@example.org}
channels: {ops: {email: [ops@example.org]}}
alerts: {to: [ops]}
jobs: {mail: {every: 1d}}
"""


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "alert.subject.j2").write_text("{{ changes[0].rule }}")
    (templates / "alert.txt.j2").write_text("{{ changes[0].message }}")
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    yield Workplace(tmp_path, load(tmp_path / "schedule.yaml"), ledger, clock, Redactor())
    ledger.close()


def told(work: Workplace) -> list[str]:
    return [path.read_text() for path in sorted((work.root / "var" / "outbox").rglob("*.eml"))]


def writing(ledger: Ledger, kind: Kind) -> None:
    """What a round does when the file has this fault."""
    fault = LedgerFault(kind, f"the ledger is {kind}")
    ledger.faults.found = None if kind == "locked" else fault
    raise fault


async def test_a_full_disk_is_told_once_and_tried_again_every_round(work: Workplace) -> None:
    rounds: list[str] = []

    async def look() -> None:
        rounds.append("look")
        assert work.ledger.faults.found is None, "it is tried again"
        if len(rounds) < 3:
            writing(work.ledger, "full")
        work.ledger.writing(lambda connection: connection.execute(insert(meta).values(name="late", value="x")))

    upkeep = Upkeep()
    for _ in range(3):
        await upkeep.guard(work, look)
    assert len(told(work)) == 1
    assert "overnight serve: the ledger is full" in told(work)[0]
    assert rows(work.ledger, meta, name="late") != []


async def test_a_full_disk_on_which_nobody_can_be_told_ends_nobody(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def look() -> None:
        writing(work.ledger, "full")

    monkeypatch.setattr("overnight.ports._create", full)  # of the secret, which no mail has needed so far
    await Upkeep().guard(work, look)
    assert told(work) == []


@pytest.mark.parametrize("kind", ["io", "damaged", "gone", "readonly"])
async def test_a_ledger_that_cannot_be_trusted_ends_the_process_after_one_message(work: Workplace, kind: Kind) -> None:
    async def look() -> None:
        writing(work.ledger, kind)

    with pytest.raises(LedgerFault, match=f"is {kind}"):
        await Upkeep().guard(work, look)
    assert len(told(work)) == 1
    work.ledger.faults.found = None


async def test_any_other_error_is_borne(work: Workplace) -> None:
    async def look() -> None:
        raise RuntimeError("a bug")

    await Upkeep().guard(work, look)
    assert told(work) == []


async def test_retention_is_begun_once_a_day_and_may_be_stopped(work: Workplace) -> None:
    first, second = Upkeep(), Upkeep()
    await first.retire(work)
    await second.retire(work)
    assert (list(first.beside.tasks), list(second.beside.tasks)) == (["retention"], [])
    [task] = first.beside.tasks.values()
    first.stop()
    await first.settle(work)
    await second.settle(work)
    assert task.cancelled()
