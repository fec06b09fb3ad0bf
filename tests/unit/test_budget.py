"""Budgets: never more than the cap, whoever asks at the same time."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from overnight.budget import Also, BudgetExceeded, Budgets, Caps, JobCaps, RoleCaps, day_counter, dollars, raise_cap
from overnight.errors import Deferred, Skip
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.runs import owed_reports
from overnight.outcome import Scope
from overnight.pricing import NANO

SCOPE = Scope("daily", "2026-11-22", "s1", "r_1")
PARIS = ZoneInfo("Europe/Paris")


@dataclass
class Clock:
    """A clock that sleeps in no time, but lets others go on."""

    time: datetime = datetime(2026, 11, 22, 12, tzinfo=UTC)
    slept: float = 0.0
    during: list[Any] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time + timedelta(seconds=self.slept)

    def monotonic(self) -> float:
        return self.slept

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        while self.during:
            await self.during.pop()
        await asyncio.sleep(0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.close()


def rows(ledger: Ledger) -> dict[str, tuple[int, int, int]]:
    """Read each counter's cap, settled and reserved."""
    query = select(budget.c.scope, budget.c.cap_nano, budget.c.settled_nano, budget.c.reserved_nano)
    return ledger.reading(lambda connection: {row[0]: tuple(row[1:]) for row in connection.execute(query)})


async def test_a_call_is_reserved_and_settled_in_all_its_counters_at_once(ledger: Ledger) -> None:
    roles = {"editor": RoleCaps(per_task=40, per_day=60)}
    caps = Caps(per_day=100, jobs={"daily": JobCaps(per_run=50, per_day=80)}, roles=roles)
    budgets = Budgets(ledger, Clock(), PARIS, caps)
    reservation = await budgets.reserve(SCOPE, 30, role="editor")
    assert rows(ledger) == {
        "day:2026-11-22": (100, 0, 30),
        "job:daily:2026-11-22": (80, 0, 30),
        "role:editor:2026-11-22": (60, 0, 30),
        "run:daily/2026-11-22": (50, 0, 30),
        "task:editor:daily/2026-11-22/s1": (40, 0, 30),
    }
    await budgets.settle(reservation, 12)
    assert {value[1:] for value in rows(ledger).values()} == {(12, 0)}


async def test_what_cannot_fit_is_refused_and_leaves_no_trace(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100, jobs={"daily": JobCaps(per_run=50)}))
    with pytest.raises(BudgetExceeded, match=r"does not fit into the budget run:daily/2026-11-22 of \$0\.00000005"):
        await budgets.reserve(SCOPE, 51)
    assert {name: reserved for name, (_, _, reserved) in rows(ledger).items()} == {
        "day:2026-11-22": 0,
        "run:daily/2026-11-22": 0,
    }
    assert issubclass(BudgetExceeded, Skip)


async def test_a_cap_can_be_used_up_exactly(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100))
    await budgets.settle(await budgets.reserve(SCOPE, 60), 60)
    await budgets.settle(await budgets.reserve(SCOPE, 40), 40)
    with pytest.raises(BudgetExceeded):
        await budgets.reserve(SCOPE, 1)


async def test_a_caller_waits_for_what_others_give_back(ledger: Ledger) -> None:
    clock = Clock()
    budgets = Budgets(ledger, clock, PARIS, Caps(per_day=100))
    first = await budgets.reserve(SCOPE, 80)
    clock.during.append(budgets.settle(first, 10))
    await budgets.reserve(SCOPE, 80)
    assert rows(ledger)["day:2026-11-22"] == (100, 10, 80)
    assert clock.slept > 0


async def test_who_waits_too_long_is_deferred(ledger: Ledger) -> None:
    clock = Clock()
    budgets = Budgets(ledger, clock, PARIS, Caps(per_day=100))
    await budgets.reserve(SCOPE, 80)
    with pytest.raises(Deferred, match="other calls hold the budget day:2026-11-22"):
        await budgets.reserve(SCOPE, 80)
    assert 60 <= clock.slept < 63


async def test_many_callers_of_several_processes_never_pass_the_cap(tmp_path: Path) -> None:
    cap, worst, actual = 10_000, 700, 333
    ledgers = [Ledger.open(f"sqlite:///{tmp_path}/ledger.db") for _ in range(3)]
    peak = 0

    async def caller(own: Ledger, budgets: Budgets) -> int:
        nonlocal peak
        try:
            reservation = await budgets.reserve(SCOPE, worst)
        except Skip:
            return 0
        except Deferred:  # a minute has passed on this clock; the item would be taken up again
            return await caller(own, budgets)
        _, settled, reserved = rows(own)["day:2026-11-22"]
        peak = max(peak, settled + reserved)
        await budgets.settle(reservation, actual)
        return actual

    callers = [caller(own, Budgets(own, Clock(), PARIS, Caps(per_day=cap))) for own in ledgers for _ in range(16)]
    spent = sum(await asyncio.gather(*callers))
    assert peak <= cap
    assert rows(ledgers[0])["day:2026-11-22"] == (cap, spent, 0)
    assert cap - worst < spent <= cap
    for own in ledgers:
        own.close()


