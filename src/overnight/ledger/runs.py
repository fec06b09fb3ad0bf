"""Queries about runs: open one, keep its lease, close it, find those that died."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    union,
    update,
)

from overnight.clock import token
from overnight.errors import Refused
from overnight.ledger.items import hold
from overnight.ledger.rollups import spend
from overnight.ledger.statements import insert_new, put
from overnight.ledger.tables import effect, entry, item, lease, meta, occurrence, run, slot
from overnight.outcome import RunStatus, Scope

LEASE = timedelta(seconds=60)
_NEWEST = (run.c.started_at.desc(), run.c.id.desc())
OWED = "reports:"  # in `meta`, before a day whose reports are to be made
KILLED = ("interrupted", "its process died")


@dataclass(frozen=True, slots=True)
class Opening:
    """A run that wants to start. `day` values are local dates; times are UTC."""

    job: str
    slot: str
    kind: str
    scheduled_for: datetime
    slot_day: str
    day: str
    host: str
    pid: int
    code_version: str
    config_hash: str
    retry_of: str | None = None
    rehearsal: bool = False
    partial: bool = False
    run_id: str = ""

    @property
    def worker_id(self) -> str:
        """`host:pid`."""
        return f"{self.host}:{self.pid}"


def new_run_id(now: datetime) -> str:
    """`r_` + time + chance: sorts by start."""
    return f"r_{now:%Y%m%d%H%M%S}{token(4)}"


def open_run(connection: Connection, opening: Opening, now: datetime, *, locked: bool) -> Scope:
    """Insert slot, run and lease in this one transaction; older runs of the slot still marked running were killed.

    `locked` says that the caller holds the slot's file lock, or has looked, so a lease of this same host is a dead
    process's.
    Raises Refused while a process on another host holds the lease.
    """
    run_id = opening.run_id or new_run_id(now)
    insert_new(
        connection,
        slot,
        [
            {
                "job": opening.job, "slot": opening.slot, "day": opening.slot_day, "rehearsal": opening.rehearsal,
                "scheduled_for": opening.scheduled_for, "created_at": now,
            }
        ],
    )  # fmt: skip
    held = lease_of(connection, opening.job, opening.slot)
    fence = _take(connection, opening, held, run_id, now, locked=locked)
    gone = {"b_job": opening.job, "b_slot": opening.slot, "b_id": run_id}
    connection.execute(_KILL, gone | {"b_ended": _last_sign(held, now), "b_now": now})
    put(
        connection,
        run,
        {
            "id": run_id, "job": opening.job, "slot": opening.slot, "kind": opening.kind, "status": "running",
            "retry_of": opening.retry_of, "scheduled_for": opening.scheduled_for, "started_at": now,
            "day": opening.day, "worker_id": opening.worker_id, "code_version": opening.code_version,
            "config_hash": opening.config_hash, "partial": opening.partial,
        },
    )  # fmt: skip
    return Scope(opening.job, opening.slot, "", run_id, fence, opening.worker_id)


_KILL = (
    update(run)
    .where(run.c.job == bindparam("b_job"), run.c.slot == bindparam("b_slot"))
    .where(run.c.status == "running", run.c.id != bindparam("b_id"))
    .values(status=KILLED[0], reason=KILLED[1], ended_at=bindparam("b_ended"), noted_at=bindparam("b_now"))
)


def _last_sign(held: RowMapping | None, now: datetime) -> datetime:
    """When a process that is gone was last there: it renewed its lease then."""
    until: datetime | None = None if held is None else held["until"]
    return now if until is None else min(now, until - LEASE)


def _take(
    connection: Connection, opening: Opening, held: RowMapping | None, run_id: str, now: datetime, *, locked: bool
) -> int:
    values = {"run_id": run_id, "host": opening.host, "pid": opening.pid, "until": now + LEASE}
    if held is None:
        connection.execute(_FIRST, {"job": opening.job, "slot": opening.slot, "fence": 1, **values})
        return 1
    if _alive(held, opening, run_id, now, locked=locked):
        raise Refused(
            f"{opening.job} {opening.slot} is being run by process {held['pid']} on {held['host']} ({held['run_id']}); "
            "wait for it, or `overnight cancel` it"
        )
    fence = int(held["fence"]) + 1
    connection.execute(_TAKE, {"b_job": opening.job, "b_slot": opening.slot, "fence": fence, **values})
    return fence


_FIRST = insert(lease)
_TAKE = update(lease).where(lease.c.job == bindparam("b_job"), lease.c.slot == bindparam("b_slot"))


def _alive(held: RowMapping, opening: Opening, run_id: str, now: datetime, *, locked: bool) -> bool:
    if held["until"] is None or held["run_id"] == run_id or held["until"] <= now:
        return False
    return not (locked and held["host"] == opening.host)


def renew(connection: Connection, scope: Scope, now: datetime) -> None:
    """Keep the lease for another minute. Raises Fenced when it is no longer ours."""
    hold(connection, scope)
    connection.execute(_HOLD_UNTIL, {"b_job": scope.job, "b_slot": scope.slot, "b_until": now + LEASE})


_HOLD_UNTIL = (
    update(lease)
    .where(lease.c.job == bindparam("b_job"), lease.c.slot == bindparam("b_slot"))
    .values(until=bindparam("b_until"))
)


def close_run(connection: Connection, scope: Scope, status: RunStatus, reason: str | None, now: datetime) -> None:
    """Set the run's status, release the lease, and mark the slot's occurrence as `ran`. Raises Fenced.

    That of an interrupted run stays `claimed`: the next scheduler goes on with it. A run for some of the items only
    leaves it as it is: whether there is more to do it does not know.
    """
    hold(connection, scope)
    _end(connection, scope.job, scope.slot, scope.run_id, {"status": status, "reason": reason, "ended_at": now})
    connection.execute(_HOLD_UNTIL, {"b_job": scope.job, "b_slot": scope.slot, "b_until": None})
    if status != "interrupted":
        connection.execute(_RAN, {"b_job": scope.job, "b_slot": scope.slot, "b_id": scope.run_id})


def close_dead(connection: Connection, run_id: str, now: datetime, reason: str = KILLED[1]) -> None:
    """Close a run whose process is gone, or never was: its slot is free, and its reports are owed.

    Should the process only have been frozen, the fence refuses what it writes.
    """
    row = connection.execute(select(run).where(run.c.id == run_id)).mappings().one()
    held = lease_of(connection, row["job"], row["slot"])
    own = held if held is not None and held["run_id"] == run_id else None
    if own is not None:
        let_go = update(lease).where(lease.c.job == row["job"], lease.c.slot == row["slot"])
        connection.execute(let_go.values(until=None, fence=lease.c.fence + 1))
    if row["status"] == "running":
        died = {"status": KILLED[0], "reason": reason, "ended_at": _last_sign(own, now), "noted_at": now}
        _end(connection, row["job"], row["slot"], run_id, died)


def _end(connection: Connection, job: str, name: str, run_id: str, ended: dict[str, Any]) -> None:
    counts = slot_of(connection, job, name)
    connection.execute(_END, {"b_id": run_id, "backlog": counts["pending"] + counts["retry"], **ended})
    if not counts["rehearsal"]:
        owe_reports(connection, days_of(connection, job, name))


_END = update(run).where(run.c.id == bindparam("b_id"))
_RAN = (
    update(occurrence)
    .where(occurrence.c.job == bindparam("b_job"), occurrence.c.slot == bindparam("b_slot"))
    .where(occurrence.c.state == "claimed")
    .where(select(run.c.id).where(run.c.id == bindparam("b_id"), run.c.partial.is_(False)).exists())
    .values(state="ran")
)


def owe_reports(connection: Connection, days: Iterable[str]) -> None:
    """Note that the reports of these days (`2026-11-22`) are to be made anew: whoever closed a run may yet die."""
    for day in sorted(set(days)):
        put(connection, meta, {"name": f"{OWED}{day}", "value": token(4)})


def owed_reports(connection: Connection) -> dict[str, str]:
    """The days whose reports are to be made, each with a mark that changes when it is owed once more."""
    return {name.removeprefix(OWED): mark for name, mark in connection.execute(_OWED)}


_OWED = select(meta.c.name, meta.c.value).where(meta.c.name.startswith(OWED)).order_by(meta.c.name)


def reports_made(connection: Connection, owed: Mapping[str, str]) -> None:
    """Cross out days as they were owed; what has been owed since then stays."""
    for day, mark in owed.items():
        connection.execute(_MADE, {"name": f"{OWED}{day}", "mark": mark})


_MADE = delete(meta).where(meta.c.name == bindparam("name"), meta.c.value == bindparam("mark"))


def days_of(connection: Connection, job: str, name: str) -> set[str]:
    """The days in whose reports a slot appears: its own, those of its runs, and the budget days of its calls."""
    return set(connection.execute(_DAYS, {"job": job, "slot": name}).scalars())


def slot_of(connection: Connection, job: str, name: str) -> RowMapping:
    """The slot's row."""
    return connection.execute(_SLOT, {"job": job, "slot": name}).mappings().one()


