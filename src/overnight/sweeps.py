"""What was left: slots whose run died or was asked to end, and those with deferred items that are due.

Whoever looks decides here with which of them to go on; the others are given up, with a reason and an alert.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from sqlalchemy import Connection, RowMapping

from overnight.abandoned import RULE, abandon, orphans, taken_up
from overnight.alerts import Alarm
from overnight.ledger.runs import paused
from overnight.leftovers import leave, left_open, prospects
from overnight.liveness import is_dead
from overnight.occurrences import Slot
from overnight.runner import REHEARSAL, Workplace

GIVE_UP = 3  # deaths in a row after which a slot is left alone: a crash loop costs money
RESPITE = timedelta(minutes=1)  # what killed a process twice may be over then


@dataclass(frozen=True, slots=True)
class Rest:
    """A slot to go on with: all that is left of it, or only its deferred items."""

    job: str
    slot: str
    what: Literal["rest", "deferred"]


async def left_to_do(work: Workplace, now: datetime, busy: Collection[Slot], job: str | None = None) -> list[Rest]:
    """What to go on with now, of all jobs that are enabled, or of one that is being run; `busy` slots are somebody's.

    What nobody goes on with any more is closed, and noted.
    """
    held, stopped, deferred, over = await work.ledger.read(_left, now)
    if job is not None:
        held = [row for row in held if row["job"] == job]
        stopped, deferred = ([of for of in slots if of[0] == job] for slots in (stopped, deferred))
    dead = {(row["job"], row["slot"]) for row in held if is_dead(work.root, row, now)}
    # Also what another scheduler's run is about: ours would be refused at once, and waking us, started again.
    taken = {*busy, *({(row["job"], row["slot"]) for row in held} - dead)}
    await work.note([*over, *await _abandoned(work, dead - taken, set(stopped) - taken, now, job)])
    left = dead.union(stopped)
    rest = [Rest(name, slot, "rest") for name, slot in sorted(left - taken)]
    later = [Rest(name, slot, "deferred") for name, slot in sorted(set(deferred) - left - taken)]
    wanted = [each for each in [*rest, *later] if await may_sweep(work, each.job, each.slot, job)]
    return [each for each in wanted if each.what == "deferred" or await _may_go_on(work, each.job, each.slot, now)]


def _left(connection: Connection, now: datetime) -> tuple[Sequence[RowMapping], list[Slot], list[Slot], list[Alarm]]:
    return *left_open(connection, now), taken_up(connection, now)


async def _abandoned(
    work: Workplace, died: set[Slot], stopped: set[Slot], now: datetime, asked: str | None
) -> list[Alarm]:
    """Close what nobody goes on with; what is to be told of it."""
    if not died and not stopped:
        return []
    told = []
    enabled = {name: settings.enabled or name == asked for name, settings in work.schedule.jobs.items()}
    for of, why in await work.ledger.read(orphans, enabled, died, stopped):
        write = partial(abandon, of=of, why=why, now=now, died=partial(is_dead, work.root, now=now))
        told += await work.ledger.write(write)
    return told


async def may_sweep(work: Workplace, job: str, slot: str, asked: str | None = None) -> bool:
    """Whether one goes on with a slot by himself: of a job that is enabled or `asked` for, not paused, no rehearsal."""
    settings = work.schedule.jobs.get(job)
    if settings is None or not (settings.enabled or job == asked) or REHEARSAL in slot:
        return False
    return await work.ledger.read(paused, job) is None


async def _may_go_on(work: Workplace, job: str, slot: str, now: datetime) -> bool:
    """Whether a dead run is continued: not a replaced or cancelled one, not too late, not for ever."""
    newest_run, over, times = await work.ledger.read(prospects, job, slot)
    if newest_run is None:
        return False
    if over:
        await _leave(work, job, slot, "nobody goes on with its run", now)
        return False
    remedy = f"overnight resume {newest_run['id']}"
    if now - newest_run["scheduled_for"] > work.schedule.jobs[job].max_age:
        await _leave(work, job, slot, "the rest is older than max_age", now)
        await work.note([Alarm(RULE, f"{job}/{slot}", f"the rest of {job} {slot} is older than max_age: {remedy}")])
        return False
    if 1 < times < GIVE_UP and now - newest_run["started_at"] < RESPITE:
        return False
    if times >= GIVE_UP:
        died = f"{job} {slot} killed its process, or blocked it for over a minute, {GIVE_UP} times"
        await _leave(work, job, slot, f"its process died {GIVE_UP} times", now)
        await work.note([Alarm("gave_up", job, f"{died}; it is left alone; to see why: {remedy}")])
        return False
    return True


async def _leave(work: Workplace, job: str, slot: str, reason: str, now: datetime) -> None:
    await work.ledger.write(lambda c: leave(c, job, slot, reason, now, partial(is_dead, work.root, now=now)))
