"""Slots with which nobody goes on, for their job is gone, disabled or paused: closed, and told until somebody does."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping

from overnight.alerts import Alarm, firing
from overnight.ledger.runs import latest_run, paused
from overnight.leftovers import leave
from overnight.occurrences import Slot
from overnight.runner import REHEARSAL

RULE = "left"
TOLD_FOR = timedelta(days=1)  # nobody may ever do anything about the rest of a job that is gone


def orphans(
    connection: Connection, jobs: Mapping[str, bool], died: Collection[Slot], stopped: Collection[Slot]
) -> list[tuple[Slot, str]]:
    """Of the slots whose run `died`, or was asked to end (`stopped`), those with which nobody goes on, each with why.

    `jobs` says of those in the file whether they are enabled. What was asked to end waits for the end of a pause; what
    died in one nobody may want any more.
    """
    found = [(of, _why(connection, jobs, of, died=of in died)) for of in sorted({*died, *stopped})]
    return [(of, why) for of, why in found if why is not None]


def _why(connection: Connection, jobs: Mapping[str, bool], of: Slot, *, died: bool) -> str | None:
    if of[0] not in jobs:
        return "the job was taken out of schedule.yaml"
    if not died:
        return None
    if REHEARSAL in of[1]:
        return "it was a rehearsal"
    if not jobs[of[0]]:
        return "the job has enabled: false"
    reason = paused(connection, of[0])
    return None if reason is None else f"the job is paused: {reason}"


def abandon(
    connection: Connection, of: Slot, why: str, now: datetime, died: Callable[[RowMapping], bool]
) -> list[Alarm]:
    """Close the slot's occurrence, and a run that died; what is to be told of it."""
    newest = latest_run(connection, *of)
    leave(connection, *of, f"nobody goes on with it: {why}", now, died, f"its process died, and {why}")
    if newest is None or REHEARSAL in of[1]:
        return []
    message = f"the rest of {of[0]} {of[1]} is left undone: {why}; to go on with it: overnight resume {newest['id']}"
    return [Alarm(RULE, "/".join(of), message)]


def taken_up(connection: Connection, now: datetime) -> list[Alarm]:
    """Those of which enough was told: somebody has gone on with the slot, or a day has passed."""
    rows = [row for row in firing(connection) if row["rule"] == RULE]
    return [_over(row["scope"]) for row in rows if _is_over(connection, row, now)]


def _is_over(connection: Connection, row: RowMapping, now: datetime) -> bool:
    job, _, slot = row["scope"].partition("/")
    newest = latest_run(connection, job, slot)
    return now - row["first_at"] >= TOLD_FOR or newest is None or newest["status"] != "interrupted"


def _over(scope: str) -> Alarm:
    return Alarm(RULE, scope, f"{scope} was gone on with, or nobody will", firing=False)
