"""Reports: exact money, safe text, and what each of them counts."""

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas import DataFrame
from sqlalchemy import delete, func, insert, select, update

from overnight.cells import guard, table, unguard
from overnight.histogram import bucket_of
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.tables import call, histogram, item, slot
from overnight.report import Day, Report, report
from reports.cost import cost
from reports.errors import errors
from reports.runs import runs
from reports.success_rate import success_rate
from tests.days import ALL, AT, DAY, add_calls, add_item, add_run, add_slot, count, read
from tests.slots import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(AT)


@pytest.fixture
def day(ledger: Ledger) -> Day:
    return Day(DAY, ledger)


calls = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", "once:edition"]),
            "role": st.sampled_from(["editor", "analyst"]),
            "model": st.sampled_from(["small", "=large"]),
            "job": st.sampled_from(["daily_email", "nightly_agents"]),
            "cost_nano": st.integers(min_value=0, max_value=10**15),
        }
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=calls)
def test_the_cost_report_adds_up_to_the_ledger_to_the_last_nano_dollar(
    rows: list[dict[str, Any]], ledger: Ledger, day: Day
) -> None:
    ledger.writing(lambda connection: [connection.execute(delete(each)) for each in (call, slot)])
    add_slot(ledger)
    add_slot(ledger, job="nightly_agents")
    add_calls(ledger, rows)
    booked = ledger.reading(lambda connection: connection.execute(select(func.sum(call.c.cost_nano))).scalar_one())
    written = sum(Decimal(row["cost_usd"]) for row in read(cost.table(day).csv()))
    assert written.scaleb(9) == booked


def test_money_is_written_without_an_exponent(ledger: Ledger, day: Day) -> None:
    add_slot(ledger)
    add_calls(ledger, [{"cost_nano": 30}])
    assert read(cost.table(day).csv())[0]["cost_usd"] == "0.000000030"


def test_waste_is_what_failed_items_have_cost(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, ok=2, failed=1)
    add_item(ledger, "a", "ok")
    add_item(ledger, "b", "failed")
    add_calls(ledger, [{"key": "a", "cost_nano": 5}, {"key": "b", "cost_nano": 7}, {"key": "once:x", "cost_nano": 8}])
    (row,) = read(cost.table(day).csv())
    assert (row["cost_wasted_usd"], row["cost_per_ok_item_usd"]) == ("0.000000007", "0.000000010")


def test_the_budget_of_the_day_stands_beside_the_cost(ledger: Ledger, day: Day) -> None:
    ledger.writing(
        lambda connection: connection.execute(insert(budget).values(scope="day:2026-11-22", cap_nano=10 * 10**9))
    )
    add_slot(ledger)
    add_calls(ledger, [{"cost_nano": 10**9}])
    (row,) = read(cost.table(day).csv())
    assert (row["budget_usd"], row["budget_used_pct"]) == ("10.000000000", "10")


def test_a_rehearsal_is_in_no_report(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, rehearsal=True, ok=1, failed=1)
    add_run(ledger)
    add_item(ledger, "b", "failed", error_code="smtp_550")
    add_calls(ledger, [{"cost_nano": 5}])
    assert [read(each.table(day).csv()) for each in ALL] == [[], [], [], [], []]


def test_a_report_of_an_empty_day_has_its_header(day: Day) -> None:
    assert errors.table(day).csv().decode().splitlines() == [",".join(errors.columns)]


def test_a_slot_has_a_rate_with_its_interval_and_an_empty_one_has_none(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, ok=18, failed=1, retry=1, skipped=5)
    add_slot(ledger, job="idle")
    full, idle = read(success_rate.table(day).csv())
    assert (full["items_total"], full["success_rate"], full["below_target"]) == ("25", "0.9", "true")
    assert float(full["success_rate_low95"]) == pytest.approx(0.699, abs=0.001)
    assert float(full["success_rate_high95"]) == pytest.approx(0.972, abs=0.001)
    assert (idle["success_rate"], idle["below_target"], idle["duration_p95_ms"]) == ("", "", "")


def test_an_item_that_succeeded_in_a_retry_is_counted_once_and_is_no_error(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, failed=1)
    add_run(ledger, failed=1, items=1, attempts=1)
    add_item(ledger, "a", "failed", error_class="transient", error_code="http_503", error="busy", ended_at=AT)
    assert len(read(errors.table(day).csv())) == 1
    add_run(ledger, "r_2", retry_of="r_1", kind="retry", ok=1, items=1, attempts=1)
    ledger.writing(lambda connection: connection.execute(update(slot).values(failed=0, ok=1)))
    ledger.writing(lambda connection: connection.execute(update(item).values(state="ok", error_code=None)))
    count(ledger)
    (row,) = read(success_rate.table(day).csv())
    assert (row["items_total"], row["items_ok"], row["items_failed"], row["attempts"]) == ("1", "1", "0", "2")
    assert read(errors.table(day).csv()) == []
    assert [row["retry_of"] for row in read(runs.table(day).csv())] == ["", "r_1"]


