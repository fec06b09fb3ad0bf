"""Budgets: money is reserved before a call and settled after it, so that no number of callers exceeds a cap.

`settled + reserved + worst case <= cap` is checked in the statement that reserves, for all counters of a call in one
transaction, hence across processes. A call whose outcome nobody knows stays charged at its worst case. The caps bound
what is authorised: a wrong price list is outside of them.

Counters (rows of `budget`): `day:<date>`, `job:<job>:<date>`, `role:<role>:<date>`, `run:<job>/<slot>`,
`task:<role>:<job>/<slot>/<key>`. Dates are the project's wall-clock dates at the time of the reservation.

The cap in force is what schedule.yaml says plus what was raised by hand, whichever way the file was edited since the
counter was first used. A running process keeps the file it was started with; `raise_cap` reaches it at once.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from overnight.clock import Clock, iso
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, Skip
from overnight.ledger import Ledger, Write
from overnight.ledger.controls import budget
from overnight.ledger.counters import mark, move, take
from overnight.ledger.runs import owe_reports
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import FLYING, call, lease
from overnight.outcome import Scope
from overnight.pricing import NANO

LONGEST_WAIT = 60.0  # seconds for others to settle; beyond it the item is taken up again by a sweep
FIRST_POLL, LAST_POLL = 0.05, 1.0  # seconds; another process cannot wake us

IN_FLIGHT = "in_flight"  # error_code of a call whose reply is awaited; FLYING says it in the words of its index
LOST = "lost"  # of one whose process was killed meanwhile


@dataclass(frozen=True, slots=True)
class Also:
    """Rows of a caller in the transaction of its reservation: `write(connection, rows)` for all callers of a group."""

    write: Callable[[Connection, Sequence[Any]], object]
    row: Any = None


def _nothing(*_: object) -> None:
    """No further rows."""


NOTHING = Also(_nothing)


class BudgetExceeded(Skip):
    """A call would pass a cap even if nobody else spent anything more."""


@dataclass(frozen=True, slots=True)
class JobCaps:
    """Caps of one job in nano-USD, of a slot and of a budget day; None: no cap of its own."""

    per_run: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class RoleCaps:
    """Caps of one role in nano-USD, of an item and of a budget day of all jobs together; None: no cap of its own."""

    per_task: int | None = None
    per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of schedule.yaml: nano-USD per budget day, when to warn (a fraction of it), those of jobs and roles."""

    per_day: int = 10 * NANO
    warn_at: Decimal = Decimal("0.8")
    jobs: Mapping[str, JobCaps] = field(default_factory=dict)
    roles: Mapping[str, RoleCaps] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reservation:
    """`worst` nano-USD reserved in each of `counters` on budget day `day`; `warned`: it crossed the warning line."""

    counters: tuple[str, ...]
    worst: int
    day: str
    warned: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A reservation that is asked for: its counters with their caps, and when to warn about the day."""

    reservation: Reservation
    caps: Mapping[str, int]
    also: Also
    warn_at: Decimal
    now: datetime


@dataclass(frozen=True, slots=True)
class _Settlement:
    reservation: Reservation
    actual: int
    also: Also = NOTHING


@dataclass(frozen=True, slots=True)
class _Denied:
    counter: str
    cap: int
    extra: int
    settled: int
    hopeless: bool


class Budgets:
    """All budgets of a project, as one process sees them."""

    def __init__(self, ledger: Ledger, clock: Clock, zone: ZoneInfo, caps: Caps) -> None:
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._caps = caps

    async def reserve(
        self,
        scope: Scope,
        worst: int,
        *,
        role: str = "",
        also: Also = NOTHING,
        undo: Write[None] = _nothing,
    ) -> Reservation:
        """Reserve `worst` nano-USD for one call; `also` writes a row `(row, day)` in the same transaction.

        `undo(connection)` removes these rows when the caller is cancelled before it has heard of its reservation.
        Waits while only reservations of others stand in the way. Raises BudgetExceeded when a cap is too small even
        without them, Deferred when they do not settle in time.
        """
        day = self._clock.now().astimezone(self._zone).date().isoformat()
        counters = self._counters(scope, day, role)
        reservation = Reservation(tuple(counters), worst, day)
        waited, pause = 0.0, FIRST_POLL
        while True:
            wanted = _Wanted(reservation, counters, also, self._caps.warn_at, self._clock.now())
            found = await self._tried(wanted, undo)
            if not isinstance(found, _Denied):
                return found
            self._refuse(found, worst, waited)
            async with off_the_clock():
                await self._clock.sleep(pause)
            waited, pause = waited + pause, min(pause * 2, LAST_POLL)

    async def _tried(self, wanted: _Wanted, undo: Write[None]) -> Reservation | _Denied:
        """Try once. A cancelled caller would never settle what the writer commits all the same: it is given back."""
        trying = self._ledger.writer.submit(_reserve, wanted)
        try:
            found: Reservation | _Denied = await asyncio.shield(trying)
        except asyncio.CancelledError:
            await asyncio.wait({trying})
            if trying.exception() is None and isinstance(got := trying.result(), Reservation):
                await self._ledger.write(lambda connection: _give_back(connection, got, undo))
            raise
        return found

    async def settle(self, reservation: Reservation, actual: int, *, also: Also = NOTHING) -> None:
        """Charge `actual` nano-USD and release the reservation. For an unknown outcome `actual` is its worst case.

        `also` writes its row in the same transaction.
        """
        await self._ledger.record(_settle, _Settlement(reservation, actual, also))

    def _counters(self, scope: Scope, day: str, role: str) -> dict[str, int]:
        job, part = self._caps.jobs.get(scope.job, JobCaps()), self._caps.roles.get(role, RoleCaps())
        caps = (self._caps.per_day, job.per_day, part.per_day, job.per_run, part.per_task)
        return {name: cap for name, cap in zip(counters_of(scope, day, role), caps, strict=True) if cap is not None}

    def _refuse(self, denied: _Denied, worst: int, waited: float) -> None:
        raised = f" ({dollars(denied.extra)} of it raised by hand)" if denied.extra else ""
        cap = f"{dollars(denied.cap + denied.extra)}{raised}"
        where = f"the budget {denied.counter} of {cap}, of which {dollars(denied.settled)} are spent"
        if denied.hopeless:
            raise BudgetExceeded(
                f"a call of up to {dollars(worst)} does not fit into {where}; "
                "raise it in schedule.yaml, or for today by `overnight budget raise`",
                code="budget",
            )
        if waited >= LONGEST_WAIT:
            raise Deferred(f"other calls hold {where}; waited {waited:.0f} s", code="budget", after=LONGEST_WAIT)


def day_counter(day: str) -> str:
    """Return the counter of a budget day (local date, `2026-11-22`)."""
    return f"day:{day}"


def job_counter(job: str, day: str) -> str:
    """Return the counter of a job's budget day."""
    return _bounded(f"job:{job}:{day}")


