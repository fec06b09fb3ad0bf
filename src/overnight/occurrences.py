"""Occurrences: what is due is computed from schedule and ledger; the alarm clock only says when to look.

`due` is pure. `claim` decides with one unique row who runs an occurrence, however many schedulers there are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, Protocol

from sqlalchemy import Connection, RowMapping, bindparam, func, select, update

from overnight.clock import token
from overnight.ledger.runs import Opening, lease_of, open_run, paused
from overnight.ledger.statements import insert_new, put
from overnight.ledger.tables import UNSETTLED, entry, lease, occurrence, run, slot
from overnight.triggers import Listed, read

ON_TIME = timedelta(minutes=2)  # later than this a start counts as catching up
MOST = 1000  # rows written one by one for a long absence; the rest shares one

Slot = tuple[str, str]  # job and slot
CatchUp = Literal["latest", "all", "none"]
Overlap = Literal["skip", "queue", "replace"]


class Fires(Protocol):
    """The times of a job."""

    def between(self, after: datetime, until: datetime) -> Iterable[datetime]:
        """Times with after < t <= until, ascending, UTC."""
        ...

    def slot(self, t: datetime) -> str:
        """The slot of a time."""
        ...


@dataclass(frozen=True, slots=True)
class Timed:
    """A job as the dispatcher sees it; `since` is when the entry began to count, `last` its newest occurrence."""

    job: str
    trigger: Fires
    since: datetime
    last: datetime | None
    catch_up: CatchUp
    max_age: timedelta
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one occurrence; `reason` says why it does not run.

    `made_up`: it is one of those that are all made up for, which stand in a queue and are no overlap of each other.
    """

    job: str
    scheduled_for: datetime
    slot: str
    action: Literal["run", "skipped", "missed"]
    reason: str = ""
    made_up: bool = False


def due(timed: Timed, now: datetime) -> list[Decision]:
    """Every occurrence up to now that has no row yet, each with what is to become of it. Pure.

    Nothing from before the entry counted is due, so that an edited or re-enabled entry sends no back-dated mail.
    """
    after = max(timed.since, timed.last) if timed.last else timed.since
    times = list(timed.trigger.between(after, now))
    gone, times = times[:-MOST], times[-MOST:]
    decisions = [_decide(timed, t, now, times) for t in times]
    if gone:
        reason = f"and {len(gone) - 1} earlier ones since {gone[0]:%Y-%m-%d %H:%M}Z"
        decisions.insert(0, Decision(timed.job, gone[-1], timed.trigger.slot(gone[-1]), "missed", reason))
    return decisions


def _decide(timed: Timed, t: datetime, now: datetime, times: Sequence[datetime]) -> Decision:
    slot, late, newest = timed.trigger.slot(t), now - t, times[-1]

    def not_run(action: Literal["skipped", "missed"], reason: str) -> Decision:
        return Decision(timed.job, t, slot, action, reason)

    if timed.paused is not None:
        return not_run("skipped", f"paused: {timed.paused}")
    if late > timed.max_age:
        return not_run("missed", f"nobody was there within max_age ({timed.max_age})")
    if late > ON_TIME and timed.catch_up == "none":
        return not_run("missed", "nobody was there, and catch_up is none")
    if timed.catch_up == "latest" and t != newest:
        return not_run("skipped", f"superseded by {newest:%Y-%m-%dT%H:%MZ} (catch_up: latest)")
    made_up = timed.catch_up == "all" and (late > ON_TIME or len(times) > 1)
    return Decision(timed.job, t, slot, "run", made_up=made_up)


def outdated(connection: Connection, jobs: Mapping[str, Listed], now: datetime) -> list[Decision]:
    """Note what was due by a timing that the schedule has no more, for nobody looked while it was in force.

    It is not made up for: whoever edits an entry does not want mail by the old one. Returns what is new.
    """
    found, edited = [], [row for row in _entries(connection).values() if _is_edited(row, jobs)]
    last = latest(connection, now) if edited else {}
    for row in edited:
        found += _by_old_timing(row, last.get(row["job"]), now, edited=row["job"] in jobs and jobs[row["job"]].enabled)
    return [decision for decision in found if note(connection, decision, now)]


def _is_edited(row: RowMapping, jobs: Mapping[str, Listed]) -> bool:
    new = jobs.get(row["job"], Listed("", enabled=False))
    return bool(row["enabled"] and row["timing"] and (new.hash, new.enabled) != (row["hash"], True))


def _by_old_timing(row: RowMapping, last: datetime | None, now: datetime, *, edited: bool) -> list[Decision]:
    held = (row["pause_reason"] or "no reason given") if row["paused_at"] else None
    timed = Timed(row["job"], read(row["timing"]), row["effective_since"], last, "none", timedelta(), held)
    if held is not None:
        return due(timed, now)
    what = "edited" if edited else "disabled or taken out"
    reason = f"it was due by `{row['timing']}`, and the entry was {what} before anybody looked"
    action: Literal["missed", "skipped"] = "missed" if edited else "skipped"
    return [replace(decision, action=action, reason=reason) for decision in due(timed, now)]


