"""Reports on their way out: the same bytes each time, sent once, nothing lost while the store is down."""

import asyncio
import fcntl
import json
import threading
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from pandas import DataFrame

from overnight.clock import SystemClock
from overnight.dependency import Dependencies
from overnight.errors import Transient
from overnight.ledger import Ledger
from overnight.ledger.runs import days_of
from overnight.report import Day, Report, newest_days, publish
from overnight.storage import Folder, Spool
from overnight.storage.s3 import S3
from reports.cost import cost
from reports.runs import runs
from tests.bucket import counting_bucket
from tests.days import ALL, AT, DAY, PARIS, add_calls, add_item, add_run, add_slot, read
from tests.slots import ManualClock, open_ledger


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(AT)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_publishing_again_changes_no_byte(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger, ok=1)
    add_run(ledger, ok=1, items=1)
    add_calls(ledger, [{"cost_nano": 5}, {"cost_nano": 6}])
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    done = await publish(ALL, [DAY], ledger, PARIS, spool)
    assert (done.errors, done.drained.left) == ({}, 0)
    assert done.keys[0] == "report=cost/date=2026-11-22/cost-2026-11-22.csv"
    before = tree(tmp_path / "out")
    await publish(ALL, [DAY], ledger, PARIS, spool)
    assert tree(tmp_path / "out") == before
    assert before["latest/cost.csv"] == before[done.keys[0]]


@pytest.mark.slow
async def test_ten_times_the_same_day_is_sent_once(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger, ok=1)
    add_run(ledger, ok=1, items=1)
    add_calls(ledger, [{"cost_nano": 5}])
    with counting_bucket() as bucket:
        seen = []
        for _ in range(10):  # a process each time: nothing is remembered but in the bucket
            store = S3("s3://reports/p", bucket.environ, Dependencies({}, SystemClock()))
            done = await publish(ALL, [DAY], ledger, PARIS, Spool(tmp_path / "spool", store))
            assert (done.errors, done.drained.left) == ({}, 0)
            seen.append(dict(bucket.objects))
    assert len(bucket.written) == len(set(bucket.written)) == 3 * len(ALL)
    assert seen == [seen[0]] * 10


async def test_the_manifest_says_what_the_file_must_be(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger)
    add_run(ledger)
    add_calls(ledger, [{"cost_nano": 5}, {"cost_nano": 6, "role": "analyst"}])
    await publish([cost], [DAY], ledger, PARIS, Spool(tmp_path / "spool", Folder(tmp_path / "out")))
    folder = tmp_path / "out/report=cost/date=2026-11-22"
    content = (folder / "cost-2026-11-22.csv").read_bytes()
    told = json.loads((folder / "manifest.json").read_text())
    assert (told["sha256"], told["bytes"]) == (sha256(content).hexdigest(), len(content))
    assert (told["rows"], told["sums_nano_usd"]["cost_usd"]) == (2, 11)


async def test_a_report_that_raises_is_an_error_of_that_report_only(ledger: Ledger, tmp_path: Path) -> None:
    def broken(day: Day) -> DataFrame:
        raise ZeroDivisionError("a bug")

    add_slot(ledger)
    add_run(ledger)
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    done = await publish([Report("broken", broken, {}), runs], [DAY], ledger, PARIS, spool)
    assert done.errors == {"broken 2026-11-22": "ZeroDivisionError: a bug"}
    assert done.unmade == {DAY}
    assert (tmp_path / "out/latest/runs.csv").exists()


class Down:
    """A store that is down."""

    async def put(self, key: str, content: bytes) -> None:  # noqa: ARG002
        raise Transient("no route to the bucket")

    async def get(self, key: str) -> bytes | None:  # noqa: ARG002
        return None

    def describe(self) -> str:
        return "a bucket that is down"


async def test_reports_made_while_the_store_is_down_arrive_unchanged_later(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger)
    add_run(ledger)
    done = await publish(ALL, [DAY], ledger, PARIS, Spool(tmp_path / "spool", Down()))
    assert (done.drained.left, done.drained.error) == (5, "no route to the bucket")
    assert (await Spool(tmp_path / "spool", Folder(tmp_path / "out")).drain()).left == 0
    assert (tmp_path / "out/latest/runs.csv").read_bytes() == runs.table(Day(DAY, ledger)).csv()