def find_slot(connection: Connection, job: str, name: str) -> RowMapping | None:
    """The slot's row, if it was ever run."""
    return connection.execute(_SLOT, {"job": job, "slot": name}).mappings().one_or_none()


def _of(table: FromClause) -> ColumnElement[bool]:
    return and_(table.c.job == bindparam("job"), table.c.slot == bindparam("slot"))


_SLOT = select(slot).where(_of(slot))
_LEASE = select(lease).where(_of(lease))
_DAYS = union(
    select(slot.c.day).where(_of(slot)), select(run.c.day).where(_of(run)), select(spend.c.budget_day).where(_of(spend))
)


def next_seq(connection: Connection, scope: Scope) -> int:
    """The place of the next item: behind all that are planned, so that nobody who reads in order misses it."""
    last = connection.execute(_LAST_SEQ, {"job": scope.job, "slot": scope.slot}).scalar_one()
    return 0 if last is None else int(last) + 1


_LAST_SEQ = select(func.max(item.c.seq)).where(item.c.job == bindparam("job"), item.c.slot == bindparam("slot"))


def runs_like(connection: Connection, run_id: str, limit: int = 4) -> Sequence[RowMapping]:
    """The runs whose ids start with `run_id`, the newest first."""
    mine = run.c.id.startswith(run_id, autoescape=True)
    return connection.execute(select(run).where(mine).order_by(*_NEWEST).limit(limit)).mappings().all()


