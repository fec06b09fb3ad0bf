"""Slots that are left: whose run died, was asked to end or never began, and what becomes of them."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from overnight.clock import token
from overnight.ledger.items import due_slots
from overnight.ledger.runs import KILLED, close_dead, deaths, held_leases, latest_run, lease_of, slot_of
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import UNSETTLED, lease, occurrence, run
from overnight.occurrences import Slot, unfinished_on
from overnight.outcome import Scope, original

BY_HAND = "ended by hand"


def given_up(connection: Connection, job: str, slot: str) -> bool:
    """Whether the job's occurrence of that slot was replaced, or cancelled by hand: nobody goes on with its run."""
    reasons = connection.execute(_REASONS, {"job": job, "slot": slot}).scalars()
    return any(reason is not None for reason in reasons)


_REASONS = select(occurrence.c.reason).where(
    occurrence.c.job == bindparam("job"), occurrence.c.slot == bindparam("slot"), occurrence.c.state == "ran"
)


def prospects(connection: Connection, job: str, slot: str) -> tuple[RowMapping | None, bool, int]:
    """Of a slot whose run died: that run, whether nobody goes on with it, and how often its process died in a row.

    One for some of the items only is not gone on with, unless it has come between an interrupted run and its rest.
    """
    newest_run = latest_run(connection, job, slot)
    if newest_run is None:
        return None, True, 0
    some = newest_run["partial"] and not unfinished_on(connection, job, slot)
    ended = not newest_run["partial"] and (newest_run["status"], newest_run["reason"]) == ("running", BY_HAND)
    return newest_run, some or ended or given_up(connection, job, slot), deaths(connection, job, slot)


def let_go(connection: Connection, job: str, slot: str, holder: tuple[str, int], now: datetime) -> None:
    """Release a slot that was given up before its run began; `holder`, host and process, has claimed it."""
    if given_up(connection, job, slot):
        give_back(connection, job, slot, holder, "given up before it began", now)


def give_back(connection: Connection, job: str, slot: str, holder: tuple[str, int], reason: str, now: datetime) -> None:
    """Release a slot whose run has not begun; while its occurrence is open, a later look goes on with it."""
    held = lease_of(connection, job, slot)
    if held is not None and held["until"] is not None and (held["host"], held["pid"]) == holder:
        close_dead(connection, held["run_id"], now, reason)


def interrupted(connection: Connection) -> list[tuple[str, str]]:
    """Slots `(job, slot)` whose run was asked to end before its items were done."""
    return [(job, slot) for job, slot in connection.execute(_INTERRUPTED)]


_INTERRUPTED = (
    select(occurrence.c.job, occurrence.c.slot)
    .join(lease, (lease.c.job == occurrence.c.job) & (lease.c.slot == occurrence.c.slot))
    .where(UNSETTLED, occurrence.c.state == "claimed", lease.c.until.is_(None))
)


def end_by_hand(connection: Connection, scope: Scope) -> None:
    """Note of a run that drains that a person has ended it: who asks a second time leaves it no time to say so."""
    mine = (run.c.id == scope.run_id, run.c.status == "running")
    connection.execute(update(run).where(*mine).values(reason=BY_HAND))


def after_interruption(connection: Connection, scope: Scope, now: datetime, *, by_hand: bool) -> None:
    """Let somebody go on with a run that was asked to end, or nobody when a person has done so `by_hand`."""
    if not by_hand:
        leave_open(connection, scope, now)
    elif not connection.execute(select(run.c.partial).where(run.c.id == scope.run_id)).scalar_one():
        leave(connection, scope.job, scope.slot, BY_HAND, now, lambda _row: False)


def leave_open(connection: Connection, scope: Scope, now: datetime) -> None:
    """Let the next one who looks go on with a run that no scheduler has begun, when its machine wanted it to end.

    Its slot gets an occurrence, as a scheduler's has. Not one for some items only, nor a rehearsal or a new edition.
    """
    of = connection.execute(select(run).where(run.c.id == scope.run_id)).mappings().one()
    if of["partial"] or of["kind"] == "sweep" or original(scope.slot) != scope.slot:
        return
    row = {"job": scope.job, "slot": scope.slot, "scheduled_for": of["scheduled_for"], "noted_at": now}
    row |= {"id": f"o_{token(8)}", "state": "claimed", "reason": None, "run_id": scope.run_id}
    if not insert_new(connection, occurrence, [row]):
        mine = (occurrence.c.job == scope.job, occurrence.c.slot == scope.slot)
        given_up = occurrence.c.state.in_(("missed", "skipped"))  # by all but who has run it
        connection.execute(update(occurrence).where(*mine, given_up).values(state="claimed", reason=None))


def undone(connection: Connection, of: RowMapping) -> int:
    """How many items a run has left that nobody takes up by himself; of a slot's newest run only."""
    newest = latest_run(connection, of["job"], of["slot"])
    over = of["status"] in ("interrupted", "stopped") and newest is not None and newest["id"] == of["id"]
    if not over or unfinished_on(connection, of["job"], of["slot"]):
        return 0
    counts = slot_of(connection, of["job"], of["slot"])
    return 0 if counts["rehearsal"] else int(counts["pending"])


def left_open(connection: Connection, now: datetime) -> tuple[Sequence[RowMapping], list[Slot], list[Slot]]:
    """Leases that are held, slots whose run was interrupted, and those with deferred items that are due."""
    return held_leases(connection), interrupted(connection), due_slots(connection, now)


def leave(
    connection: Connection,
    job: str,
    slot: str,
    reason: str,
    now: datetime,
    died: Callable[[RowMapping], bool],
    ended: str = KILLED[1],
) -> None:
    """Nobody goes on with the slot: its occurrence is over, or it would hold up what comes after it for ever.

    A run that `died` is closed with it, for the reason `ended`, so that it is reported, and told once.
    """
    mine = (occurrence.c.job == job, occurrence.c.slot == slot, occurrence.c.state == "claimed")
    connection.execute(update(occurrence).where(*mine).values(state="ran", reason=reason))
    held = lease_of(connection, job, slot)
    if held is not None and held["until"] is not None and died(held):
        close_dead(connection, held["run_id"], now, ended)
