"""What a day's reports need, added up when it happens: reports cost by run and model, not by item.

    spend      what calls have cost, by run, budget day, role and model
    trouble    how many items of a slot stand as failed, retry or unknown, by what went wrong

They move in the transaction of the call or the outcome, so they are at all times the sums of their rows; `rebuild`
computes them anew. An item that a retry makes ok leaves both the errors and the waste again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from overnight.ledger.statements import Prepared, Values
from overnight.ledger.tables import Instant, call, item, metadata, slot

OPEN_TROUBLE = ("failed", "retry", "unknown")
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
SUMS = ("calls", *TOKENS, "cost_nano", "naive_nano", "wasted_nano")
GRAIN = ("run_id", "budget_day", "role", "model")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


# `wasted_nano` is the part of `cost_nano` that went into items which stand as failed.
spend = Table(
    "spend",
    metadata,
    Column("run_id", String(40), primary_key=True),
    Column("budget_day", String(10), primary_key=True),
    Column("role", String(64), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("job", String(128), nullable=False),
    Column("slot", String(64), nullable=False),
    *(_count(name) for name in SUMS),
    Index("spend_by_day", "budget_day"),
    Index("spend_by_slot", "job", "slot"),
    sqlite_with_rowid=False,
)

# `first_at`, `last_at` and the sample are of all items that ever ended so in this slot; `n` is of those that still do.
trouble = Table(
    "trouble",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("error_class", String(16), primary_key=True),  # empty where there is none
    Column("error_code", String(64), primary_key=True),
    _count("n"),
    Column("first_at", Instant),
    Column("last_at", Instant),
    Column("sample_key", String(255)),
    Column("sample", Text),
    Index("trouble_by_code", "job", "error_code"),
    sqlite_with_rowid=False,
)

# Few items are in trouble: reports and people look for these among a million that are not.
IN_TROUBLE = text("state IN ('failed', 'retry', 'unknown')")
item_in_trouble = Index(
    "item_in_trouble",
    item.c.job,
    item.c.slot,
    item.c.key,
    sqlite_where=IN_TROUBLE,
    postgresql_where=IN_TROUBLE,
)


@dataclass(frozen=True, slots=True)
class Move:
    """By how much the sums of one call change; money is nano-USD."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cost_nano: int = 0
    naive_nano: int = 0


_MOVED = tuple(each.name for each in fields(Move))
_ITEM_OF_CALL = and_(item.c.job == call.c.job, item.c.slot == call.c.slot, item.c.key == call.c.key)


def _spending(dialect_insert: Any) -> Any:
    """Add to the row of a call's run, day, role and model; of an item that stands as failed it is waste at once."""
    amounts: list[Any] = [bindparam(f"v_{name}", type_=BigInteger) for name in _MOVED]
    failed: Any = literal_column("'failed'")  # a prepared statement has no other values
    wasted = case((item.c.state == failed, bindparam("v_wasted_nano", type_=BigInteger)), else_=literal_column("0"))
    row = select(*(call.c[name] for name in (*GRAIN, "job", "slot")), *amounts, wasted).select_from(
        call.outerjoin(item, _ITEM_OF_CALL)
    )
    new = dialect_insert(spend).from_select([*GRAIN, "job", "slot", *SUMS], row.where(call.c.id == bindparam("b_id")))
    return new.on_conflict_do_update(
        index_elements=list(spend.primary_key), set_={name: spend.c[name] + new.excluded[name] for name in SUMS}
    )


_spend = Prepared(_spending)


def spent(connection: Connection, moves: Collection[tuple[str, Move]]) -> None:
    """Move the sums of calls `(id, by how much)`, whose rows are there."""
    _spend.many(connection, [_moved(call_id, move) for call_id, move in moves])


def _moved(call_id: str, move: Move) -> dict[str, Any]:
    values: dict[str, Any] = {f"v_{name}": getattr(move, name) for name in _MOVED}
    return values | {"v_wasted_nano": move.cost_nano, "b_id": call_id}


_CLASS, _CODE = func.coalesce(item.c.error_class, ""), func.coalesce(item.c.error_code, "")
_KIND = (item.c.job, item.c.slot, _CLASS, _CODE)
_GRAIN = tuple(call.c[name] for name in GRAIN)


class Some:
    """Items of which some conditions hold; their parameters (`w_…`) are given each time, the statements made once."""

    def __init__(self, *which: ColumnElement[bool]) -> None:
        open_ = (*which, or_(*(item.c.state == state for state in OPEN_TROUBLE)))
        seen = (func.min(item.c.ended_at).label("first_at"), func.max(item.c.ended_at).label("last_at"))
        named = (_CLASS.label("error_class"), _CODE.label("error_code"), func.count().label("n"))
        self.troubles = select(item.c.job, item.c.slot, *named, *seen).where(*open_).group_by(*_KIND)
        same = (column == bindparam(f"b_{name}") for name, column in zip(_OF_TROUBLE, _KIND, strict=True))
        self.sample = select(item.c.key, item.c.error).where(*open_, *same).order_by(item.c.key).limit(1)
        self.waste = (
            select(*_GRAIN, func.sum(call.c.cost_nano).label("nano"))
            .join(item, _ITEM_OF_CALL)
            .where(*which, item.c.state == "failed", item.c.cost_nano != 0)
            .group_by(*_GRAIN)
        )


