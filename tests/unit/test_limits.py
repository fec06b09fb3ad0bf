"""Rate limits: what passes in any window, in which order, and what is refused."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from overnight.errors import Deferred, Permanent
from overnight.ledger import Ledger
from overnight.ledger.flow import TICK, InMemory, LedgerRows, Level, Rows, Store
from overnight.limits import Limit, Limits
from tests.slots import ManualClock, open_ledger

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """So many per so many seconds."""

    count: int
    per: int


class Virtual:
    """A clock that jumps to the next sleeper when nobody else has anything to do."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._order), awake))
        await awake.wait()

    async def run(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run all of `work` to its end; returns results and errors."""
        tasks = [asyncio.create_task(each) for each in work]
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self.time, _, awake = heapq.heappop(self._sleepers)
                awake.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def at(clock: Virtual, when: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Await `work` when it is time."""
    if when:
        await clock.sleep(when)
    return await work


Event = tuple[int, int, int]  # second, weight, process
SHORT: list[Event] = [
    *((4, 14, 2), (5, 45, 1), (2, 25, 2), (11, 14, 1), (4, 13, 1), (2, 33, 2), (17, 47, 2), (5, 45, 1), (6, 33, 2)),
    *((9, 19, 0), (8, 19, 0), (15, 56, 1), (6, 2, 0), (4, 40, 2)),
]
events = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60), st.integers(0, 2)), min_size=1, max_size=25)


def passed(events: list[Event], count: int, store: Store, clock: Virtual) -> list[tuple[float, int]]:
    """Let callers of three processes come at their times; returns when what passed."""
    limits = [Limits({"api": {"tokens": Rate(count, 60)}}, clock, store=store).of("api") for _ in range(3)]
    granted: list[tuple[float, int]] = []

    async def caller(weight: int, process: int) -> None:
        await limits[process].acquire(tokens=weight)
        granted.append((clock.time, weight))

    asyncio.run(clock.run(*(at(clock, when, caller(weight, process)) for when, weight, process in events)))
    return granted


def within(granted: list[tuple[float, int]], burst: float, rate: float) -> None:
    """Check every window: the excess over `rate` since any grant never passes the burst."""
    total, least = 0.0, 0.0
    for moment, weight in granted:
        least = min(least, total - rate * moment)
        total += weight
        assert total - rate * moment - least <= burst + rate * TICK + 1e-3


def windows(events: list[Event], count: int) -> None:
    granted = passed(events, count, InMemory(), Virtual())
    within(granted, max(count / 60 * 10, *(weight for _, weight, _ in events)), count / 60)


@settings(max_examples=100, deadline=None)
@example([(0, 1, 0), (1, 1, 0), (2, 1, 0), (2, 20, 0)], 120)  # a lease that is spent late
@example(SHORT, 512)  # a wait of less than a tick of the ledger's clock
@example([(0, 1, 0), (0, 1, 0), (1, 1, 0), (2, 1, 0), (2, 21, 0)], 121)
@given(events, st.integers(60, 600))
def test_no_window_lets_more_through_than_burst_and_rate(events: list[Event], count: int) -> None:
    windows(events, count)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(events, st.integers(60, 600))
def test_no_window_of_thousands_does(events: list[Event], count: int) -> None:
    windows(events, count)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 60), st.just(0)), min_size=1, max_size=25),
    st.integers(60, 600),
)
def test_no_window_of_one_process_does(events: list[Event], count: int) -> None:
    windows(events, count)