async def test_while_the_store_is_down_only_the_newest_version_of_each_report_waits(
    ledger: Ledger, tmp_path: Path
) -> None:
    add_slot(ledger)
    for number in range(3):
        add_run(ledger, f"r_{number}")
        down = await publish([runs, cost], [DAY], ledger, PARIS, Spool(tmp_path / "spool", Down()))
        assert down.drained.left == 2
    await Spool(tmp_path / "spool", Folder(tmp_path / "out")).drain()
    assert (tmp_path / "out/latest/runs.csv").read_bytes() == runs.table(Day(DAY, ledger)).csv()
    assert len(read(runs.table(Day(DAY, ledger)).csv())) == 3


def test_what_somebody_is_uploading_is_left_to_him_though_a_newer_version_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    spool.add([("a.csv", b"1")])
    with (tmp_path / "spool/.draining").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        spool.add([("a.csv", b"2")])
        assert len(spool.waiting()) == 2
    spool.add([("a.csv", b"3"), ("b.csv", b"3")])
    spool.add([("b.csv", b"4")])
    assert [place.name for place in spool.waiting()] == ["00000003", "00000004"]


@pytest.mark.parametrize("order", ["null", "[1]", "["])
def test_a_publication_is_kept_whatever_is_wrong_with_those_that_wait(tmp_path: Path, order: str) -> None:
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    (spool.add([("a.csv", b"1")]) / ".order").write_text(order)
    spool.add([("a.csv", b"2")])
    told = asyncio.run(spool.drain())
    assert (told.uploaded, told.left, "cannot be read" in str(told.error)) == (1, 1, True)
    assert (tmp_path / "out/a.csv").read_bytes() == b"2"


def test_a_publication_is_kept_though_an_older_one_cannot_be_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    first = spool.add([("a.csv", b"1")])
    (tmp_path / "spool" / f".done-{first.name}" / "x").mkdir(parents=True)  # where it would go is taken
    assert spool.add([("a.csv", b"2")]).is_dir()
    assert (asyncio.run(spool.drain()).left, (tmp_path / "out/a.csv").read_bytes()) == (0, b"2")


async def test_an_old_day_made_again_is_not_the_latest(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger)
    add_slot(ledger, "2026-11-21", day="2026-11-21")
    add_slot(ledger, "2027-01-01", day="2027-01-01")
    add_run(ledger)
    assert ledger.reading(newest_days, DAY) == (DAY, [])
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    await publish([runs], [date(2026, 11, 21)], ledger, PARIS, spool)
    assert (tmp_path / "out/report=runs/date=2026-11-21/runs-2026-11-21.csv").exists()
    assert not (tmp_path / "out/latest").exists()


@pytest.mark.slow
async def test_a_run_of_an_old_slot_alone_leaves_no_empty_report_in_latest(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock(AT + timedelta(days=8)))
    add_slot(ledger, ok=1)
    add_run(ledger, day="2026-11-30", ok=1, items=1, cost_nano=5)
    add_calls(ledger, [{"cost_nano": 5, "budget_day": "2026-11-30"}])
    add_item(ledger, "a", "ok")
    days = [DAY, date(2026, 11, 30)]
    for made in (days, [DAY], days[::-1]):
        await publish(ALL, made, ledger, PARIS, Spool(tmp_path / "spool", Folder(tmp_path / "out")))
        latest = {path.stem: read(path.read_bytes()) for path in (tmp_path / "out/latest").iterdir()}
        told = {name: [row["report_date"] for row in rows] for name, rows in latest.items()}
        assert told == {
            "cost": ["2026-11-30"], "runs": ["2026-11-30"],
            "success_rate": ["2026-11-22"], "items": ["2026-11-22"], "errors": [],
        }  # fmt: skip
    ledger.close()


