"""What nobody knows, or nobody could undo: alerts that wait for a person.

Most often there is none, and whoever looks each minute is not to read all effects and items there ever were.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, exists, func, literal_column, select

from overnight.alerts.alarm import Alarm
from overnight.alerts.book import IS_OPEN
from overnight.ledger.controls import alert
from overnight.ledger.rollups import IN_TROUBLE
from overnight.ledger.tables import IN_DOUBT, STUCK, UNKNOWN, effect, item, slot
from overnight.plurals import counted
from overnight.run import NOT_UNDONE
from overnight.schedule import Schedule


def unknown(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:  # noqa: ARG001  as every rule
    """Of which jobs nobody knows whether something happened outside; a person has to find out."""
    hold = schedule.alerts.unknown.hold
    unsettled = _unsettled(connection, schedule, "unknown", _UNKNOWN)
    lost = _lost_otherwise(connection, unsettled)
    for job, (effects, effects_run) in unsettled.items():
        found = [(effects, effects_run), lost.get(job, (0, ""))]
        n, run_id = sum(n for n, _ in found), max(run_id for _, run_id in found)
        message = f"{job}: nobody knows what became of {counted(n, 'mail or step', 'mails or steps')}"
        remedy = f"overnight show {run_id}, then overnight settle {run_id} KEY sent|unsent"
        yield Alarm("unknown", job, f"{message}: {remedy}" if n else message, firing=n > 0, hold=hold)


def not_undone(connection: Connection, schedule: Schedule, now: datetime) -> Iterator[Alarm]:  # noqa: ARG001  as every rule
    """What jobs have left behind outside: it was to be undone and could not be. A retry undoes it, or a person."""
    for job, (n, run_id) in _unsettled(connection, schedule, NOT_UNDONE, _STUCK).items():
        message = f"{job}: {counted(n, 'step')} could not be undone"
        remedy = f"overnight show {run_id}, undo it by hand, then overnight settle {run_id} KEY unsent"
        yield Alarm(NOT_UNDONE, job, f"{message}: {remedy}" if n else message, firing=n > 0)


def _unsettled(
    connection: Connection, schedule: Schedule, rule: str, effects: Select[Any]
) -> dict[str, tuple[int, str]]:
    """By job: how many effects it has left so, and the newest of their runs; also jobs that left the file since."""
    found = {job: (n, run_id) for job, n, run_id in connection.execute(effects)}
    told = connection.execute(_TOLD, {"rule": rule}).scalars()
    return {job: found.get(job, (0, "")) for job in schedule.jobs.keys() | found.keys() | set(told)}


def _lost_otherwise(connection: Connection, jobs: Collection[str]) -> dict[str, tuple[int, str]]:
    """By job: items that are unknown because their own code says so, or whose effect is settled already."""
    doubtful = [row for row in connection.execute(_DOUBTFUL) if row.job in jobs]
    if not doubtful:
        return {}
    known = Counter((job, name) for job, name, _ in set(connection.execute(_KNOWN)))
    lost: dict[str, tuple[int, str]] = {}
    for job, name, unsure in doubtful:
        if unsure > known[job, name]:
            n, run_id = connection.execute(_LOST_OTHERWISE, {"job": job, "slot": name}).one()
            before, newest = lost.get(job, (0, ""))
            lost[job] = before + n, max(newest, run_id or "")
    return lost


_EFFECTS = (
    select(effect.c.job, func.count(), func.max(effect.c.run_id))
    .join(slot, (slot.c.job == effect.c.job) & (slot.c.slot == effect.c.slot))
    .where(slot.c.rehearsal.is_(False))
    .group_by(effect.c.job)
)
_UNKNOWN, _STUCK = _EFFECTS.where(UNKNOWN), _EFFECTS.where(STUCK)
# First: most often there is none, and all items in trouble would be read. With a job asked for, SQLite reads all slots.
_DOUBTFUL = select(slot.c.job, slot.c.slot, slot.c.unknown).where(IN_DOUBT, slot.c.rehearsal.is_(False))
_OF_ITEM = (effect.c.job == item.c.job, effect.c.slot == item.c.slot, effect.c.key == item.c.key)
_KNOWN = (  # a row for each item of which an effect tells already, counted by hand: grouped it would read all effects
    select(effect.c.job, effect.c.slot, effect.c.key)
    .join(item, and_(*_OF_ITEM))
    .where(effect.c.state == literal_column("'unknown'"), item.c.state == "unknown")
)
_LOST_OTHERWISE = (
    select(func.count(), func.max(item.c.run_id))
    .where(item.c.job == bindparam("job"), item.c.slot == bindparam("slot"), IN_TROUBLE, item.c.state == "unknown")
    .where(~exists().where(*_OF_ITEM, effect.c.state == "unknown"))
)
_TOLD = select(alert.c.scope).where(IS_OPEN, alert.c.rule == bindparam("rule"))