def latest_run(connection: Connection, job: str, name: str | None = None, *, worked: bool = False) -> RowMapping | None:
    """The newest run of one slot of a job, or of all but its rehearsals; with `worked` of those that had an item."""
    query = select(run).where(run.c.job == job).order_by(*_NEWEST).limit(1)
    if name is None:
        real = (slot.c.job == run.c.job) & (slot.c.slot == run.c.slot) & slot.c.rehearsal.is_(False)
        query = query.join(slot, real)
    else:
        query = query.where(run.c.slot == name)
    if worked:
        query = query.where(run.c["items"] > 0)
    return connection.execute(query).mappings().one_or_none()


def recent_runs(
    connection: Connection, *, job: str | None = None, status: str | None = None, limit: int = 20
) -> Sequence[RowMapping]:
    """The newest runs first."""
    query = select(run).order_by(*_NEWEST).limit(limit)
    if job:
        query = query.where(run.c.job == job)
    if status:
        query = query.where(run.c.status == status)
    return connection.execute(query).mappings().all()


def under_way(connection: Connection) -> Sequence[RowMapping]:
    """Runs marked as running, of which some may have died."""
    return connection.execute(select(run).where(run.c.status == "running")).mappings().all()


def lease_of(connection: Connection, job: str, name: str) -> RowMapping | None:
    """Who has, or had, the slot."""
    return connection.execute(_LEASE, {"job": job, "slot": name}).mappings().one_or_none()


def held_leases(connection: Connection) -> Sequence[RowMapping]:
    """Leases not released: of runs that go on, or that died."""
    return connection.execute(_HELD).mappings().all()


_HELD = select(lease).where(lease.c.until.is_not(None))


def previous_slot(connection: Connection, job: str, scheduled_for: datetime) -> datetime | None:
    """When the job's newest real slot before this one was due."""
    found: datetime | None = connection.execute(_PREVIOUS, {"job": job, "before": scheduled_for}).scalar_one_or_none()
    return found


_PREVIOUS = (
    select(slot.c.scheduled_for)
    .where(slot.c.job == bindparam("job"), slot.c.scheduled_for < bindparam("before"), slot.c.rehearsal.is_(False))
    .order_by(slot.c.scheduled_for.desc())
    .limit(1)
)


def deaths(connection: Connection, job: str, name: str) -> int:
    """How many of the slot's newest runs in a row were killed; one still marked as running is taken to be."""
    rows = connection.execute(
        select(run.c.status, run.c.reason)
        .where(run.c.job == job, run.c.slot == name)
        .order_by(run.c.started_at.desc(), run.c.id.desc())
        .limit(10)
    )
    killed = takewhile(lambda row: row.status == "running" or (row.status, row.reason) == KILLED, rows)
    return len(list(killed))


def effects_of(
    connection: Connection, job: str, name: str, states: Sequence[str] = (), *, key: str | None = None
) -> Sequence[RowMapping]:
    """Side effects of a slot, all or those in the given states; with `key` those of one item."""
    query = select(effect).where(effect.c.job == job, effect.c.slot == name).order_by(effect.c.intent_at)
    query = query if key is None else query.where(effect.c.key == key)
    if states:
        query = query.where(effect.c.state.in_(list(states)))
    return connection.execute(query).mappings().all()


def mails_of(connection: Connection, scope: Scope) -> int:
    """How many mails a run has handed over."""
    values = {"job": scope.job, "slot": scope.slot, "run_id": scope.run_id}
    return int(connection.execute(_MAILS, values).scalar_one())


_MAILS = (
    select(func.count())
    .select_from(effect)
    .where(_of(effect), effect.c.run_id == bindparam("run_id"), effect.c.kind == "mail", effect.c.state == "done")
)


def item_of(connection: Connection, job: str, name: str, key: str) -> RowMapping | None:
    """One item with everything that is known of it."""
    query = select(item).where(item.c.job == job, item.c.slot == name, item.c.key == key)
    return connection.execute(query).mappings().one_or_none()


_PAUSED = select(entry.c.paused_at, entry.c.pause_reason).where(entry.c.job == bindparam("job"))


def paused(connection: Connection, job: str) -> str | None:
    """Why the job is paused; None when it is not."""
    row = connection.execute(_PAUSED, {"job": job}).one_or_none()
    return None if row is None or row.paused_at is None else (row.pause_reason or "no reason given")