class Counted:
    """The rows of a ledger, written at once in this thread: virtual time does not wait for other threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.writes = 0

    async def read(self, query: Callable[[Rows], T]) -> T:
        return self.ledger.reading(lambda connection: query(LedgerRows(connection, locked=False)))

    async def change(self, change: Callable[[Rows], T]) -> T:
        self.writes += 1
        return self.ledger.writing(lambda connection: change(LedgerRows(connection)))

    def post(self, change: Callable[[Rows], object]) -> None:
        self.ledger.writing(lambda connection: change(LedgerRows(connection)))


async def demand(clock: Virtual, limit: Limit, dice: random.Random, until: float, log: list[tuple[float, int]]) -> None:
    """Ask again and again, for calls that take a while."""
    while clock.time < until:
        weight = dice.randint(50, 400)
        await limit.acquire(requests=1, tokens=weight)
        log.append((clock.time, weight))
        await clock.sleep(dice.random())


@pytest.mark.slow
def test_three_processes_of_one_ledger_share_the_rate_and_use_all_of_it(tmp_path: Path) -> None:
    clock, dice, length = Virtual(), random.Random(11), 180.0  # noqa: S311  a simulation
    ledger = open_ledger(tmp_path, ManualClock())
    store = Counted(ledger)
    rates = {"api": {"requests": Rate(6000, 60), "tokens": Rate(60_000, 60)}}
    processes = [Limits(rates, clock, store=store).of("api") for _ in range(3)]
    log: list[tuple[float, int]] = []
    asyncio.run(clock.run(*(demand(clock, limit, dice, length, log) for limit in processes * 8)))
    within(log, 10_000, 1000)
    assert sum(weight for when, weight in log if when <= length) >= 0.99 * 1000 * length
    assert store.writes <= 2.2 * 3 * length, "a second's worth is one write to queue for it and one to take it"
    ledger.close()


@pytest.mark.parametrize("callers", [1, 20])
def test_one_process_uses_all_of_its_rate_with_a_write_a_second(tmp_path: Path, callers: int) -> None:
    clock = Virtual()
    ledger = open_ledger(tmp_path, ManualClock())
    store = Counted(ledger)
    limit = Limits({"smtp": {"messages": Rate(50, 1)}}, clock, store=store).of("smtp")
    sent = 0

    async def sender() -> None:
        nonlocal sent
        while clock.time < 20:
            await limit.acquire(messages=1)
            sent += 1

    asyncio.run(clock.run(*(sender() for _ in range(callers))))
    assert 0.99 * 50 * 20 <= sent <= 50 * 20 + 50 + callers
    assert store.writes <= 20 * 1.3 + 10, store.writes
    ledger.close()


async def test_callers_pass_in_the_order_they_came() -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")
    order: list[int] = []

    async def caller(number: int, weight: int) -> None:
        await limit.acquire(tokens=weight)
        order.append(number)

    await clock.run(*(caller(number, weight) for number, weight in enumerate([10, 8, 1, 1, 5, 1])))
    assert order == [0, 1, 2, 3, 4, 5]


async def test_waiters_that_give_up_cost_the_others_nothing() -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")

    async def patient() -> float:
        await limit.acquire(tokens=10)
        return clock.time

    async def gone() -> None:
        waiters = [asyncio.create_task(limit.acquire(tokens=5)) for _ in range(5)]
        await clock.sleep(0.5)
        for waiter in waiters:
            waiter.cancel()

    await limit.acquire(tokens=10)
    [_, at_last] = await clock.run(gone(), at(clock, 0.6, patient()))
    assert at_last == pytest.approx(10, abs=0.1)


async def test_what_was_not_used_lets_others_pass_sooner() -> None:
    clock = Virtual()
    limit = Limits({"api": {"output_tokens": Rate(60, 60)}}, clock).of("api")
    grant = await limit.acquire(requests=1, output_tokens=10)

    async def waiting() -> float:
        await limit.acquire(output_tokens=10)
        return clock.time

    async def done() -> None:
        grant.settle(output_tokens=1)

    [waited, _] = await clock.run(waiting(), at(clock, 0.5, done()))
    assert 0.9 < waited < 2.1


async def test_a_pause_holds_every_caller() -> None:
    clock = Virtual()
    limit = Limits({}, clock).of("api")
    limit.pause(12)

    async def caller() -> float:
        await limit.acquire(requests=1)
        return clock.time

    assert await clock.run(caller(), caller()) == [12, 12]


async def test_a_long_pause_and_a_long_queue_free_the_worker() -> None:
    clock = Virtual()
    limits = Limits({"api": {"tokens": Rate(600, 600)}}, clock)
    limits.of("other").pause(90)
    with pytest.raises(Deferred) as paused:
        await limits.of("other").acquire(requests=1)
    with pytest.raises(Deferred) as queued:
        await limits.of("api").acquire(tokens=200)
    assert (paused.value.after, queued.value.after) == (90, 190)


async def test_what_no_wait_can_let_through_is_refused() -> None:
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, Virtual()).of("api")
    with pytest.raises(Permanent, match=r"61 at once can never pass a limit of 60 per 60 s"):
        await limit.acquire(tokens=61)


async def test_a_refusal_by_one_bucket_gives_back_the_others() -> None:
    clock = Virtual()
    limit = Limits({"api": {"requests": Rate(6, 60), "tokens": Rate(60, 60)}}, clock).of("api")
    with pytest.raises(Permanent):
        await limit.acquire(requests=1, tokens=100)
    await clock.run(limit.acquire(requests=1, tokens=1))
    assert clock.time == 0


async def test_without_limits_everything_passes_at_once() -> None:
    clock = Virtual()
    limits = Limits({}, clock)
    await asyncio.gather(*(limits.of("api").acquire(requests=1, tokens=10**9) for _ in range(100)))
    assert clock.time == 0


def shared(clock: Virtual, count: int = 60, processes: int = 2) -> list[Limit]:
    """The same limit as processes of one ledger see it."""
    store = InMemory()
    return [Limits({"api": {"tokens": Rate(count, 60)}}, clock, store=store).of("api") for _ in range(processes)]


async def test_a_pause_holds_the_callers_of_other_processes(tmp_path: Path) -> None:
    clock = ManualClock()
    ledgers = [open_ledger(tmp_path, clock) for _ in range(2)]
    told, other = (Limits({}, clock, ledger).of("api") for ledger in ledgers)
    await other.acquire(requests=1)
    told.pause(20)
    clock.move(5)
    await ledgers[0].write(lambda _: None)  # a later commit: the pause is there
    await other.acquire(requests=1)
    assert clock.monotonic() == pytest.approx(20)
    for ledger in ledgers:
        ledger.close()


async def test_a_pause_is_a_quarter_of_an_hour_at_most() -> None:
    for seconds in (1e9, float("inf")):
        limit = Limits({}, Virtual()).of("api")
        limit.pause(seconds)
        with pytest.raises(Deferred) as refused:
            await limit.acquire(requests=1)
        assert refused.value.after == 900


async def test_a_pause_of_nonsense_is_none() -> None:
    clock = Virtual()
    limit = Limits({}, clock).of("api")
    for seconds in (float("nan"), -5.0, 0.0):
        limit.pause(seconds)
    await limit.acquire(requests=1)
    assert clock.time == 0


async def test_the_burst_is_there_once_for_all_processes() -> None:
    clock = Virtual()
    one, other = shared(clock)
    times = await clock.run(when(clock, one, 5), when(clock, other, 5), when(clock, one, 4))
    assert sorted(times) == pytest.approx([0, 0, 4], abs=0.01)


async def known(store: Store, name: str) -> int:
    """What the rows say of the waiting for a bucket."""
    return await store.read(lambda rows: rows.level(name, Level(0, datetime.min.replace(tzinfo=UTC))).waited_ms)


async def test_what_callers_of_two_processes_have_waited_adds_up() -> None:
    clock, store, rates, waited = Virtual(), InMemory(), {"tokens": Rate(60, 60), "requests": Rate(600, 60)}, 0.0
    processes = [Limits({"api": rates}, clock, store=store) for _ in range(2)]

    async def caller(limit: Limit) -> float:
        began = clock.time
        await limit.acquire(tokens=5, requests=1)
        return clock.time - began

    for n in (1, 2):
        waited += sum(await clock.run(*(caller(each.of("api")) for each in processes for _ in range(2))))
        assert waited >= 14 * n  # of ten tokens two have five each; the others wait for as many
        for each in processes:
            await each.close()
        assert await known(store, "api.tokens") == pytest.approx(waited * 1000, abs=2 * n)
        assert await known(store, "api.requests") == 0
        clock.time += 60


async def when(clock: Virtual, limit: Limit, weight: int) -> float:
    """Take it; returns the time."""
    await limit.acquire(tokens=weight)
    return clock.time


async def test_what_a_process_gives_back_another_uses_at_once() -> None:
    clock = Virtual()
    one, other = shared(clock)
    grant = await one.acquire(tokens=10)
    grant.refund()
    await one.give_back()
    assert await clock.run(when(clock, other, 10)) == [0]


async def test_a_bucket_does_not_fill_up_behind_what_is_leased() -> None:
    clock = Virtual()
    one, other = shared(clock, count=600)

    first, gone = (asyncio.create_task(one.acquire(tokens=weight)) for weight in (10, 40))
    await asyncio.sleep(0)
    gone.cancel()  # when all that is queued for, 50, is being leased
    await first
    early, late = await clock.run(at(clock, 1.9, when(clock, one, 40)), at(clock, 1.9, when(clock, other, 65)))
    assert early == pytest.approx(1.9)
    assert late >= 1.9 + 0.5, "50 leased and 50 left are a full bucket of 100"


async def test_what_a_dead_process_has_leased_is_in_nobodys_way() -> None:
    clock = Virtual()
    one, other = shared(clock, count=600)
    await one.acquire(tokens=1)
    waiter = asyncio.create_task(one.acquire(tokens=300))
    await asyncio.sleep(0.01)
    waiter.cancel()  # and is never heard of again
    [first] = await clock.run(at(clock, 60, when(clock, other, 100)))
    assert first == 60


async def test_a_caller_that_gives_up_while_leasing_loses_nothing() -> None:
    clock = Virtual()

    class Slow(InMemory):
        async def change(self, change: Callable[[Rows], T]) -> T:
            result = await super().change(change)
            await clock.sleep(0.2)
            return result

    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock, store=Slow()).of("api")

    async def gone() -> None:
        waiter = asyncio.create_task(limit.acquire(tokens=10))
        await clock.sleep(0.1)
        waiter.cancel()

    [_, passed_at] = await clock.run(gone(), at(clock, 0.15, when(clock, limit, 10)))
    assert passed_at == pytest.approx(0.2)


async def test_a_ledger_slower_than_its_leases_stops_nobody() -> None:
    clock = Virtual()

    class Stuck(InMemory):
        async def change(self, change: Callable[[Rows], T]) -> T:
            result = await super().change(change)
            await clock.sleep(5)
            return result

    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock, store=Stuck()).of("api")
    assert await clock.run(when(clock, limit, 1)) == [5]


async def test_a_refund_counts_as_if_nothing_had_been_taken() -> None:
    clock = Virtual()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")
    for _ in range(50):
        grant = await limit.acquire(tokens=10)
        grant.refund()
        grant.refund()  # once is enough
    assert await clock.run(when(clock, limit, 10), when(clock, limit, 5)) == [0, 5]


async def test_what_was_used_beyond_the_estimate_is_paid_for() -> None:
    clock = Virtual()
    limit = Limits({"api": {"input_tokens": Rate(60, 60)}}, clock).of("api")
    grant = await limit.acquire(input_tokens=5)
    grant.settle(input_tokens=15)
    await clock.run(limit.acquire(input_tokens=1))
    assert clock.time == pytest.approx(6)


def headers(limit: object, remaining: object) -> dict[str, str]:
    return {
        "Anthropic-RateLimit-Input-Tokens-Limit": str(limit),
        "anthropic-ratelimit-input-tokens-remaining": str(remaining),
    }


async def test_a_server_that_allows_less_is_believed() -> None:
    clock = Virtual()
    limit = Limits({"api": {"input_tokens": Rate(6000, 60)}}, clock).of("api")
    limit.observe(headers(60, 0))
    times = await clock.run(*(limit.acquire(input_tokens=1) for _ in range(3)))
    assert [type(each).__name__ for each in times] == ["Grant"] * 3
    assert clock.time == pytest.approx(3)


async def test_a_server_that_allows_more_changes_nothing() -> None:
    clock = Virtual()
    limit = Limits({"api": {"input_tokens": Rate(60, 60)}}, clock).of("api")
    limit.observe(headers(60_000, 50_000))
    limit.observe(headers(600, 600))
    await clock.run(*(limit.acquire(input_tokens=5) for _ in range(3)))
    assert clock.time == pytest.approx(5)


@pytest.mark.parametrize("nonsense", ["", "nan", "inf", "-1", "many", "0x10"])
async def test_headers_without_sense_change_nothing(nonsense: str) -> None:
    clock = Virtual()
    limit = Limits({"api": {"input_tokens": Rate(60, 60)}}, clock).of("api")
    limit.observe(headers(nonsense, nonsense))
    limit.observe({})
    await clock.run(limit.acquire(input_tokens=10))
    assert clock.time == 0


async def test_relays_have_the_rates_of_smtp_and_buckets_of_their_own() -> None:
    clock = Virtual()
    limits = Limits({"smtp": {"messages": Rate(6, 60)}}, clock)
    await clock.run(*(limits.of(f"smtp:{host}:587").acquire(messages=1) for host in ("a.example", "b.example")))
    assert clock.time == 0
    await clock.run(limits.of("smtp:a.example:587").acquire(messages=1))
    assert clock.time == pytest.approx(10)


async def test_a_wall_clock_that_jumps_grants_a_burst_at_most() -> None:
    clock = ManualClock()
    limit = Limits({"api": {"tokens": Rate(60, 60)}}, clock).of("api")
    await limit.acquire(tokens=10)
    clock.at += timedelta(hours=3)
    clock.slept.clear()
    await limit.acquire(tokens=10)
    await limit.acquire(tokens=5)
    assert sum(clock.slept) == pytest.approx(5)
