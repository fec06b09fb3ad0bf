"""Retention: what items carried is deleted some time after they are over; what keeps it from being done twice stays.

Deleted: items with their payloads and results, `once` values, the texts of model calls, details of effects, histograms,
counters of budgets that count no more, alerts that are over, marks of mail that came back. Kept for ever: that a slot
was planned and what it came to, runs and what calls cost, each effect as a tombstone, occurrences, and what editions
have used (a feed may show an old story again). Nothing that is unfinished goes: pending, deferred or unknown items,
effects not settled, runs under way. A rehearsal is nobody's work: what is unfinished of it goes like the rest.

Done a few rows a transaction: nobody else waits for longer than that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, update

from overnight.budget import run_counter
from overnight.clock import iso
from overnight.ledger import Ledger
from overnight.ledger.controls import alert, budget
from overnight.ledger.rollups import trouble
from overnight.ledger.statements import put
from overnight.ledger.tables import (
    call,
    effect,
    histogram,
    incoming,
    item,
    lease,
    meta,
    occurrence,
    once,
    run,
    signup,
    slot,
    tool_call,
)

CHUNK = 500  # rows a transaction
DAILY = timedelta(days=1)
AWAY = timedelta(days=7)  # since it was last done: longer than a machine is off without anybody looking at its clock
REMOVED = timedelta(days=90)  # at least, for a job that schedule.yaml has no more: else the longest of the others
SIGNUPS = timedelta(days=7)  # longer than the link in their mail holds
INCOMING = timedelta(days=365)  # since it was last read: mail in an mbox may be read again for as long, and counts once
PAUSE = 0.02  # seconds between transactions: others come first
SETTLED = ("done", "failed", "undone")  # states of an effect that will not change any more
_MARK = "retention"  # the row of `meta` that says when it was last begun

Slot = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Deleted:
    """How much went, in rows; `answers` are texts of calls, `details` those of effects and calls of tools.

    `incoming` are marks of mails from outside that were counted.
    """

    slots: int = 0
    items: int = 0
    values: int = 0
    answers: int = 0
    details: int = 0
    counters: int = 0
    alerts: int = 0
    signups: int = 0
    incoming: int = 0

    def __add__(self, other: "Deleted") -> "Deleted":
        return Deleted(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(getattr(self, each.name) for each in fields(self))


_LAST = select(meta.c.value).where(meta.c.name == _MARK)


def claim(connection: Connection, now: datetime) -> bool:
    """Whether this process is to do it now: one does, once a day.

    Where the last time is long ago, or still to come, the clock may be wrong by months, and would have nights deleted
    that are not over. Then it begins with the next day, when somebody has had time to set it right.
    """
    last = connection.execute(_LAST).scalar_one_or_none()
    if last is not None and iso(now - DAILY) < last <= iso(now):
        return False
    put(connection, meta, {"name": _MARK, "value": iso(now)})
    return last is None or iso(now - AWAY) <= last <= iso(now)


async def retire(ledger: Ledger, terms: Mapping[str, timedelta]) -> Deleted:
    """Delete everything that is older than the `terms` of its job; returns how much."""
    now = ledger.clock.now()
    total = Deleted()
    for one in await ledger.read(due, terms, now):
        total += await _repeated(ledger, partial(_retire_some, one=one, terms=terms, now=now))
    longest = now - max([REMOVED, *terms.values()])
    total += await _repeated(ledger, lambda connection: _drop_counters(connection, longest))
    total += await _repeated(ledger, lambda connection: _drop_incoming(connection, now))
    total += Deleted(signups=await ledger.write(lambda connection: _drop_signups(connection, now)))
    return total + await ledger.write(lambda connection: _drop_alerts(connection, longest))


async def _repeated(ledger: Ledger, step: Callable[[Connection], Deleted]) -> Deleted:
    total = Deleted()
    while (some := await ledger.write(step)).rows:
        total += some
        await ledger.clock.sleep(PAUSE)
    return total


def due(connection: Connection, terms: Mapping[str, timedelta], now: datetime) -> list[Slot]:
    """Slots that are over and older than their retention, oldest first."""
    jobs = connection.execute(select(slot.c.job).distinct()).scalars().all()
    found: list[Slot] = []
    for job in jobs:
        old = connection.execute(_DUE, {"job": job, "before": now - _term(terms, job)})
        found += [(row.job, row.slot) for row in old]
    return found


def _term(terms: Mapping[str, timedelta], job: str) -> timedelta:
    """How long a job's items are kept; one that was taken out, perhaps for a day, loses nothing before others do."""
    return terms.get(job) or max([REMOVED, *terms.values()])


