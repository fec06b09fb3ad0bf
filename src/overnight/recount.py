"""Counters computed anew from the rows they count: what `overnight rebuild` does.

Counts of slots and costs of all kinds are sums of rows. What a run did is known of its items as long as no later run
of the slot has worked on one of them: of earlier runs `ok` is exact (nobody repeats what is done), the others are at
least what is left. Attempts are known for the only run of a slot. Retired slots have no items; their counts stay.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, delete, func, insert, select, update

from overnight.budget import IN_FLIGHT, counters_of
from overnight.histogram import bucket_of
from overnight.ledger import Ledger, rollups
from overnight.ledger.controls import budget
from overnight.ledger.items import SETTLED
from overnight.ledger.rollups import spend, trouble
from overnight.ledger.tables import call, histogram, item, run, slot
from overnight.outcome import STATES, Scope

# Items moved since, by how their reason begins: what they were for the run that had recorded them.
MOVED = dict.fromkeys(SETTLED, "unknown") | {"superseded by": "retry", "forgotten": "retry"}
_ENDED = tuple(state for state in STATES if state != "pending")


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that was wrong, and is right now: `what` names its row and column."""

    what: str
    was: int
    now: int


def rebuild(ledger: Ledger) -> list[Difference]:
    """Recompute everything, a slot a transaction; returns what differed."""
    found: list[Difference] = []
    for job, name in ledger.reading(_slots):
        found += ledger.writing(partial(_slot, job=job, name=name))
    return found + ledger.writing(_budgets)


def _slots(connection: Connection) -> list[tuple[str, str]]:
    return [
        (row.job, row.slot)
        for row in connection.execute(select(slot.c.job, slot.c.slot).order_by(slot.c.job, slot.c.slot))
    ]


def _slot(connection: Connection, job: str, name: str) -> list[Difference]:
    row = connection.execute(select(slot).where(slot.c.job == job, slot.c.slot == name)).mappings().one()
    costs = _costs(connection, job, name)
    wanted: dict[str, int] = {"cost_nano": sum(cost for _, _, cost in costs)}
    found: list[Difference] = []
    items: list[RowMapping] = []
    if row["retired_at"] is None:
        columns = (
            item.c.key,
            item.c.state,
            item.c.reason,
            item.c.run_id,
            item.c.attempts,
            item.c.duration_ms,
            item.c.cost_nano,
        )
        items = list(connection.execute(select(*columns).where(item.c.job == job, item.c.slot == name)).mappings())
        states = Counter(each["state"] for each in items)
        wanted |= {state: states[state] for state in STATES}
        found += _items(connection, job, name, items, costs)
        found += _troubles(connection, job, name)
    found += _spending(connection, job, name, with_waste=row["retired_at"] is None)
    found += _corrected(connection, slot, {"job": job, "slot": name}, row, wanted)
    return found + _runs(connection, row, items, costs)


def _costs(connection: Connection, job: str, name: str) -> list[tuple[str, str, int]]:
    """`(key, run_id, nano-USD)` of the calls of a slot, summed."""
    query = select(call.c.key, call.c.run_id, func.sum(call.c.cost_nano)).where(call.c.job == job, call.c.slot == name)
    return [(key, id_, int(cost)) for key, id_, cost in connection.execute(query.group_by(call.c.key, call.c.run_id))]


def _items(
    connection: Connection, job: str, name: str, items: list[RowMapping], costs: list[tuple[str, str, int]]
) -> list[Difference]:
    by_key: Counter[str] = Counter()
    for key, _, cost in costs:
        by_key[key] += cost
    found = []
    for each in items:
        same = {"job": job, "slot": name, "key": each["key"]}
        found += _corrected(connection, item, same, each, {"cost_nano": by_key[each["key"]]})
    return found


def _runs(
    connection: Connection, of: RowMapping, items: list[RowMapping], costs: list[tuple[str, str, int]]
) -> list[Difference]:
    mine = select(run).where(run.c.job == of["job"], run.c.slot == of["slot"]).order_by(run.c.started_at, run.c.id)
    rows = connection.execute(mine).mappings().all()
    by_run: dict[str | None, list[RowMapping]] = defaultdict(list)
    for each in items:
        by_run[each["run_id"]].append(each)
    working = [row["id"] for row in rows if row["id"] in by_run]
    found: list[Difference] = []
    for row in rows:
        wanted = {"cost_nano": sum(cost for _, id_, cost in costs if id_ == row["id"])}
        if of["retired_at"] is None:
            last = not working or row["id"] >= working[-1] or row["id"] == rows[-1]["id"]
            done = by_run.get(row["id"], [])
            wanted |= _did(row, done, exact=last, only=len(rows) == 1)
            found += _histogram(connection, row["id"], done) if last else []
        found += _corrected(connection, run, {"id": row["id"]}, row, wanted)
    return found


def _did(row: RowMapping, done: list[RowMapping], *, exact: bool, only: bool) -> dict[str, int]:
    states = Counter(_recorded(each) for each in done)
    wanted: dict[str, int] = {
        state: states[state] if exact or state == "ok" else max(states[state], row[state]) for state in _ENDED
    }
    wanted["items"] = sum(wanted.values())
    return wanted | ({"attempts": sum(each["attempts"] for each in done)} if only else {})