def role_counter(role: str, day: str) -> str:
    """Return the counter of a role's budget day, in all jobs."""
    return _bounded(f"role:{role}:{day}")


def run_counter(job: str, slot: str) -> str:
    """Return the counter of a slot: all its runs together."""
    return _bounded(f"run:{job}/{slot}")


def reap(connection: Connection, now: datetime) -> int:
    """Settle at its worst case what processes that were killed had reserved; returns how many calls.

    Such a call stands in the journal as in flight while nobody holds the lease of its run. It is settled once, in the
    transaction that marks it `lost`; what it may have cost stays charged. Should its process only have been asleep and
    settle after all, `reserved` falls below what is reserved, by just what `settled` has too much: their sum, which is
    compared with the cap, is right again. Looks back a week, as older slots wait for nobody.
    """
    recent = (now - timedelta(days=7)).date().isoformat()
    rows = connection.execute(_LEFT, {"now": now, "recent": recent}).all()
    for row in rows:
        connection.execute(update(call).where(call.c.id == row.id).values(error_code=LOST))
        names = counters_of(Scope(row.job, row.slot, row.key, ""), row.budget_day, row.role)
        _settle(connection, [_Settlement(Reservation(names, row.cost_nano, row.budget_day), row.cost_nano)])
    return len(rows)


_held = (lease.c.job == call.c.job) & (lease.c.slot == call.c.slot) & (lease.c.run_id == call.c.run_id)
_LEFT = (
    select(call.c.id, call.c.job, call.c.slot, call.c.key, call.c.role, call.c.budget_day, call.c.cost_nano)
    .outerjoin(lease, _held & (lease.c.until > bindparam("now")))
    .where(FLYING, call.c.budget_day >= bindparam("recent"), lease.c.run_id.is_(None))
)


def raise_cap(connection: Connection, counter: str, cap: int, more: int) -> int:
    """Raise what a counter may hold by `more` nano-USD, at once and for all processes; returns the cap in force.

    `cap` is what schedule.yaml says. The cap of a whole day stands in its reports.
    """
    kind, _, rest = counter.partition(":")
    if kind == "day":
        owe_reports(connection, [rest])
    raised = update(budget).where(budget.c.scope == counter).values(extra_nano=budget.c.extra_nano + more)
    if not connection.execute(raised).rowcount:
        connection.execute(insert(budget).values(scope=counter, cap_nano=cap, extra_nano=more))
    return cap + int(_row(connection, counter)["extra_nano"])


def dollars(nano: int) -> str:
    """Write nano-USD for people: `$0.05`, never rounded, at least two decimals."""
    whole, _, fraction = f"{Decimal(nano) / NANO:f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"