def register(connection: Connection, jobs: Mapping[str, Listed], now: datetime) -> dict[str, RowMapping]:
    """Note the jobs of the schedule; returns their entries.

    A job that is new, edited or enabled again counts from now on. Jobs gone from the schedule stop counting.
    """
    known = _entries(connection)
    changed = [job for job, new in jobs.items() if job not in known or new != _listed(known[job])]
    gone = [job for job, row in known.items() if job not in jobs and row["enabled"]]
    for job in changed:
        new, old = jobs[job], known.get(job)
        if old is None or old["hash"] != new.hash or (new.enabled and not old["enabled"]):
            kept = {"paused_at": old["paused_at"], "pause_reason": old["pause_reason"]} if old else {}
            put(connection, entry, {"job": job, "effective_since": now} | new._asdict() | kept)
        else:
            connection.execute(update(entry).where(entry.c.job == job).values(enabled=new.enabled, timing=new.timing))
    for job in gone:
        connection.execute(update(entry).where(entry.c.job == job).values(enabled=False))
    return _entries(connection) if changed or gone else known


def _entries(connection: Connection) -> dict[str, RowMapping]:
    return {row["job"]: row for row in connection.execute(_ENTRIES).mappings()}


def _listed(row: RowMapping) -> Listed:
    return Listed(row["hash"], row["enabled"], row["timing"])


_ENTRIES = select(entry)


def set_pause(connection: Connection, job: str, at: datetime | None, reason: str | None, now: datetime) -> None:
    """Pause a registered job, or with `at=None` end the pause: it then counts from now on, and what waited is gone."""
    values = {"paused_at": at, "pause_reason": reason} | ({} if at else {"effective_since": now})
    connection.execute(update(entry).where(entry.c.job == job).values(values))
    if at is None:
        waited = (occurrence.c.job == job, occurrence.c.state == "queued")
        why = "the job was paused while it waited"
        connection.execute(update(occurrence).where(*waited).values(state="skipped", reason=why))


def pause_listed(
    connection: Connection,
    jobs: Mapping[str, Listed],
    job: str,
    at: datetime | None,
    reason: str | None,
    now: datetime,
) -> list[Decision] | None:
    """The same for a job of the file, which no scheduler may have seen yet.

    Returns what was due until now and is not run, with its rows; None when a pause was to end and there is none, which
    changes nothing: what is due just now is to be run.
    """
    if at is None and paused(connection, job) is None:
        return None
    lost = outdated(connection, jobs, now)
    mine = register(connection, jobs, now)[job]
    if at is None:
        passed = _by_old_timing(mine, latest(connection, now).get(job), now, edited=False)
        lost += [decision for decision in passed if note(connection, decision, now)]
    set_pause(connection, job, at, reason, now)
    return lost


def latest(connection: Connection, now: datetime) -> dict[str, datetime]:
    """The newest occurrence up to now of each registered job that has one.

    What a clock that was ahead has run hides nothing that is due before.
    """
    return {job: at for job, at in connection.execute(_LATEST, {"now": now}) if at is not None}


# A seek for each job; `GROUP BY` would read every occurrence there ever was.
_last = select(func.max(occurrence.c.scheduled_for)).where(occurrence.c.job == entry.c.job)
_LATEST = select(entry.c.job, _last.where(occurrence.c.scheduled_for <= bindparam("now")).scalar_subquery())


def note(connection: Connection, decision: Decision, now: datetime) -> bool:
    """Write the row of an occurrence that does not run; False when another process already has."""
    row = _row(decision, now) | {"state": decision.action, "reason": decision.reason}
    return bool(insert_new(connection, occurrence, [row]))


@dataclass(frozen=True, slots=True)
class Claim:
    """An occurrence this process has to see through.

    `run_id` is empty while it waits in the queue, or is `skipped` for that reason.
    """

    id: str
    run_id: str = ""
    skipped: str = ""


def claim(
    connection: Connection,
    decision: Decision,
    opening: Opening,
    now: datetime,
    overlap: Overlap,
    died: Callable[[RowMapping], bool] = lambda _row: False,
) -> Claim | None:
    """Take an occurrence: its row, run and lease in this one transaction. None when it is not ours to run.

    While another slot of the job is being run, `overlap` decides: the row says `skipped`, or waits as `queued` (for
    `replace` the caller cancels the other run, which nobody goes on with then). Behind one that is queued it queues,
    too, and while a retry, say, has its own slot. `died` says of a lease that its owner is gone.
    """
    row, id_ = _row(decision, now), f"o_{token(8)}"
    row["id"] = id_
    busy = running(connection, decision.job, now, died)
    behind = any(waiting["job"] == decision.job for waiting in queued(connection))
    if busy and not behind and overlap == "skip":
        reason = f"overlap: {busy[0]['run_id']} of {busy[0]['slot']} was still going on"
        new = insert_new(connection, occurrence, [row | {"state": "skipped", "reason": reason}])
        return Claim(id_, skipped=reason) if new else None
    own = _owner(connection, decision.job, decision.slot, now, died)
    if busy or behind or own:
        why = f"waits ({overlap})" if busy or behind else f"waits for {own} of its own slot"
        new = insert_new(connection, occurrence, [row | {"state": "queued", "reason": why}])
        if new and (busy or behind) and overlap == "replace":
            _give_up(connection, decision)
        return Claim(id_) if new else None
    if not insert_new(connection, occurrence, [row | {"state": "claimed"}]):
        return None
    return Claim(id_, start(connection, id_, opening, now))


