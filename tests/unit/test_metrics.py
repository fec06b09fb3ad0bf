"""Figures of a period: each by itself, from the ledger."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, insert, text

from overnight.histogram import bucket_of
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.rollups import fill, spend, trouble
from overnight.ledger.tables import call, effect, histogram, item, metadata, run, slot
from overnight.metrics import ErrorFigure, Figures, Spending, Usual, figures

UNTIL = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
SINCE = UNTIL - timedelta(hours=24)
AT = UNTIL - timedelta(hours=2)
PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.close()


def add(ledger: Ledger, table: Any, **values: Any) -> None:
    common = {
        "slot": {"day": "2026-11-22", "scheduled_for": AT, "created_at": AT},
        "run": {
            "kind": "scheduled", "status": "ok", "scheduled_for": AT, "started_at": AT, "day": "2026-11-22",
            "ended_at": AT + timedelta(minutes=6), "worker_id": "h:1", "code_version": "1", "config_hash": "c",
        },
        "item": {"seq": 1, "payload": "{}", "ended_at": AT},
        "call": {
            "key": "a", "hash": "h", "nth": 0, "role": "editor", "model": "m", "status": "ok", "run_id": "r",
            "budget_day": "2026-11-22", "started_at": AT,
        },
        "effect": {
            "id": "e", "key": "a", "kind": "mail", "name": "m", "target": "t", "ref": "<1@x>", "run_id": "r",
            "intent_at": AT,
        },
    }.get(table.name, {})  # fmt: skip
    where = {} if table.name in {"histogram", "budget"} else {"job": "mail", "slot": "s"}
    row = common | where | values
    ledger.writing(lambda connection: connection.execute(insert(table).values(row)))
    if table.name in ("call", "item"):
        ledger.writing(lambda connection: [connection.execute(delete(each)) for each in (spend, trouble)])
        ledger.writing(fill)


async def had(ledger: Ledger, **options: Any) -> Figures:
    return await figures(ledger, SINCE, UNTIL, PARIS, **options)


async def test_a_run_that_was_found_dead_after_its_edition_is_told_in_the_next(ledger: Ledger) -> None:
    add(ledger, slot)
    add(ledger, run, id="r", status="interrupted", noted_at=UNTIL + timedelta(minutes=1))
    assert (await had(ledger)).runs == {}
    following = await figures(ledger, UNTIL, UNTIL + timedelta(hours=24), PARIS)
    assert following.runs == {"interrupted": 1}


async def test_a_night_in_numbers(ledger: Ledger) -> None:
    add(ledger, slot, ok=18, failed=1, retry=1, pending=2)
    add(ledger, run, id="r", items=20)
    add(ledger, histogram, run_id="r", bucket=bucket_of(200), n=19)
    add(ledger, item, key="b", state="failed", error_code="smtp_550")
    add(ledger, call, id="c1", cost_nano=70)
    add(ledger, call, id="c2", cost_nano=5, key="b")
    add(ledger, effect, state="unknown")
    add(ledger, budget, scope="day:2026-11-22", cap_nano=1000, settled_nano=75)
    found = await had(ledger, spooled=3)
    assert found.runs == {"ok": 1}
    assert found.items == {"pending": 2, "ok": 18, "failed": 1, "retry": 1, "skipped": 0, "unknown": 0}
    assert (found.success_rate, found.backlog, found.tasks_per_hour) == (0.9, 3, 200)
    assert (found.day_cost_nano, found.budget_nano) == (75, 1000)
    assert found.spending == Spending(cost_nano=75, wasted_nano=5, naive_nano=0, cache_share=None)
    assert found.p95_ms == pytest.approx(200, rel=0.01)
    assert found.errors == [ErrorFigure("mail", "smtp_550", 1, new=True)]
    assert (found.unknown_effects, found.spooled) == (1, 3)
    assert found.jobs is not None
    assert [(one.job, one.runs, one.success_rate, one.per_hour, one.backlog) for one in found.jobs] == [
        ("mail", 1, 0.9, 200, 3)
    ]


async def test_two_runs_of_a_slot_count_its_items_once(ledger: Ledger) -> None:
    add(ledger, slot, ok=5)
    add(ledger, run, id="r1", items=5)
    add(ledger, run, id="r2", items=1)
    found = await had(ledger)
    assert found.items is not None
    assert (found.items["ok"], found.runs) == (5, {"ok": 2})


async def test_what_ended_before_the_period_and_the_run_that_asks_are_left_out(ledger: Ledger) -> None:
    add(ledger, slot, ok=5)
    add(ledger, run, id="old", started_at=SINCE - timedelta(hours=1), ended_at=SINCE - timedelta(seconds=1))
    add(ledger, run, id="asks", status="running", ended_at=None)
    found = await had(ledger, without="asks")
    assert (found.runs, found.running, found.jobs, found.success_rate) == ({}, 0, [], None)


async def test_a_rehearsal_counts_nowhere(ledger: Ledger) -> None:
    add(ledger, slot, ok=5, rehearsal=True)
    add(ledger, run, id="r", items=5)
    add(ledger, item, key="a", state="failed")
    add(ledger, call, id="c", cost_nano=70)
    add(ledger, effect, state="unknown")
    found = await had(ledger)
    assert (found.runs, found.jobs, found.errors, found.spending, found.unknown_effects) == (
        {}, [], [], Spending(0, 0, 0, None), 0,
    )  # fmt: skip


async def test_an_empty_ledger_has_figures_too(ledger: Ledger) -> None:
    found = await had(ledger)
    assert (found.success_rate, found.p95_ms, found.budget_nano, found.usual) == (
        None,
        None,
        None,
        Usual(0, None, None, None),
    )


async def test_a_figure_that_cannot_be_had_leaves_the_others(ledger: Ledger) -> None:
    add(ledger, slot, ok=5)
    add(ledger, run, id="r", items=5)
    ledger.writing(lambda connection: connection.execute(text("DROP TABLE spend")))
    found = await had(ledger)
    assert (found.spending, found.days) == (None, None)
    assert {"spending", "days"} <= set(found.failed)
    assert found.success_rate == 1


async def test_without_any_table_every_figure_is_missing_and_nothing_is_raised(ledger: Ledger) -> None:
    metadata.drop_all(ledger.engine)
    found = await had(ledger)
    assert (found.runs, found.jobs, found.errors, found.items, found.unknown_effects) == (None,) * 5
    assert {"budget", "durations", "running"} <= set(found.failed)


async def test_a_run_over_the_edge_is_told_once_in_the_period_in_which_it_ended(ledger: Ledger) -> None:
    add(ledger, slot, ok=5)
    add(ledger, run, id="late", started_at=UNTIL - timedelta(hours=1), ended_at=UNTIL, items=5)
    add(ledger, call, id="c", run_id="late", cost_nano=70)
    assert (await had(ledger)).spending == Spending(0, 0, 0, None)
    assert (await figures(ledger, UNTIL, UNTIL + timedelta(hours=24), PARIS)).spending == Spending(70, 0, 0, None)


async def test_a_run_that_goes_on_is_named_and_left_to_the_next_edition(ledger: Ledger) -> None:
    add(ledger, slot, ok=5)
    add(ledger, run, id="going", status="running", ended_at=None)
    found = await had(ledger)
    assert (found.running, found.runs) == (1, {})


async def test_an_error_is_new_when_its_job_never_had_it_before_the_period(ledger: Ledger) -> None:
    add(ledger, slot, slot="before", failed=1)
    past = SINCE - timedelta(days=3)
    add(ledger, run, id="old", slot="before", started_at=past, ended_at=past, items=1)
    add(ledger, item, slot="before", key="a", state="failed", error_code="smtp_550", ended_at=past)
    add(ledger, slot, failed=2)
    add(ledger, run, id="r", items=2)
    add(ledger, item, key="a", state="failed", error_code="smtp_550")
    add(ledger, item, key="b", state="failed", error_code="http_404")
    assert (await had(ledger)).errors == [ErrorFigure("mail", "http_404", 1, True), ErrorFigure("mail", "smtp_550", 1)]


async def test_an_error_of_a_run_over_the_edge_is_new_in_the_edition_that_tells_it(ledger: Ledger) -> None:
    add(ledger, slot, failed=1)
    add(ledger, run, id="r", started_at=SINCE - timedelta(hours=1), ended_at=SINCE + timedelta(hours=1), items=1)
    add(ledger, item, key="a", state="failed", error_code="http_404", ended_at=SINCE - timedelta(minutes=30))
    assert (await had(ledger)).errors == [ErrorFigure("mail", "http_404", 1, True)]
    later = await figures(ledger, UNTIL, UNTIL + timedelta(hours=24), PARIS)
    assert later.errors == []


async def test_the_last_day_is_compared_with_the_median_of_the_seven_before(ledger: Ledger) -> None:
    for days, (cost, ok) in enumerate([(90, 9), (10, 10), (30, 8), (20, 10)]):
        at = AT - timedelta(days=days)
        add(ledger, slot, slot=f"s{days}", ok=ok, failed=10 - ok, scheduled_for=at)
        add(ledger, run, id=f"r{days}", slot=f"s{days}", started_at=at, ended_at=at, cost_nano=cost)
    assert (await had(ledger)).usual == Usual(90, 0.9, 20, 1.0)


async def test_each_day_is_told_by_model_with_its_cap(ledger: Ledger) -> None:
    add(ledger, slot)
    add(ledger, call, id="c1", cost_nano=7, model="big")
    add(ledger, call, id="c2", cost_nano=5, budget_day="2026-11-21", run_id="r0")
    add(ledger, budget, scope="day:2026-11-22", cap_nano=10, extra_nano=5)
    days = (await had(ledger)).days
    assert days is not None
    assert [(str(day.day), dict(day.models), day.cap_nano) for day in days[-3:]] == [
        ("2026-11-20", {}, None), ("2026-11-21", {"m": 5}, None), ("2026-11-22", {"big": 7}, 15),
    ]  # fmt: skip
    assert len(days) == 14