async def test_latest_stays_at_a_later_day_with_rows_when_a_retry_after_it_has_none(tmp_path: Path) -> None:
    spent, retried = date(2026, 11, 28), date(2026, 11, 30)
    ledger = open_ledger(tmp_path, ManualClock(AT + timedelta(days=8)))
    add_slot(ledger, ok=1)
    add_run(ledger, day=str(spent), cost_nano=5)
    add_calls(ledger, [{"cost_nano": 5, "budget_day": str(spent)}])
    for days in ([DAY, spent], [DAY, retried]):
        if retried in days:
            add_run(ledger, "r_2", day=str(retried))
        await publish([cost], days, ledger, PARIS, Spool(tmp_path / "spool", Folder(tmp_path / "out")))
        assert (tmp_path / "out/latest/cost.csv").read_bytes() == cost.table(Day(spent, ledger)).csv()
    ledger.close()


async def test_a_report_that_fails_on_the_day_of_the_run_is_published_for_the_day_of_the_slot(tmp_path: Path) -> None:
    def of_slots(day: Day) -> DataFrame:
        found = day.query("SELECT job FROM slot WHERE day = :day")
        assert found["job"][0]
        return found

    ledger = open_ledger(tmp_path, ManualClock(AT + timedelta(days=8)))
    add_slot(ledger, ok=1)
    add_run(ledger, day="2026-11-30")
    days, spool = [DAY, date(2026, 11, 30)], Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    done = await publish([Report("of_slots", of_slots, {"job": "text"})], days, ledger, PARIS, spool)
    assert (list(done.errors), done.unmade) == (["of_slots 2026-11-30"], {date(2026, 11, 30)})
    assert (tmp_path / "out/latest/of_slots.csv").read_bytes() == (tmp_path / "out" / done.keys[0]).read_bytes()
    ledger.close()


async def test_a_run_whose_clock_was_years_ahead_does_not_stop_latest(ledger: Ledger, tmp_path: Path) -> None:
    add_slot(ledger)
    add_slot(ledger, "2030-01-01", day="2030-01-01")
    add_run(ledger)
    add_run(ledger, "r_2", slot="2030-01-01", day="2030-01-01")
    await publish([runs], [DAY, date(2030, 1, 1)], ledger, PARIS, Spool(tmp_path / "spool", Folder(tmp_path / "out")))
    assert (tmp_path / "out/latest/runs.csv").read_bytes() == runs.table(Day(DAY, ledger)).csv()


async def test_of_two_processes_that_publish_at_once_the_one_that_read_later_is_sent_later(
    ledger: Ledger, tmp_path: Path
) -> None:
    add_slot(ledger)
    add_run(ledger)
    asked, go_on = threading.Event(), threading.Event()
    numbers = iter([1, 2])

    def counted(day: Day) -> DataFrame:
        number = next(numbers)
        asked.set()
        go_on.wait(0.2 if number == 1 else 0)  # the first one is slow: without a lock the second overtakes it here
        return day.query("SELECT :number AS n", number=number)

    one = Report("counted", counted, {"n": "count"})
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    first = asyncio.create_task(publish([one], [DAY], ledger, PARIS, spool))
    await asyncio.to_thread(asked.wait)
    await publish([one], [DAY], ledger, PARIS, Spool(tmp_path / "spool", Folder(tmp_path / "out")))
    await first
    await spool.drain()
    assert (tmp_path / "out/latest/counted.csv").read_text() == "n\n2\n"


def test_what_a_killed_process_has_left_in_the_spool_is_cleared_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Folder(tmp_path / "out"))
    for name in (".new-00000007", ".done-00000003"):
        (tmp_path / "spool" / name).mkdir(parents=True)
    spool.add([("a.csv", b"1")])
    assert asyncio.run(spool.drain()).left == 0
    assert {path.name for path in (tmp_path / "spool").iterdir()} <= {".adding", ".draining"}


def test_a_slot_affects_its_day_and_those_of_its_runs_and_calls(ledger: Ledger) -> None:
    add_slot(ledger)
    add_run(ledger, day="2026-11-23")
    add_calls(ledger, [{"budget_day": "2026-11-24"}])
    found = ledger.reading(days_of, "daily_email", "2026-11-22")
    assert found == {"2026-11-22", "2026-11-23", "2026-11-24"}
