"""Rate limits: token buckets that callers wait for in the order they came, shared by all processes of a ledger.

Over all processes, a bucket lets `burst + rate x t` through in every window of `t` seconds, never more, in the ledger's
milliseconds. The burst is ten seconds' worth of the rate. A single request heavier than the burst is not refused: it
waits until the bucket holds all of it, so for such a bucket the burst is its heaviest request. What exceeds the limit
of a whole period is refused, as no wait helps. Waiting here does not count in an item's timeout.

A process does not ask the ledger for each request: it leases about a second's worth of each bucket of a dependency, or
what the request at the head needs, in one transaction, and spends that by itself. Where there is not enough yet, it
queues in the ledger and comes back when there should be. Leased tokens count as being in the bucket, so that it does
not fill up behind them; those of a process that died run out. What requests give back counts when it comes back.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from overnight.clock import Clock, token
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, Permanent
from overnight.ledger import Ledger
from overnight.ledger.flow import DUST, TICK, Ask, InLedger, InMemory, Level, Rows, Store, milliseconds, without

BURST = 10.0  # seconds
CHUNK = 1.0  # seconds' worth of the rate that a process leases ahead
VALID = 2.0  # seconds in which a lease is spent; others count on it for GRACE longer
GRACE = 1.0  # seconds
LONGEST_WAIT = 60.0  # seconds a worker may be held; beyond it the item is taken up again by a sweep
LONGEST_PAUSE = 900.0  # seconds; who asks for more is asked again then
SLICE = 1.0  # seconds asleep at most: what others give back or ask for is seen then
SERVER_PERIOD = 60.0  # seconds that `anthropic-ratelimit-*-limit` is about


class Rate(Protocol):
    """So many (`count`) per so many seconds (`per`)."""

    @property
    def count(self) -> int:
        """Requests, tokens or messages."""
        ...

    @property
    def per(self) -> int:
        """Seconds."""
        ...


@dataclass(slots=True)
class Bucket:
    """One limit as this process sees it: what it has leased, and what the ledger held when it last looked.

    `balance` is leased and not spent, and can be spent until `until` (monotonic seconds). `credit` is what requests
    have given back, or used beyond what they took. `held` (as of `held_at`) is how much of it the bucket could not fill
    up behind, as it was not spent yet; it falls with the rate from then on. `waited`: seconds not in the ledger yet.
    """

    name: str
    limit: Rate
    rate: float = field(init=False)
    seen: float = field(init=False)
    seen_at: float = 0.0
    balance: float = 0.0
    credit: float = 0.0
    until: float = -math.inf
    queued: float = 0.0
    spent: float = 0.0
    held: float = 0.0
    held_at: float = 0.0
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.rate = self.nominal
        self.seen = self.burst

    @property
    def nominal(self) -> float:
        """Tokens per second, as configured."""
        return self.limit.count / self.limit.per

    @property
    def burst(self) -> float:
        """Tokens at once."""
        return min(max(self.rate * BURST, 1.0), float(self.limit.count))

    def check(self, weight: int, now: float) -> float:
        """Refuse at the door what would wait too long; how long it is to wait. Raises Permanent, Deferred."""
        if weight > self.limit.count:
            raise Permanent(
                f"{self.name}: {weight} at once can never pass a limit of {self.limit.count} per {self.limit.per} s; "
                "raise the limit in schedule.yaml or make the request smaller",
                code="over_limit",
            )
        return self.bound((self.queued + weight - self.level(now)) / self.rate)

    def bound(self, wait: float) -> float:
        """Free the worker from a wait that is too long. Raises Deferred."""
        if wait > LONGEST_WAIT:
            raise Deferred(f"{self.name}: the queue is {wait:.0f} s long", code="rate_limit", after=wait)
        return wait

    def level(self, now: float) -> float:
        """What could be had now, as far as this process knows; below zero: what is to be waited for."""
        return min(self.burst, self.seen + (now - self.seen_at) * self.rate) + self.balance + self.credit

    def lacks(self, weight: float, now: float) -> bool:
        """Whether `weight` is more than was leased."""
        return now > self.until or weight > self.balance + self.credit + DUST

    def hold(self, now: float) -> None:
        """Note what has not been spent until now."""
        self.held = max(self.held - (now - self.held_at) * self.nominal, self.balance + self.credit)
        self.held_at = now

    def spend(self, weight: float, now: float) -> None:
        """Take it from what was leased."""
        self.hold(now)
        self.credit -= max(0.0, weight - self.balance)
        self.balance = max(0.0, self.balance - weight)
        self.spent += weight

    def ask(self, need: float, elapsed: float, now: float) -> Ask:
        """Return what to ask for: what is spent in a second, approached by doubling, or `need` where that is more."""
        self.hold(now)
        speed = self.spent * 2 if elapsed < CHUNK else self.spent / elapsed * CHUNK
        want = max(need, min(need + speed, self.rate * CHUNK)) if need else 0.0
        waited = int(self.waited / TICK)
        return Ask(self.balance, self.credit, self.held, need, want, self.queued, self.rate, self.burst, waited)


@dataclass(slots=True)
class Grant:
    """What a request was let through with; `settle` it with what was really used."""

    taken: dict[str, int]
    buckets: Mapping[str, Bucket]

    def settle(self, **used: int) -> None:
        """Correct the buckets by real usage; a bucket that is not named keeps what was taken."""
        for kind, taken in self.taken.items():
            self.buckets[kind].credit += taken - used.get(kind, taken)
            self.taken[kind] = used.get(kind, taken)

    def refund(self) -> None:
        """Give all back: the request was never sent."""
        self.settle(**dict.fromkeys(self.taken, 0))


class Limit:
    """The limits of one other side (anthropic, github, a relay): all its buckets, and one pause for all callers."""

    def __init__(self, name: str, rates: Mapping[str, Rate], clock: Clock, store: Store, holder: str) -> None:
        self.name = name
        self._buckets = {
            kind: Bucket(f"{name}.{kind}", rate, seen_at=clock.monotonic()) for kind, rate in rates.items()
        }
        self._clock = clock
        self._store = store
        self._holder = holder
        self._turn = asyncio.Lock()
        self._leasing: asyncio.Task[dict[str, float]] | None = None
        self._leased_at = -math.inf
        self._alone = False
        self._heard_at = -math.inf
        self._resumes = -math.inf

    async def acquire(self, **weights: int) -> Grant:
        """Wait for one request of these weights (`requests=1, input_tokens=900`); what has no limit is let through.

        Raises Deferred when the wait would hold the worker too long, Permanent when no wait helps.
        """
        wanted = {kind: weight for kind, weight in weights.items() if weight and kind in self._buckets}
        now = self._clock.monotonic()
        waits = {kind: self._buckets[kind].check(weight, now) for kind, weight in wanted.items()}
        self._queue(wanted, 1)
        try:
            async with off_the_clock(), self._turn:
                await self._passed(wanted)
        finally:
            self._queue(wanted, -1)
            if waits:  # for the scarcest, as far as was known
                self._buckets[max(waits, key=waits.__getitem__)].waited += self._clock.monotonic() - now
        return Grant(wanted, self._buckets)

    def pause(self, seconds: float) -> None:
        """Hold all callers of all processes, for a quarter of an hour at most: the other side asked for it."""
        held = min(seconds, LONGEST_PAUSE)
        until = self._clock.monotonic() + held
        if not held > 0 or until <= self._resumes + DUST:
            return  # hundreds are told the same at once
        self._resumes = until
        at = self._clock.now() + timedelta(seconds=held)
        self._store.post(lambda rows: self._extend(rows, at))

    def observe(self, headers: Mapping[str, str]) -> None:
        """Lower what the server's `anthropic-ratelimit-*` headers say is less; never raised above what is configured.

        Their limits are per minute. Names of headers are taken in any case; what is no number says nothing.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        for kind, bucket in self._buckets.items():
            prefix = f"anthropic-ratelimit-{kind.replace('_', '-')}"
            if limit := _count(lower.get(f"{prefix}-limit")):
                bucket.rate = min(bucket.nominal, limit / SERVER_PERIOD)
            remaining = _count(lower.get(f"{prefix}-remaining"))
            if remaining is not None and remaining < bucket.level(self._clock.monotonic()) - 1:
                self._lower(bucket, remaining)

    async def give_back(self) -> None:
        """Return what was leased and not used, so that other processes need not wait for it to run out."""
        if any(bucket.balance or bucket.credit or bucket.waited >= TICK for bucket in self._buckets.values()):
            async with self._turn:
                await self._lease({})

    def _queue(self, wanted: Mapping[str, int], sign: int) -> None:
        for kind, weight in wanted.items():
            self._buckets[kind].queued += sign * weight

    async def _passed(self, wanted: Mapping[str, int]) -> None:
        """Wait until all of it is leased, and spend it. Only who has the turn is here."""
        while True:
            await self._resumed()
            now = self._clock.monotonic()
            if not any(self._buckets[kind].lacks(weight, now) for kind, weight in wanted.items()):
                break
            wait = self._alone_for(wanted, now) or await self._lease(wanted)
            lacking = any(self._buckets[kind].lacks(weight, -math.inf) for kind, weight in wanted.items())
            if not wait and not lacking and self._resumes <= self._clock.monotonic():
                break  # however long the ledger took: another lease would take as long
            await self._come_back(wait, wanted)
        for kind, weight in wanted.items():
            self._buckets[kind].spend(weight, self._clock.monotonic())

    def _alone_for(self, wanted: Mapping[str, int], now: float) -> float:
        """Seconds, once, that need not be asked for: nobody else was waiting when we looked a moment ago."""
        alone, self._alone = self._alone and now - self._leased_at < 2 * CHUNK, False
        asks = {kind: self._buckets[kind].ask(weight, now - self._leased_at, now) for kind, weight in wanted.items()}
        waits = [(ask.want - self._buckets[kind].level(now)) / ask.rate for kind, ask in asks.items()]
        return max(0.0, *waits) if alone and waits else 0.0

    async def _come_back(self, wait: float, wanted: Mapping[str, int]) -> None:
        """Sleep; what is given back meanwhile may be enough."""
        until = self._clock.monotonic() + wait
        while (left := until - self._clock.monotonic()) > DUST:
            await self._clock.sleep(min(left, SLICE))
            if any(self._buckets[kind].credit > 0 for kind in wanted):
                return

    async def _resumed(self) -> None:
        if self._clock.monotonic() - self._heard_at >= CHUNK:
            self._hear(await self._store.read(lambda rows: rows.paused_until(self.name)))
        while (wait := self._resumes - self._clock.monotonic()) > DUST:
            if wait > LONGEST_WAIT:
                raise Deferred(f"{self.name} asked to wait another {wait:.0f} s", code="rate_limit", after=wait)
            await self._clock.sleep(wait)

    def _hear(self, until: datetime | None) -> None:
        self._heard_at = self._clock.monotonic()
        if until is not None:  # by the wall clock, which may be wrong: no pause is longer than the longest
            held = min((until - self._clock.now()).total_seconds(), LONGEST_PAUSE)
            self._resumes = max(self._resumes, self._heard_at + held)

    async def _lease(self, wanted: Mapping[str, int]) -> float:
        """Lease anew in one transaction, which a caller that gives up leaves behind to its end.

        Returns the seconds until it is worth coming back; 0.0: leased. Raises Deferred when they are too many.
        """
        if self._leasing is None:
            self._leasing = asyncio.ensure_future(self._leased(wanted))
        waits = await asyncio.shield(self._leasing)
        for kind, wait in waits.items():
            self._buckets[kind].bound(wait)
        return max(waits.values(), default=0.0)

    async def _leased(self, wanted: Mapping[str, int]) -> dict[str, float]:
        try:
            now = self._clock.monotonic()
            elapsed = now - self._leased_at
            asks = {kind: bucket.ask(wanted.get(kind, 0), elapsed, now) for kind, bucket in self._buckets.items()}
            got = await self._store.change(lambda rows: self._trade(rows, asks))
            self._hear(got.resumes)
            for kind, bucket in self._buckets.items():
                self._take(bucket, asks[kind], got.levels[kind])
            if not got.waits:
                self._leased_at = self._clock.monotonic()
                self._alone = not any(level.queue for level in got.levels.values())
            return got.waits
        finally:
            self._leasing = None

    def _trade(self, rows: Rows, asks: Mapping[str, Ask]) -> "_Got":
        """Take all that is asked for, or take nothing and queue for all of it, or for nothing when it takes too long.

        Places in the queues of several buckets are taken together: two processes never wait for each other.
        """
        exact = self._clock.now()
        now = milliseconds(exact)
        levels: dict[str, Level] = {}
        for kind, ask in asks.items():
            found = rows.level(f"{self.name}.{kind}", Level(ask.burst, now))
            levels[kind] = ask.settled(found, self._holder, now)
        needed = {kind: ask for kind, ask in asks.items() if ask.need}
        if any(self._holder not in levels[kind].queue for kind in needed):
            levels = {kind: without(level, self._holder) for kind, level in levels.items()}
        waits = {kind: ask.wait(levels[kind], self._holder) for kind, ask in needed.items()}
        longest = max(waits.values(), default=0.0)
        for kind, level in levels.items():
            mine = needed.get(kind)
            if mine is None or longest > LONGEST_WAIT:
                levels[kind] = without(level, self._holder)
            elif longest > 0:
                levels[kind] = mine.lined_up(level, self._holder, now + timedelta(seconds=longest + GRACE))
            else:
                levels[kind] = mine.leased(level, self._holder, now + timedelta(seconds=VALID + GRACE))
            rows.put_level(f"{self.name}.{kind}", levels[kind])
        since = (exact - now).total_seconds()
        # a tick at least: until the next one the ledger's answer is the same, and who does not sleep asks for ever
        waits = {kind: max(wait - since, TICK) for kind, wait in waits.items()} if longest > 0 else {}
        return _Got(levels, waits, rows.paused_until(self.name))

    def _take(self, bucket: Bucket, ask: Ask, level: Level) -> None:
        lease = level.leases.get(self._holder)
        bucket.seen, bucket.seen_at = level.tokens, self._clock.monotonic()
        bucket.balance = lease.amount if lease else 0.0
        bucket.credit -= ask.credit  # what was given back in the meantime stays
        bucket.waited -= ask.waited_ms * TICK
        if lease:
            bucket.until = bucket.seen_at + (lease.until - self._clock.now()).total_seconds() - GRACE
            bucket.spent = 0.0
        bucket.held, bucket.held_at = bucket.balance + bucket.credit, bucket.seen_at

    def _lower(self, bucket: Bucket, remaining: float) -> None:
        """Set the shared level to what the server has left; who has leased some may still spend that second's worth."""
        bucket.seen, bucket.seen_at = min(bucket.seen, remaining), self._clock.monotonic()
        new = Level(bucket.burst, milliseconds(self._clock.now()))

        def lowered(rows: Rows) -> None:
            level = rows.level(bucket.name, new)
            if level.tokens > remaining:
                rows.put_level(bucket.name, replace(level, tokens=remaining))

        self._store.post(lowered)

    def _extend(self, rows: Rows, until: datetime) -> None:
        known = rows.paused_until(self.name)
        if known is None or known < until:
            rows.put_pause(self.name, until)


