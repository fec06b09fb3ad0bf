"""A day in the ledger, put there by hand: slots, runs, items and calls, and the reports of it."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert

from overnight.ledger import Ledger
from overnight.ledger.rollups import fill, spend, trouble
from overnight.ledger.tables import call, item, run, slot
from reports.cost import cost
from reports.errors import errors
from reports.items import items
from reports.runs import runs
from reports.success_rate import success_rate

DAY = date(2026, 11, 22)
AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")
ALL = (cost, errors, items, runs, success_rate)


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def count(ledger: Ledger) -> None:
    """Make the sums of what was put into the ledger by hand."""
    ledger.writing(lambda connection: [connection.execute(delete(each)) for each in (spend, trouble)])
    ledger.writing(fill)


def add_slot(ledger: Ledger, name: str = "2026-11-22", *, job: str = "daily_email", **values: Any) -> None:
    row = {"job": job, "slot": name, "day": "2026-11-22", "scheduled_for": AT, "created_at": AT} | values
    ledger.writing(lambda connection: connection.execute(insert(slot).values(row)))


def add_run(ledger: Ledger, run_id: str = "r_1", **values: Any) -> None:
    row = {
        "id": run_id, "job": "daily_email", "slot": "2026-11-22", "kind": "scheduled", "status": "partial",
        "scheduled_for": AT, "started_at": AT, "ended_at": AT + timedelta(seconds=90), "day": "2026-11-22",
        "worker_id": "host:1", "code_version": "1", "config_hash": "c",
    } | values  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(run).values(row)))


def add_item(ledger: Ledger, key: str, state: str, **values: Any) -> None:
    row = {
        "job": "daily_email", "slot": "2026-11-22", "key": key, "seq": 1, "state": state, "payload": "{}",
    } | values  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(item).values(row)))
    count(ledger)


def add_calls(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    common = {
        "job": "daily_email", "slot": "2026-11-22", "key": "a", "hash": "h", "nth": 0, "run_id": "r_1",
        "role": "editor", "model": "m", "status": "ok", "budget_day": "2026-11-22", "started_at": AT,
    }  # fmt: skip
    full = [common | {"id": f"c{n}", "run_id": f"r_{row.get('job', 1)}"} | row for n, row in enumerate(rows)]
    ledger.writing(lambda connection: connection.execute(insert(call), full))
    count(ledger)
