"""What was noted while the clock was ahead, once it is right again: undone where nothing has happened yet."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, select, update

from overnight.clock import iso
from overnight.ledger.tables import entry, occurrence

BY = timedelta(minutes=5)  # the clocks of two machines differ by less


def righted(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """Have jobs count from now on that counted from later, and decide anew what was decided ahead of time.

    Only what was left out or still waits: what was run stays so. Returns jobs, each with what is to be told.
    """
    told = []
    for row in connection.execute(_NEWEST).mappings().all():
        told += [(row["job"], what) for what in (_counting(connection, row, now), _anew(connection, row, now)) if what]
    return told


def _counting(connection: Connection, row: RowMapping, now: datetime) -> str:
    since = row["effective_since"]
    if since <= now:
        return ""
    connection.execute(update(entry).where(entry.c.job == row["job"]).values(effective_since=now))
    return f"it counted only from {iso(since)} on, and does so from now on" if since > now + BY else ""


def _anew(connection: Connection, row: RowMapping, now: datetime) -> str:
    if row["noted_at"] is None or row["noted_at"] <= now + BY:
        return ""
    undone = connection.execute(_UNDO, {"b_job": row["job"], "b_at": now + BY}).rowcount
    return f"what was left out then is decided anew ({undone})" if undone else ""


def run_ahead(connection: Connection, now: datetime) -> dict[str, str]:
    """By job: the slot that was run at a time which is still to come, if there is one."""
    rows = connection.execute(_NEWEST)
    return {job: name for job, _, name, at, noted in rows if at is not None and at > now and noted > now + BY}


_other = occurrence.alias()
_last_at = select(func.max(_other.c.scheduled_for)).where(_other.c.job == entry.c.job).correlate(entry)
_of_last = (occurrence.c.job == entry.c.job) & (occurrence.c.scheduled_for == _last_at.scalar_subquery())
_NEWEST = select(
    entry.c.job, entry.c.effective_since, occurrence.c.slot, occurrence.c.scheduled_for, occurrence.c.noted_at
).select_from(entry.outerjoin(occurrence, _of_last))
_UNDO = (
    delete(occurrence)
    .where(occurrence.c.job == bindparam("b_job"), occurrence.c.noted_at > bindparam("b_at"))
    .where(occurrence.c.state.in_(("missed", "skipped", "queued")))
)