@dataclass(frozen=True, slots=True)
class _Got:
    """What one transaction brought, by kind; `waits` are the seconds until it is worth coming back."""

    levels: Mapping[str, Level]
    waits: dict[str, float]
    resumes: datetime | None


class Limits:
    """The limits by dependency; a dependency without any lets everything through, unless it asked for a pause.

    A name may go on after a colon: `smtp:relay.example.org:587` has its own buckets, with the rates of `smtp`. Without
    a ledger they hold for this process alone.
    """

    def __init__(
        self,
        rates: Mapping[str, Mapping[str, Rate]],
        clock: Clock,
        ledger: Ledger | None = None,
        *,
        store: Store | None = None,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._store = store or (InLedger(ledger) if ledger else InMemory())
        self._holder = token(6)
        self._known: dict[str, Limit] = {}

    def of(self, dependency: str) -> Limit:
        """Return the limits of `dependency`; the same object for all callers."""
        if dependency not in self._known:
            rates = self._rates.get(dependency) or self._rates.get(dependency.partition(":")[0]) or {}
            self._known[dependency] = Limit(dependency, rates, self._clock, self._store, self._holder)
        return self._known[dependency]

    async def close(self) -> None:
        """Return what was leased and not used."""
        for limit in self._known.values():
            await limit.give_back()


def _count(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
