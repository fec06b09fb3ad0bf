"""Budgets as a state machine: callers of two processes reserve, settle, give up and raise caps, in any order."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from overnight.budget import BudgetExceeded, Budgets, Caps, JobCaps, Reservation, RoleCaps, raise_cap
from overnight.errors import Deferred
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.outcome import Scope
from tests.slots import NOW, ManualClock, open_ledger

PER_DAY, PER_RUN, PER_JOB, PER_ROLE, PER_TASK = 100, 60, 80, 90, 40
CAPS = Caps(
    per_day=PER_DAY,
    jobs={"mail": JobCaps(per_run=PER_RUN, per_day=PER_JOB)},
    roles={"editor": RoleCaps(per_task=PER_TASK, per_day=PER_ROLE)},
)


class Calendar(ManualClock):
    """A clock that a rule moves on, by whole days."""

    def __init__(self) -> None:
        super().__init__()
        self.days = 0

    def now(self) -> Any:
        return NOW + timedelta(days=self.days)


@dataclass
class Counter:
    """One counter as it should be."""

    cap: int
    settled: int = 0
    reserved: int = 0

    @property
    def used(self) -> bool:
        """Whether anything was ever asked of it: until then it need not be there."""
        return bool(self.settled or self.reserved)


@dataclass
class Books:
    """What the counters should say, written as plainly as possible."""

    counters: dict[str, Counter] = field(default_factory=dict)

    def first_full(self, caps: dict[str, int], worst: int) -> Counter | None:
        """Find the counter that has no room for a call; those before it exist from now on."""
        for name, cap in caps.items():
            counter = self.counters.setdefault(name, Counter(cap))
            if counter.settled + counter.reserved + worst > counter.cap:
                return counter
        return None

    def move(self, names: tuple[str, ...], *, reserved: int = 0, settled: int = 0) -> None:
        """Change all counters of one call."""
        for name in names:
            self.counters[name].reserved += reserved
            self.counters[name].settled += settled


def counters_of(scope: Scope, day: str) -> dict[str, int]:
    """The counters of a call, in order, with their caps."""
    days, role, task = (
        {f"day:{day}": PER_DAY},
        {f"role:editor:{day}": PER_ROLE},
        {f"task:editor:{scope.task_id}": PER_TASK},
    )
    if scope.job != "mail":
        return days | role | task
    return days | {f"job:mail:{day}": PER_JOB} | role | {f"run:mail/{scope.slot}": PER_RUN} | task


class BudgetMachine(RuleBasedStateMachine):
    """Two processes with one ledger."""

    reservations = Bundle("reservations")

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Calendar()
        self.ledgers = [self.another() for _ in range(2)]
        self.books = Books()

    def another(self) -> Ledger:
        return open_ledger(Path(self.folder.name), self.clock)

    def teardown(self) -> None:
        for ledger in getattr(self, "ledgers", []):
            ledger.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()
            self.loop.close()

    @property
    def day(self) -> str:
        return f"{self.clock.now():%Y-%m-%d}"

    def budgets(self, process: int) -> Budgets:
        return Budgets(self.ledgers[process], self.clock, ZoneInfo("UTC"), CAPS)

    @rule(
        target=reservations,
        process=st.integers(0, 1),
        job=st.sampled_from(["mail", "agents"]),
        slot=st.sampled_from(["a", "b"]),
        key=st.sampled_from(["1", "2", "3"]),
        worst=st.integers(1, 45),
    )
    def reserve(self, process: int, job: str, slot: str, key: str, worst: int) -> Reservation | None:
        scope = Scope(job, slot, key, "r_1")
        caps = counters_of(scope, self.day)
        full = self.books.first_full(caps, worst)
        asked = self.budgets(process).reserve(scope, worst, role="editor")
        if full is not None:
            hopeless = full.settled + worst > full.cap
            with pytest.raises(BudgetExceeded if hopeless else Deferred):
                self.loop.run_until_complete(asked)
            return None
        reservation = self.loop.run_until_complete(asked)
        assert (reservation.counters, reservation.worst) == (tuple(caps), worst)
        self.books.move(reservation.counters, reserved=worst)
        return reservation

    @rule(process=st.integers(0, 1), worst=st.integers(1, 45))
    def give_up(self, process: int, worst: int) -> None:
        """A caller that is cancelled while its reservation is being committed."""
        scope = Scope("mail", "a", "1", "r_1")
        if self.books.first_full(counters_of(scope, self.day), worst) is None:
            self.loop.run_until_complete(self.cancelled(process, scope, worst))

    async def cancelled(self, process: int, scope: Scope, worst: int) -> None:
        asking = asyncio.ensure_future(self.budgets(process).reserve(scope, worst, role="editor"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    @rule(reservation=consumes(reservations), process=st.integers(0, 1), part=st.integers(0, 4))
    def settle(self, reservation: Reservation | None, process: int, part: int) -> None:
        """Nothing, a part, or all: the latter also when nobody knows."""
        if reservation is None:
            return
        actual = reservation.worst * part // 4
        self.loop.run_until_complete(self.budgets(process).settle(reservation, actual))
        self.books.move(reservation.counters, reserved=-reservation.worst, settled=actual)

    @rule(more=st.integers(1, 50))
    def lift(self, more: int) -> None:
        """The operator raises the day's cap."""
        name = f"day:{self.day}"
        counter = self.books.counters.setdefault(name, Counter(PER_DAY))
        counter.cap += more
        assert self.ledgers[0].writing(lambda connection: raise_cap(connection, name, PER_DAY, more)) == counter.cap

    @rule()
    def next_day(self) -> None:
        self.clock.days += 1

    @rule(process=st.integers(0, 1))
    def start_again(self, process: int) -> None:
        self.ledgers[process].close()
        self.ledgers[process] = self.another()

    @invariant()
    def no_counter_passes_its_cap_and_all_are_as_in_the_books(self) -> None:
        if not hasattr(self, "ledgers"):
            return
        b = budget.c
        query = select(b.scope, b.cap_nano + b.extra_nano, b.settled_nano, b.reserved_nano)
        rows = self.ledgers[0].reading(lambda connection: connection.execute(query).all())
        assert all(settled + reserved <= cap for _, cap, settled, reserved in rows)
        found = {name: Counter(cap, settled, reserved) for name, cap, settled, reserved in rows}
        expected = {name: counter for name, counter in self.books.counters.items() if name in found or counter.used}
        assert found == expected


@pytest.mark.slow
def test_no_budget_is_ever_passed_whatever_two_processes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overnight.budget.LONGEST_WAIT", 0.0)  # what others do meanwhile is another rule's business
    checked = settings(max_examples=60, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(BudgetMachine, settings=checked)