async def test_of_callers_who_do_not_fit_together_as_many_as_fit_are_let_through(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100))
    written: list[list[Any]] = []
    also = Also(lambda _, rows: written.append(list(rows)), "row")
    asked = [asyncio.create_task(budgets.reserve(SCOPE, 30, also=also)) for _ in range(8)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    granted = [each for each in found if not isinstance(each, BaseException)]
    assert len(granted) == 3
    assert {type(each) for each in found} - {type(granted[0])} == {Deferred}
    assert rows(ledger)["day:2026-11-22"] == (100, 0, 90)
    assert [row for group in written for row in group] == [("row", "2026-11-22")] * 3
    assert sum(each.warned for each in granted) == 1


async def test_the_budget_day_is_the_date_on_the_wall(ledger: Ledger) -> None:
    late = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    reservation = await Budgets(ledger, Clock(late), PARIS, Caps()).reserve(SCOPE, 1)
    assert reservation.day == "2026-11-23"


async def test_exactly_one_caller_is_told_that_the_budget_is_nearly_spent(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100))
    warned = [(await budgets.reserve(SCOPE, 20)).warned for _ in range(5)]
    assert warned == [False, False, False, True, False]


async def test_a_raised_budget_counts_at_once(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100))
    await budgets.settle(await budgets.reserve(SCOPE, 100), 100)
    assert ledger.writing(lambda connection: raise_cap(connection, day_counter("2026-11-22"), 100, 50)) == 150
    await budgets.reserve(SCOPE, 50)
    assert ledger.writing(lambda connection: raise_cap(connection, day_counter("2026-11-23"), 100, 50)) == 150
    assert list(ledger.reading(owed_reports)) == ["2026-11-22", "2026-11-23"], "the cap stands in their reports"


def per_day(ledger: Ledger, cap: int) -> Budgets:
    """The budgets of a process that was started while schedule.yaml said `cap`."""
    return Budgets(ledger, Clock(), PARIS, Caps(per_day=cap))


def raised(ledger: Ledger, cap: int, more: int) -> int:
    return ledger.writing(lambda connection: raise_cap(connection, day_counter("2026-11-22"), cap, more))


async def test_an_edited_cap_counts_for_the_next_process_whichever_way_it_was_edited(ledger: Ledger) -> None:
    await per_day(ledger, 100).settle(await per_day(ledger, 100).reserve(SCOPE, 100), 90)
    higher = per_day(ledger, 200)
    await higher.settle(await higher.reserve(SCOPE, 110), 10)
    with pytest.raises(BudgetExceeded, match=r"of \$0\.00000015, of which \$0\.0000001 are spent"):
        await per_day(ledger, 150).reserve(SCOPE, 51)
    await per_day(ledger, 150).reserve(SCOPE, 50)


async def test_what_was_raised_comes_on_top_of_the_cap_as_it_stands_in_the_file(ledger: Ledger) -> None:
    assert raised(ledger, 100, 30) == 130
    await per_day(ledger, 100).settle(await per_day(ledger, 100).reserve(SCOPE, 130), 130)
    assert raised(ledger, 120, 5) == 155, "the file says 120 meanwhile"
    await per_day(ledger, 120).settle(await per_day(ledger, 120).reserve(SCOPE, 25), 25)
    with pytest.raises(BudgetExceeded):
        await per_day(ledger, 120).reserve(SCOPE, 1)
    assert (await per_day(ledger, 200).reserve(SCOPE, 80)).worst == 80


async def test_a_cap_lowered_below_what_is_spent_refuses_at_once_and_says_why(ledger: Ledger) -> None:
    raised(ledger, 100, 10)
    await per_day(ledger, 100).settle(await per_day(ledger, 100).reserve(SCOPE, 90), 90)
    lower = Budgets(ledger, clock := Clock(), PARIS, Caps(per_day=50))
    said = r"day:2026-11-22 of \$0\.00000006 \(\$0\.00000001 of it raised by hand\), of which \$0\.00000009 are spent"
    with pytest.raises(BudgetExceeded, match=said):
        await lower.reserve(SCOPE, 1)
    assert clock.slept == 0


async def test_a_running_process_keeps_the_cap_it_was_started_with_and_hears_of_a_raise(ledger: Ledger) -> None:
    running, edited = per_day(ledger, 100), per_day(ledger, 50)
    await edited.settle(await edited.reserve(SCOPE, 50), 50)
    await running.settle(await running.reserve(SCOPE, 50), 50)
    with pytest.raises(BudgetExceeded):
        await running.reserve(SCOPE, 10)
    raised(ledger, 50, 10)
    await running.reserve(SCOPE, 10)


async def test_the_budget_of_a_role_counts_all_its_jobs(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(roles={"editor": RoleCaps(per_day=100)}))
    await budgets.settle(await budgets.reserve(SCOPE, 60, role="editor"), 60)
    elsewhere = Scope("weekly", "2026-11-22", "s1", "r_2")
    with pytest.raises(BudgetExceeded, match="role:editor:2026-11-22"):
        await budgets.reserve(elsewhere, 60, role="editor")
    await budgets.reserve(elsewhere, 60, role="analyst")


async def test_rows_of_the_caller_share_the_transaction(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100))

    def broken(*_: object) -> None:
        raise RuntimeError("no room for the row")

    with pytest.raises(RuntimeError):
        await budgets.reserve(SCOPE, 10, also=Also(broken))
    assert rows(ledger) == {}


async def test_a_very_long_key_still_has_a_budget_of_its_own(ledger: Ledger) -> None:
    budgets = Budgets(ledger, Clock(), PARIS, Caps(per_day=100, roles={"editor": RoleCaps(per_task=10)}))
    for last in "ab":
        await budgets.reserve(Scope("daily", "2026-11-22", "k" * 300 + last, "r_1"), 10, role="editor")
    tasks = [name for name in rows(ledger) if name.startswith("task:")]
    assert len(tasks) == 2
    assert max(map(len, tasks)) <= 255


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "$0.00"), (10 * NANO, "$10.00"), (1_500_000_000, "$1.50"), (10, "$0.00000001")]
)
def test_money_is_written_without_rounding(nano: int, text: str) -> None:
    assert dollars(nano) == text
