"""The reports of a large day, made from what was added up as it happened, and by plain pandas from its rows.

`python bench/day.py fill FOLDER COUNT` records a day of so many items, a call for every tenth, by the functions
that the writer calls; `ours FOLDER` makes the reports, `pandas FOLDER` the figures of the same four tables from items
and calls. Each prints one JSON document; `cost_nano` and `failed` are what both have to agree on.
"""

import sqlite3
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from figures import told

from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.journal import Ended, Sent, begin, book
from overnight.ledger.runs import Opening, close_run, open_run
from overnight.outcome import Outcome, Scope
from overnight.pricing import Usage

ROOT = Path(__file__).parents[1]
DAY = date(2026, 11, 22)
DUE = datetime(2026, 11, 22, 6, tzinfo=UTC)
CHUNK = 5_000
ROWS = (
    "SELECT job, slot, key, state, error_class, error_code, error, attempts, duration_ms, ended_at FROM item",
    "SELECT job, slot, key, role, model, input_tokens, output_tokens, cost_nano FROM call",
)
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5")


def ledger_of(folder: Path) -> Ledger:
    return Ledger.open("sqlite:///ledger.db", root=folder)


def fill(folder: Path, count: int) -> None:
    ledger = ledger_of(folder)
    opening = Opening("digest", str(DAY), "scheduled", DUE, str(DAY), str(DAY), "here", 1, "1", "c")
    scope = ledger.writing(lambda c: open_run(c, opening, DUE, locked=True))
    for start in range(0, count, CHUNK):
        numbers = range(start, min(start + CHUNK, count))
        ledger.writing(lambda c, n=numbers: plan(c, scope, [(at, f"s_{at}", "{}") for at in n]))
        asked = [sent_of(scope, at) for at in numbers if at % 10 == 0]
        ledger.writing(lambda c, calls=asked: begin(c, [(sent, str(DAY)) for sent in calls]))
        ledger.writing(lambda c, calls=asked: book(c, [(sent, ended(at)) for at, sent in enumerate(calls)]))
        ledger.writing(lambda c, n=numbers: record(c, [outcome(scope, at) for at in n]))
    ledger.writing(lambda c: planned(c, scope, DUE))
    ledger.writing(lambda c: close_run(c, scope, "partial", None, DUE + timedelta(hours=2)))
    ledger.close()


def sent_of(scope: Scope, at: int) -> Sent:
    return Sent(f"c_{at}", replace(scope, key=f"s_{at}"), "h", "editor", MODELS[at % 3 == 0], 10_000, DUE)


def ended(at: int) -> Ended:
    return Ended("ok", 1_000 + at % 997, 400, Usage(300, 40, 900), naive_nano=5_000)


def outcome(scope: Scope, at: int) -> Recorded:
    """One in fifty fails, with one of seven codes."""
    took, when = 50 + at * 7919 % 4_000, DUE + timedelta(milliseconds=7 * at)
    if at % 50:
        return Recorded(scope, "pending", Outcome(f"s_{at}", "ok", duration_ms=took), when)
    code, error = f"smtp_55{at % 7}", f"mailbox {at} is not available"
    failed = Outcome(f"s_{at}", "failed", None, None, "permanent", code, error, duration_ms=took)
    return Recorded(scope, "pending", failed, when)


def ours(folder: Path) -> None:
    started = time.perf_counter()
    sys.path.insert(0, str(ROOT))
    from overnight.report import Day  # noqa: PLC0415  is measured
    from reports.cost import cost  # noqa: PLC0415  is measured
    from reports.errors import errors  # noqa: PLC0415  is measured
    from reports.items import items  # noqa: PLC0415  is measured
    from reports.runs import runs  # noqa: PLC0415  is measured
    from reports.success_rate import success_rate  # noqa: PLC0415  is measured

    ledger = ledger_of(folder)
    day = Day(DAY, ledger)
    made = {each.name: each.table(day) for each in (cost, errors, runs, success_rate)}
    bytes_ = sum(len(table.csv()) for table in made.values())
    four = time.perf_counter() - started
    listed = len(items.table(day).csv())
    failed = sum(int(row["count"]) for row in made["errors"].readable())
    dollars = sum(Decimal(row["cost_usd"]) for row in made["cost"].readable())
    ledger.close()
    five = time.perf_counter() - started
    told(four, all_five=five, bytes=bytes_ + listed, failed=failed, cost_nano=int(dollars * 10**9))


def plain(folder: Path) -> None:
    """What one would write without rollups: read the rows, group them."""
    started = time.perf_counter()
    import pandas as pd  # noqa: PLC0415  is measured

    with sqlite3.connect(folder / "ledger.db") as connection:
        items, calls = (pd.read_sql_query(query, connection) for query in ROWS)
    slots = items.groupby(["job", "slot"])
    slots["state"].value_counts()
    slots["duration_ms"].quantile([0.5, 0.95, 0.99])
    slots["attempts"].sum()
    bad = items[items["state"].isin(["failed", "retry", "unknown"])]
    kinds = bad.groupby(["job", "slot", "error_class", "error_code"])
    times = {"first": ("ended_at", "min"), "last": ("ended_at", "max"), "sample": ("error", "first")}
    errors = kinds.agg(n=("key", "count"), **times)
    joined = calls.merge(items[["job", "slot", "key", "state"]], on=["job", "slot", "key"], how="left")
    joined["wasted"] = joined["cost_nano"].where(joined["state"] == "failed", 0)
    sums = ["input_tokens", "output_tokens", "cost_nano", "wasted"]
    cost = joined.groupby(["job", "slot", "role", "model"])[sums].sum()
    took = time.perf_counter() - started
    told(took, failed=int(errors["n"].sum()), cost_nano=int(cost["cost_nano"].sum()))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "fill":
        began = time.perf_counter()
        fill(where, int(sys.argv[3]))
        told(time.perf_counter() - began)
    else:
        {"ours": ours, "pandas": plain}[what](where)