def _recorded(each: RowMapping) -> str:
    """The state in which a run recorded the item, before anybody moved it by hand."""
    reason = each["reason"] or ""
    return next((state for start, state in MOVED.items() if reason.startswith(start)), str(each["state"]))


def _spending(connection: Connection, job: str, name: str, *, with_waste: bool) -> list[Difference]:
    """What calls have cost, by run, day, role and model; of a retired slot the waste is not known any more."""
    wanted = rollups.spending_of(connection, job, name)
    mine = (spend.c.job == job, spend.c.slot == name)
    rows = {_grain(row): row for row in connection.execute(select(spend).where(*mine)).mappings()}
    found: list[Difference] = []
    for grain in sorted(wanted.keys() | rows.keys()):
        same = dict(zip(rollups.GRAIN, grain, strict=True))
        sums = wanted.get(grain, dict.fromkeys(rollups.SUMS, 0))
        if not with_waste:
            sums.pop("wasted_nano")
        if grain not in rows:
            connection.execute(insert(spend).values(job=job, slot=name, **same))
        was = rows.get(grain) or same | dict.fromkeys(rollups.SUMS, 0)
        found += _corrected(connection, spend, same, was, sums)
    return found


def _grain(row: RowMapping) -> tuple[str, ...]:
    return tuple(row[name] for name in rollups.GRAIN)


def _troubles(connection: Connection, job: str, name: str) -> list[Difference]:
    """How many items are in trouble; when a kind was first seen, and its sample, stay as they are."""
    mine = (trouble.c.job == job, trouble.c.slot == name)
    kept = connection.execute(select(trouble).where(*mine)).mappings()
    rows = {(row["error_class"], row["error_code"]): row for row in kept}
    wanted = {(row["error_class"], row["error_code"]): row for row in rollups.troubles_of(connection, job, name)}
    found: list[Difference] = []
    for kind in sorted(wanted.keys() | rows.keys()):
        same = {"job": job, "slot": name, "error_class": kind[0], "error_code": kind[1]}
        if kind in rows:
            n = wanted[kind]["n"] if kind in wanted else 0
            found += _corrected(connection, trouble, same, rows[kind], {"n": n})
        else:
            rollups.add_trouble(connection, wanted[kind], rollups.IN_SLOT, rollups.of_slot(job, name))
            found.append(Difference(f"trouble {'/'.join(same.values())} n", 0, wanted[kind]["n"]))
    return found


def _histogram(connection: Connection, run_id: str, done: list[RowMapping]) -> list[Difference]:
    rows = connection.execute(select(histogram.c.bucket, histogram.c.n).where(histogram.c.run_id == run_id))
    was = {bucket: n for bucket, n in rows if n}
    now = Counter(bucket_of(each["duration_ms"]) for each in done if _recorded(each) in ("ok", "failed"))
    if was == dict(now):
        return []
    connection.execute(delete(histogram).where(histogram.c.run_id == run_id))
    if now:
        connection.execute(insert(histogram), [{"run_id": run_id, "bucket": b, "n": n} for b, n in now.items()])
    return [Difference(f"histogram {run_id}", sum(was.values()), sum(now.values()))]


def _budgets(connection: Connection) -> list[Difference]:
    """Settled and reserved money, from the calls that are charged to each counter."""
    rows = {row["scope"]: row for row in connection.execute(select(budget)).mappings()}
    sums: dict[str, Counter[str]] = {scope: Counter() for scope in rows}
    for day, role, scope, column, cost in _charges(connection):
        for name in counters_of(scope, day, role):
            if name in sums:
                sums[name][column] += cost
    found = []
    for scope, row in rows.items():
        wanted = {column: sums[scope][column] for column in ("settled_nano", "reserved_nano")}
        found += _corrected(connection, budget, {"scope": scope}, row, wanted)
    return found


def _charges(connection: Connection) -> Iterator[tuple[str, str, Scope, str, int]]:
    c = call.c
    flying = func.coalesce(c.error_code, "") == IN_FLIGHT
    by = (c.budget_day, c.role, c.job, c.slot, c.key, flying)
    for day, role, job, name, key, reserved, cost in connection.execute(
        select(*by, func.sum(c.cost_nano)).group_by(*by)
    ):
        yield day, role, Scope(job, name, key, ""), "reserved_nano" if reserved else "settled_nano", int(cost)


def _corrected(
    connection: Connection, table: Table, same: Mapping[str, str], row: Any, wanted: Mapping[str, Any]
) -> list[Difference]:
    wrong = {name: value for name, value in wanted.items() if row[name] != value}
    if wrong:
        where = [table.c[name] == value for name, value in same.items()]
        connection.execute(update(table).where(*where).values(**wrong))
    named = f"{table.name} {'/'.join(same.values())}"
    return [Difference(f"{named} {name}", int(row[name]), int(value)) for name, value in wrong.items()]