_OF_TROUBLE = ("job", "slot", "error_class", "error_code")
_SLOT = (item.c.job == bindparam("w_job"), item.c.slot == bindparam("w_slot"))
IN_SLOT = Some(*_SLOT)
IN_STATE = Some(*_SLOT, item.c.state == bindparam("w_state"))
BY_KEY = Some(*_SLOT, item.c.key.in_(bindparam("w_keys", expanding=True)))
OF_KEY = Some(item.c.key == bindparam("w_key"), item.c.state == bindparam("w_state"))  # in whatever slot


def left(connection: Connection, some: Some, values: Values) -> None:
    """Take items out of the sums, before they are moved to another state."""
    for row in _troubles(connection, some, values):
        connection.execute(_LESS, _same(row) | {"v_n": row["n"]})
    _waste(connection, some, values, -1)


def entered(connection: Connection, some: Some, values: Values) -> None:
    """Count items as they stand now, after they were moved."""
    for row in _troubles(connection, some, values):
        add_trouble(connection, row, some, values)
    _waste(connection, some, values, 1)


def add_trouble(connection: Connection, row: Mapping[str, Any], some: Some, values: Values) -> None:
    """Add a row of `troubles` to the table; the first one of its kind brings a sample of the items it is about."""
    same = _same(row)
    found = connection.execute(_SEEN, same).first()
    if found is None:
        key, message = connection.execute(some.sample, {**values, **same}).one()
        connection.execute(insert(trouble), {**row, "sample_key": key, "sample": message})
        return
    first = min(filter(None, (row["first_at"], found.first_at)), default=None)
    last = max(filter(None, (row["last_at"], found.last_at)), default=None)
    connection.execute(_MORE, same | {"v_n": row["n"], "v_first_at": first, "v_last_at": last})


def _same(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"b_{name}": row[name] for name in _OF_TROUBLE}


_THIS = tuple(trouble.c[name] == bindparam(f"b_{name}") for name in _OF_TROUBLE)
_SEEN = select(trouble.c.first_at, trouble.c.last_at).where(*_THIS)
_LESS = update(trouble).where(*_THIS).values(n=trouble.c.n - bindparam("v_n"))
_MORE = (
    update(trouble)
    .where(*_THIS)
    .values(n=trouble.c.n + bindparam("v_n"), first_at=bindparam("v_first_at"), last_at=bindparam("v_last_at"))
)


def _troubles(connection: Connection, some: Some, values: Values) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(some.troubles, values).mappings()]


def _waste(connection: Connection, some: Some, values: Values, sign: int) -> None:
    """Move what the calls of failed items have cost into the waste, or out of it."""
    for row in connection.execute(some.waste, values).mappings().all():
        grain = {f"b_{name}": row[name] for name in GRAIN}
        connection.execute(_WASTED, grain | {"v_nano": sign * int(row["nano"])})


_WASTED = (
    update(spend)
    .where(*(spend.c[name] == bindparam(f"b_{name}") for name in GRAIN))
    .values(wasted_nano=spend.c.wasted_nano + bindparam("v_nano"))
)


def spending_of(connection: Connection, job: str, name: str) -> dict[tuple[str, ...], dict[str, int]]:
    """The sums of a slot's calls, counted anew, by `(run_id, budget_day, role, model)`."""
    wasted = case((item.c.state == "failed", call.c.cost_nano), else_=0)
    sums: list[Any] = [func.sum(call.c[each]).label(each) for each in (*TOKENS, "cost_nano")]
    naive = func.coalesce(func.sum(call.c.naive_nano), 0).label("naive_nano")
    query = (
        select(*(call.c[each] for each in GRAIN), func.count().label("calls"), *sums, naive)
        .add_columns(func.sum(wasted).label("wasted_nano"))
        .select_from(call.outerjoin(item, _ITEM_OF_CALL))
        .where(call.c.job == job, call.c.slot == name)
        .group_by(*(call.c[each] for each in GRAIN))
    )
    rows = connection.execute(query).mappings()
    return {tuple(row[each] for each in GRAIN): {each: int(row[each]) for each in SUMS} for row in rows}


def troubles_of(connection: Connection, job: str, name: str) -> list[dict[str, Any]]:
    """The items of a slot that are in trouble, counted anew by class and code: rows for `add_trouble`."""
    return _troubles(connection, IN_SLOT, of_slot(job, name))


def of_slot(job: str, name: str) -> dict[str, Any]:
    """The values of `IN_SLOT`, and some of those of `IN_STATE` and `BY_KEY`."""
    return {"w_job": job, "w_slot": name}


def in_slot(job: str, name: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `item`: those of a slot."""
    return item.c.job == job, item.c.slot == name


def fill(connection: Connection) -> None:
    """Count what a ledger holds from before there were these tables."""
    for job, name in connection.execute(select(slot.c.job, slot.c.slot)).all():
        for grain, sums in spending_of(connection, job, name).items():
            row = dict(zip(GRAIN, grain, strict=True))
            connection.execute(insert(spend).values(job=job, slot=name, **row, **sums))
        for row in troubles_of(connection, job, name):
            add_trouble(connection, row, IN_SLOT, of_slot(job, name))