def _reserve(connection: Connection, group: Sequence[_Wanted]) -> list[Reservation | _Denied]:
    """Reserve for callers of one group: by one statement a counter where they all fit, else one after the other."""
    sums: Counter[str] = Counter()
    caps: dict[str, int] = {}
    for wanted in group:
        caps |= wanted.caps
        sums.update(dict.fromkeys(wanted.caps, wanted.reservation.worst))
    denied = _added(connection, caps, sums)
    if denied is None:
        return _granted(connection, group)
    if len(group) == 1:
        return [_why(connection, denied, caps[denied], sums[denied])]
    return [found for wanted in group for found in _reserve(connection, [wanted])]


def _granted(connection: Connection, group: Sequence[_Wanted]) -> list[Reservation | _Denied]:
    _also(connection, [(wanted.also, (wanted.also.row, wanted.reservation.day)) for wanted in group])
    days = {wanted.reservation.day: wanted for wanted in group}
    first = {day for day, last in days.items() if _warn(connection, day_counter(day), last.warn_at, last.now)}
    told: list[Reservation | _Denied] = []
    for wanted in group:
        mine = wanted.reservation
        told.append(replace(mine, warned=True) if mine.day in first else mine)
        first.discard(mine.day)
    return told


def _added(connection: Connection, caps: Mapping[str, int], sums: Mapping[str, int]) -> str | None:
    """Reserve in all counters, or in none; returns the counter that has no room."""
    done: list[str] = []
    for counter, cap in caps.items():
        if not _add(connection, counter, cap, sums[counter]):
            for other in done:  # not by an exception: that would undo the whole group of other callers
                move.one(connection, {"b_scope": other, "v_worst": sums[other], "v_actual": 0})
            return counter
        done.append(counter)
    return None


def _add(connection: Connection, counter: str, cap: int, worst: int) -> bool:
    values = {"b_scope": counter, "v_worst": worst, "v_cap": cap}
    if take.one(connection, values):
        return True
    if connection.execute(_KNOWN, {"counter": counter}).first() is not None:
        return False
    insert_new(connection, budget, [{"scope": counter, "cap_nano": cap}])
    return bool(take.one(connection, values))


_KNOWN = select(budget.c.scope).where(budget.c.scope == bindparam("counter"))


def _also(connection: Connection, rows: Sequence[tuple[Also, Any]]) -> None:
    by_function: dict[Any, list[Any]] = {}
    for also, row in rows:
        by_function.setdefault(also.write, []).append(row)
    for write, each in by_function.items():
        write(connection, each)


def _why(connection: Connection, counter: str, cap: int, worst: int) -> _Denied:
    row = _row(connection, counter)
    extra, settled = int(row["extra_nano"]), int(row["settled_nano"])
    return _Denied(counter, cap, extra, settled, hopeless=settled + worst > cap + extra)


def _row(connection: Connection, counter: str) -> RowMapping:
    return connection.execute(select(budget).where(budget.c.scope == counter)).mappings().one()


def _warn(connection: Connection, counter: str, at: Decimal, now: datetime) -> bool:
    """Mark the day as warned about when it has come so far; True for exactly one caller per day."""
    numerator, denominator = at.as_integer_ratio()
    values = {"b_scope": counter, "v_numerator": numerator, "v_denominator": denominator, "v_now": iso(now)}
    return bool(mark.one(connection, values))


def _settle(connection: Connection, group: Sequence[_Settlement]) -> list[None]:
    worst: Counter[str] = Counter()
    actual: Counter[str] = Counter()
    for each in group:
        worst.update(dict.fromkeys(each.reservation.counters, each.reservation.worst))
        actual.update(dict.fromkeys(each.reservation.counters, each.actual))
    move.many(connection, [{"b_scope": c, "v_worst": nano, "v_actual": actual[c]} for c, nano in worst.items()])
    _also(connection, [(each.also, each.also.row) for each in group])
    return [None] * len(group)


def _give_back(connection: Connection, reservation: Reservation, undo: Write[None]) -> None:
    """Undo a reservation that nobody heard of, and its warning, which is the next one's to give."""
    _settle(connection, [_Settlement(reservation, 0)])
    undo(connection)
    if reservation.warned:
        day = budget.c.scope == day_counter(reservation.day)
        connection.execute(update(budget).where(day).values(warned_at=None))


def counters_of(scope: Scope, day: str, role: str) -> tuple[str, ...]:
    """The counters that a call may have: of the day, the job's day, the role's day, the slot, the task."""
    task = _bounded(f"task:{role}:{scope.task_id}")
    days = day_counter(day), job_counter(scope.job, day), role_counter(role, day)
    return *days, run_counter(scope.job, scope.slot), task


def _bounded(name: str) -> str:
    """`name`, or a digest in place of the tail that the column could not hold."""
    longest = 255
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{name[: longest - 65]}~{digest}"