def test_durations_of_all_runs_of_a_slot_are_merged(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, ok=3)
    for run_id, duration, n in (("r_1", 100, 2), ("r_2", 9000, 1)):
        add_run(ledger, run_id)
        row = {"run_id": run_id, "bucket": bucket_of(duration), "n": n}
        ledger.writing(lambda connection, row=row: connection.execute(insert(histogram).values(row)))
    (row,) = read(success_rate.table(day).csv())
    assert int(row["duration_p50_ms"]) == pytest.approx(100, rel=0.011)
    assert int(row["duration_p99_ms"]) == pytest.approx(9000, rel=0.01)


def test_errors_are_counted_by_class_and_code_with_a_sample(ledger: Ledger, day: Day) -> None:
    add_slot(ledger, failed=3)
    for key, code in (("b", "smtp_550"), ("a", "smtp_550"), ("c", "http_404")):
        add_item(ledger, key, "failed", error_class="permanent", error_code=code, error=f"=no\nsuch {key}", ended_at=AT)
    first, second = read(errors.table(day).csv())
    assert (first["error_code"], second["error_code"]) == ("http_404", "smtp_550")
    assert (second["count"], second["sample_key"], second["sample_message"]) == ("2", "a", "'=no such a")
    assert second["first_seen"] == "2026-11-22T06:00:00.000Z"
    assert read(success_rate.table(day).csv())[0]["top_error_code"] == "smtp_550"


@pytest.mark.parametrize("address", ["ann@example.org", '"ann b"@example.org', "b+ann=x.org@site.org", "ann%40x.org"])
def test_no_address_of_a_person_is_in_a_sample(ledger: Ledger, day: Day, address: str) -> None:
    add_slot(ledger, failed=1)
    message = f"550 5.1.1 <{address}>: user unknown, see mailto:{address}"
    add_item(ledger, "b", "failed", error_class="permanent", error_code="smtp_550", error=message, ended_at=AT)
    (row,) = read(errors.table(day).csv())
    assert row["sample_message"] == "550 5.1.1 <[address]>: user unknown, see mailto:[address]"


def test_a_run_is_told_with_its_speed(ledger: Ledger, day: Day) -> None:
    add_slot(ledger)
    add_run(ledger, items=20, ok=19, failed=1, cost_nano=123)
    (row,) = read(runs.table(day).csv())
    assert (row["duration_s"], row["items_per_hour"], row["cost_usd"]) == ("90", "800", "0.000000123")
    assert row["started_at"] == "2026-11-22T06:00:00.000Z"


def test_a_run_that_ended_before_it_began_has_no_duration(ledger: Ledger, day: Day) -> None:
    add_slot(ledger)
    add_run(ledger, items=20, ended_at=AT - timedelta(minutes=5))  # the clock was set back
    (row,) = read(runs.table(day).csv())
    assert (row["duration_s"], row["items_per_hour"]) == ("", "")


@settings(max_examples=500)
@given(st.text())
def test_no_text_is_a_formula_and_each_comes_back_unchanged(value: str) -> None:
    assert not guard(value).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠"))
    assert unguard(guard(value)) == value


@settings(max_examples=300)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_any_text_survives_the_file(values: list[str]) -> None:
    content = table({"n": range(len(values)), "t": values}, {"n": "count", "t": "text"}).csv()
    back = [unguard(row["t"]) for row in sorted(read(content), key=lambda row: int(row["n"]))]
    assert back == values


@settings(max_examples=200)
@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_money_comes_back_exactly(nano: int) -> None:
    (row,) = read(table({"m": [nano], "t": ["x"]}, {"m": "money", "t": "text"}).csv())
    assert Decimal(row["m"]).scaleb(9) == nano
    assert "E" not in row["m"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("money", 0.5), ("money", Decimal("0.5")), ("ratio", math.nan), ("ratio", math.inf), ("count", 1.5),
        ("count", math.nan), ("instant", datetime(2026, 11, 22)), ("instant", "yesterday"), ("date", "22.11."),  # noqa: DTZ001
        ("money", math.nan), ("count", math.inf),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_column(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="column 'x'"):
        table({"x": [value]}, {"x": kind})


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="lacks the column 'b'"):
        table({"a": [1]}, {"a": "count", "b": "count"})


def test_rows_are_sorted_by_what_is_written() -> None:
    one, other = {"a": ["y", "x"], "b": [1, 2]}, {"a": ["x", "y"], "b": [2, 1]}
    assert (
        table(one, {"a": "text", "b": "count"}).csv()
        == table(other, {"a": "text", "b": "count"}).csv()
        == b"a,b\nx,2\ny,1\n"
    )


def test_declaring_a_report_leaves_its_function_callable(day: Day) -> None:
    @report({"n": "count"})
    def small(day: Day) -> DataFrame:
        return day.query("SELECT :wanted AS n", wanted=3)

    assert isinstance(small, Report)
    assert small.name == "small"
    assert list(small(day)["n"]) == [3]


async def later(day: Day) -> DataFrame:
    return day.query("SELECT 1 AS n")


@pytest.mark.parametrize(
    ("columns", "fn", "said"),
    [
        ({"n": "counts"}, len, "kinds are text, count, money"),
        (len, len, "name the columns and their kinds"),
        ({"n": "count"}, later, "a report is a plain `def`"),
    ],
)
def test_a_report_that_cannot_be_is_refused_where_it_is_declared(columns: Any, fn: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        report(columns)(fn)