def _owner(
    connection: Connection, job: str, slot: str, now: datetime, died: Callable[[RowMapping], bool]
) -> str | None:
    """The run, of whatever kind, that somebody who lives does over this very slot."""
    held = lease_of(connection, job, slot)
    if held is None or held["until"] is None or held["until"] <= now or died(held):
        return None
    return str(held["run_id"])


def _give_up(connection: Connection, newer: Decision) -> None:
    """Nobody goes on with the job's older runs, and what waits is not run any more."""
    older = (occurrence.c.job == newer.job, occurrence.c.scheduled_for < newer.scheduled_for)
    for state, becomes in (("claimed", "ran"), ("queued", "skipped")):
        mine = update(occurrence).where(*older, occurrence.c.state == state)
        connection.execute(mine.values(state=becomes, reason=f"replaced by {newer.slot}"))


def start(connection: Connection, occurrence_id: str, opening: Opening, now: datetime) -> str:
    """Open the run of a claimed or queued occurrence, whose slot nobody has who lives; returns its id."""
    scope = open_run(connection, opening, now, locked=True)
    connection.execute(_STARTED, {"b_id": occurrence_id, "run_id": scope.run_id})
    return scope.run_id


_STARTED = update(occurrence).where(occurrence.c.id == bindparam("b_id")).values(state="claimed", reason=None)


def start_if_free(
    connection: Connection, row: RowMapping, opening: Opening, now: datetime, died: Callable[[RowMapping], bool]
) -> bool:
    """Open the run of an occurrence that is still queued, unless its slot or another one of its job is being run.

    It is the oldest of its job that waits: the one before it may have been refused for a run that has just ended.
    """
    busy = running(connection, row["job"], now, died) or _owner(connection, row["job"], row["slot"], now, died)
    first = next((each["id"] for each in queued(connection) if each["job"] == row["job"]), None)
    if busy or row["id"] != first:
        return False
    start(connection, row["id"], opening, now)
    return True


def withdraw(connection: Connection, occurrence_id: str, state: Literal["skipped", "missed"], reason: str) -> bool:
    """A queued occurrence is not run, also not when its job comes back; False when it does not wait any more."""
    mine = (occurrence.c.id == occurrence_id, occurrence.c.state == "queued")
    return connection.execute(update(occurrence).where(*mine).values(state=state, reason=reason)).rowcount > 0


def queued(connection: Connection) -> Sequence[RowMapping]:
    """Occurrences that wait for another run of their job, oldest first."""
    return connection.execute(_QUEUED).mappings().all()


_QUEUED = select(occurrence).where(UNSETTLED, occurrence.c.state == "queued").order_by(occurrence.c.scheduled_for)


def running(
    connection: Connection, job: str, now: datetime, died: Callable[[RowMapping], bool] = lambda _row: False
) -> list[RowMapping]:
    """Leases of the job's editions that somebody keeps up; sweeps, retries and rehearsals stand in nobody's way."""
    kept_up = connection.execute(_KEPT_UP, {"job": job, "now": now}).mappings()
    return [row for row in kept_up if not died(row)]


_KEPT_UP = (
    select(lease)
    .join(run, run.c.id == lease.c.run_id)
    .join(slot, (slot.c.job == lease.c.job) & (slot.c.slot == lease.c.slot))
    .where(lease.c.job == bindparam("job"), lease.c.until > bindparam("now"))
    .where(run.c.kind.in_(("scheduled", "manual", "resume")), slot.c.rehearsal.is_(False))
)


def occurrence_of(connection: Connection, occurrence_id: str) -> RowMapping | None:
    """One occurrence by its id."""
    return connection.execute(_BY_ID, {"id": occurrence_id}).mappings().one_or_none()


_BY_ID = select(occurrence).where(occurrence.c.id == bindparam("id"))


def unfinished_on(connection: Connection, job: str, slot: str) -> bool:
    """Whether the job's occurrence of that slot is still waiting or being run."""
    states = connection.execute(_STATES, {"job": job, "slot": slot}).scalars()
    return any(state in ("claimed", "queued") for state in states)


_STATES = select(occurrence.c.state).where(occurrence.c.job == bindparam("job"), occurrence.c.slot == bindparam("slot"))


def _row(decision: Decision, now: datetime) -> dict[str, object]:
    return {
        "job": decision.job, "scheduled_for": decision.scheduled_for, "slot": decision.slot, "noted_at": now,
        "id": f"o_{token(8)}", "state": "", "reason": None, "run_id": None,
    }  # fmt: skip