def preview(connection: Connection, terms: Mapping[str, timedelta], now: datetime) -> Deleted:
    """What `retire` would delete of slots, without deleting it."""
    total = Deleted()
    for job, name in due(connection, terms, now):
        answers = _count(connection, call.c.job == job, call.c.slot == name, call.c.response.is_not(None))
        items = _count(connection, item.c.job == job, item.c.slot == name)
        values = _count(connection, once.c.job == job, once.c.slot == name)
        total += Deleted(slots=1, items=items, answers=answers, values=values)
    return total


def _count(connection: Connection, *where: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).where(*where)).scalar_one())


def _over() -> list[ColumnElement[bool]]:
    """Conditions on `slot`: everything about it was finished `before` that time, or was a rehearsal."""
    before = bindparam("before", type_=slot.c.scheduled_for.type)
    open_effect = select(effect.c.id).where(_same(effect), effect.c.state.not_in(SETTLED))
    counts = [slot.c[state] == 0 for state in ("pending", "retry", "unknown")]
    finished = and_(slot.c.planned_at.is_not(None), *counts, ~open_effect.exists())
    recent = select(run.c.id).where(_same(run), (run.c.started_at >= before) | (run.c.status == "running"))
    held = select(lease.c.run_id).where(_same(lease), lease.c.until.is_not(None))
    waiting = select(occurrence.c.id).where(_same(occurrence), occurrence.c.state.in_(("claimed", "queued")))
    left = select(item.c.key).where(_same(item))  # of a slot whose retention was cut short
    present = slot.c.retired_at.is_(None) | left.exists()
    old = [present, slot.c.scheduled_for < before, slot.c.created_at < before]
    return [*old, or_(slot.c.rehearsal.is_(True), finished), *(~q.exists() for q in (recent, held, waiting))]


def _same(table: Any) -> ColumnElement[bool]:
    same: ColumnElement[bool] = (table.c.job == slot.c.job) & (table.c.slot == slot.c.slot)
    return same


_DUE = select(slot.c.job, slot.c.slot).where(slot.c.job == bindparam("job"), *_over()).order_by(slot.c.scheduled_for)
_STILL = select(slot.c.retired_at).where(slot.c.job == bindparam("job"), slot.c.slot == bindparam("slot"), *_over())


def _retire_some(connection: Connection, one: Slot, terms: Mapping[str, timedelta], now: datetime) -> Deleted:
    """One transaction's worth of a slot; nothing when all of it is gone, or somebody has begun with it again.

    Its items go last, when the slot says that it is retired: from then on nobody counts them again.
    """
    job, name = one
    row = connection.execute(_STILL, {"job": job, "slot": name, "before": now - _term(terms, job)}).one_or_none()
    if row is None:
        return Deleted()
    if row.retired_at is not None:
        return Deleted(items=_drop_items(connection, job, name))
    answers = _blank_answers(connection, job, name)
    return Deleted(answers=answers) if answers else _retire(connection, job, name, now)


def _drop_items(connection: Connection, job: str, name: str) -> int:
    return int(connection.execute(_SOME_ITEMS, _named(job, name)).rowcount)


def _blank_answers(connection: Connection, job: str, name: str) -> int:
    return int(connection.execute(_SOME_ANSWERS, _named(job, name)).rowcount)


def _named(job: str, name: str) -> dict[str, str]:
    return {"b_job": job, "b_slot": name}


def _of(table: Any) -> tuple[ColumnElement[bool], ...]:
    return table.c.job == bindparam("b_job"), table.c.slot == bindparam("b_slot")


_KEYS = select(item.c.key).where(*_of(item)).limit(CHUNK)
_SOME_ITEMS = delete(item).where(*_of(item), item.c.key.in_(_KEYS))
_TEXTS = select(call.c.id).where(*_of(call), call.c.response.is_not(None)).limit(CHUNK)
_SOME_ANSWERS = update(call).where(call.c.id.in_(_TEXTS)).values(response=None)


