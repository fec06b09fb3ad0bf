"""Prepared statements: what goes wrong is told as of any other, and what grows is found by an index."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Select, func, select
from sqlalchemy.exc import IntegrityError

from overnight.alerts.doubts import _DOUBTFUL
from overnight.ledger import Ledger, LedgerFault, Write
from overnight.ledger.statements import Prepared
from overnight.ledger.tables import meta, run
from overnight.retention import _RETIRED_DAYS
from tests.slots import ManualClock, open_ledger, rows

_note = Prepared(lambda insert: insert(meta), columns=("name", "value"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path, ManualClock())
    yield opened
    opened.close()


def noting(name: str, value: str = "") -> Write[int]:
    return lambda connection: _note.one(connection, {"name": name, "value": value})


async def together(ledger: Ledger, *writes: Write[int]) -> list[Any]:
    """What becomes of writes that share a group."""
    return await asyncio.gather(*(ledger.write(write) for write in writes), return_exceptions=True)


def names(ledger: Ledger) -> set[str]:
    return {row["name"] for row in rows(ledger, meta)}


@pytest.mark.parametrize(("wrong", "error"), [("good", IntegrityError), ("\ud800", UnicodeEncodeError)])
async def test_a_bad_row_fails_alone_with_the_error_that_it_is(ledger: Ledger, wrong: str, error: type) -> None:
    ledger.writing(noting("good"))
    said = await together(ledger, noting("before"), noting(wrong), noting("after"))
    assert [type(one) for one in said] == [int, error, int]
    assert names(ledger) >= {"before", "after"}


async def test_a_full_disk_is_a_fault_of_the_ledger_and_nothing_of_the_group_is_there(ledger: Ledger) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    ledger.reading(fill)
    said = await together(ledger, noting("small"), noting("large", "x" * 300_000))
    assert {(type(one), getattr(one, "kind", "")) for one in said} == {(LedgerFault, "full")}
    ledger.faults.forgive()
    assert names(ledger).isdisjoint({"small", "large"})
    ledger.writing(noting("again"))


LOOKED_FOR: list[tuple[Select[Any], dict[str, Any], str]] = [
    (_DOUBTFUL, {}, "slot_in_doubt"),
    (_RETIRED_DAYS, {"days": ["2026-11-22"]}, "slot_by_day"),
    (select(func.count()).where(run.c.day == "2026-11-22"), {}, "run_by_day"),
]


@pytest.mark.parametrize(("query", "values", "index"), LOOKED_FOR, ids=[index for *_, index in LOOKED_FOR])
def test_what_grows_for_years_is_found_by_its_index(
    ledger: Ledger, query: Select[Any], values: dict[str, Any], index: str
) -> None:
    def plan(connection: Connection) -> str:
        made = query.params(**values).compile(connection, compile_kwargs={"literal_binds": True})
        return "; ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {made}"))

    assert f"INDEX {index}" in ledger.reading(plan)
