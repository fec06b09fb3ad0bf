"""`/api/health`: a verdict within its limit, whatever the state of the parts."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from overnight import health as health_module
from overnight.alerts import Alarm, note
from overnight.health import PATIENCE, health
from overnight.ledger import Ledger
from overnight.ledger.flow import Circuit, LedgerRows
from overnight.ledger.tables import lease
from overnight.runner import Workplace
from overnight.schedule import Schedule, loads
from overnight.web import serving
from tests.slots import NOW, ManualClock, begin, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(tmp_path, ManualClock())
    yield ledger
    ledger.close()


async def told(
    ledger: Ledger, root: Path, looked_at: datetime | None = NOW, problem: str | None = None
) -> tuple[str, dict[str, Any]]:
    report = await health(ledger, ledger.clock, root, lambda: looked_at, lambda: problem)
    assert set(report) == {"status", "timestamp", "checks", "dependencies"}
    assert report["timestamp"] == "2026-11-22T07:00:00.000Z"
    return report["status"], report["checks"]


async def test_all_is_well(ledger: Ledger, tmp_path: Path) -> None:
    status, checks = await told(ledger, tmp_path)
    assert status == "healthy"
    assert {name: check["status"] for name, check in checks.items()} == dict.fromkeys(
        ["scheduler", "schedule", "ledger", "disk", "alerts", "dependencies", "runs"], "healthy"
    )


@pytest.mark.parametrize(
    ("looked_at", "status"),
    [
        (None, "healthy"),
        (NOW - timedelta(seconds=179), "healthy"),
        (NOW - timedelta(seconds=180), "unhealthy"),
    ],
    ids=["just started", "three minutes ago", "longer ago"],
)
async def test_a_scheduler_that_does_not_look_is_unhealthy(
    ledger: Ledger, tmp_path: Path, looked_at: datetime | None, status: str
) -> None:
    assert (await told(ledger, tmp_path, looked_at))[0] == status


async def test_an_alert_is_a_degradation(ledger: Ledger, tmp_path: Path) -> None:
    alarm = Alarm("bug", "greet", "oops")
    ledger.writing(lambda connection: note(connection, alarm, NOW, timedelta(hours=24)))
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["alerts"]["output"]) == ("degraded", "bug:greet")


async def test_a_dependency_that_is_left_alone_is_named_with_its_time(ledger: Ledger, tmp_path: Path) -> None:
    until = NOW + timedelta(minutes=2)

    def happen(rows: LedgerRows) -> None:
        rows.put_circuit("s3:minio.example.org:9000", Circuit("open", 1, 1, until))
        rows.put_circuit("feed:news.example.org", Circuit("open", 1, 1, NOW))  # may be tried again
        rows.put_circuit("anthropic", Circuit("closed", 2))
        rows.put_pause("smtp:relay.example.org:587", until)

    ledger.writing(lambda connection: happen(LedgerRows(connection)))
    report = await health(ledger, ledger.clock, tmp_path, lambda: NOW, lambda: None)
    at = "2026-11-22T07:02:00.000Z"
    assert report["dependencies"] == [
        {"name": "s3:minio.example.org:9000", "state": "open", "until": at},
        {"name": "smtp:relay.example.org:587", "state": "paused", "until": at},
    ]
    assert (report["status"], report["checks"]["dependencies"]["status"]) == ("degraded", "degraded")


async def test_a_pause_that_was_asked_for_is_no_degradation(ledger: Ledger, tmp_path: Path) -> None:
    until = NOW + timedelta(minutes=2)
    ledger.writing(lambda connection: LedgerRows(connection).put_pause("anthropic", until))
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["dependencies"]["output"]) == ("healthy", "anthropic paused until 2026-11-22T07:02:00.000Z")


async def test_a_broken_schedule_is_a_degradation_with_its_reason(ledger: Ledger, tmp_path: Path) -> None:
    status, checks = await told(ledger, tmp_path, problem="schedule.yaml:3: no such key")
    assert (status, checks["schedule"]["output"]) == ("degraded", "schedule.yaml:3: no such key")


async def test_a_run_that_has_fallen_silent_is_a_degradation_for_an_hour(ledger: Ledger, tmp_path: Path) -> None:
    begin(ledger)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["runs"]["output"]) == ("healthy", "1 going on")
    for ago, expected in ((0, "degraded"), (3599, "degraded"), (3600, "healthy")):
        until = NOW - timedelta(seconds=ago)
        ledger.writing(lambda connection, until=until: connection.execute(lease.update().values(until=until)))  # type: ignore[misc]
        status, checks = await told(ledger, tmp_path)
        assert status == expected
    assert checks["runs"]["output"] == "1 going on"


async def test_a_disk_that_fills_up_is_a_degradation(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "LOW_DISK", 2**60)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["disk"]["status"]) == ("degraded", "degraded")


async def test_an_error_is_told_by_its_kind_alone(ledger: Ledger, tmp_path: Path) -> None:
    status, checks = await told(ledger, tmp_path / "not there")
    assert (status, checks["disk"]["output"]) == ("unhealthy", "FileNotFoundError")


@dataclass
class Heart:
    looked_at: datetime | None = NOW


def asked(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:  # noqa: S310  our own server
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def test_a_locked_ledger_is_an_answer_and_no_reason_to_hang(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        assert (await asyncio.to_thread(asked, url))[0] == 200
        other = open_ledger(tmp_path, ManualClock())
        with other.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("BEGIN EXCLUSIVE")
            started = time.monotonic()
            code, report = await asyncio.to_thread(asked, url)
            took = time.monotonic() - started
            connection.exec_driver_sql("ROLLBACK")
        other.close()
        assert (code, report["status"]) == (503, "unhealthy")
        assert report["checks"]["ledger"]["output"] == f"no answer within {PATIENCE:g} s"
        assert PATIENCE <= took < PATIENCE + 2
        assert (await asyncio.to_thread(asked, url))[0] == 200


@dataclass
class _Work:
    root: Path
    ledger: Ledger
    clock: Any
    schedule: Schedule = field(default_factory=lambda: loads("version: 1\njobs: { good: { every: 1h } }\n", {}))


async def test_a_port_that_is_taken_does_not_keep_jobs_from_running(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        port = int(url.rpartition(":")[2])
        async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", port) as second:
            assert second == ""


async def test_there_is_nothing_else(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        code = await asyncio.to_thread(_code, f"{url}/")
    assert code == 404


def _code(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own server
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