def _retire(connection: Connection, job: str, name: str, now: datetime) -> Deleted:
    mine = _named(job, name)
    values = connection.execute(_ONCE_VALUES, mine).rowcount
    details = sum(connection.execute(each, mine).rowcount for each in (_DETAILS, _TALKS))
    for each in (_SAMPLES, _HISTOGRAMS):
        connection.execute(each, mine)
    counters = connection.execute(_COUNTER, {"scope": run_counter(job, name)}).rowcount
    connection.execute(_RETIRED, mine | {"now": now})
    return Deleted(slots=1, values=values, details=details, counters=counters)


_ONCE_VALUES = delete(once).where(*_of(once))
_DETAILS = update(effect).where(*_of(effect), effect.c.detail.is_not(None)).values(detail=None)
_TALKS = delete(tool_call).where(*_of(tool_call))
_SAMPLES = update(trouble).where(*_of(trouble)).values(sample_key=None, sample=None)
_HISTOGRAMS = delete(histogram).where(histogram.c.run_id.in_(select(run.c.id).where(*_of(run))))
_COUNTER = delete(budget).where(budget.c.scope == bindparam("scope"))
_RETIRED = update(slot).where(*_of(slot)).values(retired_at=bindparam("now"))


def _drop_counters(connection: Connection, before: datetime) -> Deleted:
    """Counters of past days, and of the tasks of retired slots."""
    day = before.date().isoformat()
    names = connection.execute(_FREE_COUNTERS).scalars().all()
    slots = {name: _slot_of(name) for name in names}
    retired = {one for one in set(slots.values()) if one is not None and _is_retired(connection, one)}
    old = [name for name, one in slots.items() if one in retired or _is_old(name, day)][:CHUNK]
    gone = delete(budget).where(budget.c.scope.in_(old))
    return Deleted(counters=connection.execute(gone).rowcount) if old else Deleted()


_FREE_COUNTERS = select(budget.c.scope).where(budget.c.reserved_nano == 0)
_RETIRED_AT = select(slot.c.retired_at).where(*_of(slot))


def _is_retired(connection: Connection, one: Slot) -> bool:
    return connection.execute(_RETIRED_AT, _named(*one)).scalar() is not None


def _slot_of(counter: str) -> Slot | None:
    """The slot of a task's counter; None for others. One whose name was cut short is of no slot, and is kept."""
    kind, _, rest = counter.partition(":")
    job, _, tail = rest.partition(":")[2].partition("/")
    return (job, tail.partition("/")[0]) if kind == "task" else None


def _is_old(counter: str, day: str) -> bool:
    """Whether nothing can be charged to this counter of a day any more."""
    kind, _, rest = counter.partition(":")
    date = rest.rpartition(":")[2]
    return kind in ("day", "job", "role") and len(date) == len(day) and date[:2] == "20" and date < day


def _drop_alerts(connection: Connection, before: datetime) -> Deleted:
    over = (alert.c.state == "resolved", alert.c.last_at < before)
    return Deleted(alerts=connection.execute(delete(alert).where(*over)).rowcount)


def _drop_signups(connection: Connection, now: datetime) -> int:
    """Addresses of sign-ups that are over: most of those that nobody confirmed belong to somebody else."""
    return connection.execute(delete(signup).where(signup.c.asked_at < now - SIGNUPS)).rowcount


def _drop_incoming(connection: Connection, now: datetime) -> Deleted:
    old = select(incoming.c.digest).where(incoming.c.at < now - INCOMING).limit(CHUNK)
    digests = connection.execute(old).scalars().all()
    gone = delete(incoming).where(incoming.c.digest.in_(digests))
    return Deleted(incoming=connection.execute(gone).rowcount) if digests else Deleted()


def retired_days(connection: Connection, days: Sequence[str]) -> set[str]:
    """Those of these report days that have lost items: their reports stay as they are."""
    return set(connection.execute(_RETIRED_DAYS, {"days": list(days)}).scalars())


_RETIRED_DAYS = (
    select(slot.c.day)
    .where(slot.c.day.in_(bindparam("days", expanding=True)), slot.c.retired_at.is_not(None))
    .where(slot.c.rehearsal.is_(False))
    .distinct()
)
