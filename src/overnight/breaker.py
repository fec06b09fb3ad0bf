"""Circuit breakers: a dependency that fails is left alone for a while, and its items are deferred, not failed.

Closed, each process counts by itself: five failures in a row, or half of ten and more calls within a minute, open the
circuit for all processes of the ledger. Open, nothing is sent. After a minute, twice as long each time up to ten, one
caller of all processes sends a probe: its success closes the circuit, its failure opens it again. A probe that gives no
verdict (cancelled, or still under way after its time) leaves its place to the next.

Answers prove life, refusals included: 4xx are successes here, and 429 is the business of the rate limits.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from overnight import logs
from overnight.clock import Clock, token
from overnight.errors import Deferred, Downstream, Invalid, Permanent, Stop, Transient, Unknown
from overnight.ledger import Ledger
from overnight.ledger.flow import Circuit, InLedger, InMemory, Rows, Store

T = TypeVar("T")

FRESH = 1.0  # seconds for which the ledger's word on the circuit is taken as true
_ALIVE = re.compile(r"(?:http|s3)_4(?:09|29)|s3_mismatch|ramp_limit_exceeded|smtp_4(?!21)\d\d|rate_limit")


@dataclass(frozen=True, slots=True)
class Policy:
    """When to open and for how long: counts, a fraction of calls, and seconds."""

    in_a_row: int = 5
    rate: float = 0.5
    at_least: int = 10
    window: float = 60.0
    open_for: float = 60.0
    open_at_most: float = 600.0
    probe: float = 60.0

    def pause(self, times: int, chance: float) -> float:
        """Seconds to stay open for the `times`-th time in a row; up to a tenth more, so that not all return at once."""
        longest: float = min(self.open_for * 2 ** min(times - 1, 30), self.open_at_most)
        return longest * (1 + chance / 10)


@dataclass(slots=True)
class Window:
    """What happened lately, in bins of a second: calls and failures of the last `length` seconds, failures in a row."""

    length: float
    in_a_row: int = 0
    _bins: deque[list[int]] = field(default_factory=deque)  # second, calls, failures

    def add(self, now: float, *, failed: bool) -> None:
        """Count one call."""
        self.in_a_row = self.in_a_row + 1 if failed else 0
        second = int(now)
        if not self._bins or self._bins[-1][0] != second:
            self._bins.append([second, 0, 0])
        self._bins[-1][1] += 1
        self._bins[-1][2] += failed
        while self._bins[0][0] <= second - self.length:
            self._bins.popleft()

    @property
    def calls(self) -> int:
        """Calls counted."""
        return sum(calls for _, calls, _ in self._bins)

    @property
    def failures(self) -> int:
        """Failures among them."""
        return sum(failures for _, _, failures in self._bins)


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to send one request, given in the state of this `generation`; `probe` names the one probe."""

    generation: int
    probe: str | None = None


class Breaker:
    """The circuit of one dependency."""

    def __init__(self, name: str, clock: Clock, store: Store, policy: Policy) -> None:
        self.name = name
        self._clock = clock
        self._store = store
        self._policy = policy
        self._window = Window(policy.window)
        self._circuit = Circuit(generation=-1)  # nothing is known yet
        self._until = 0.0  # monotonic: until when nobody may probe
        self._heard_at = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`, as last heard."""
        return self._circuit.state

    async def check(self) -> None:
        """Refuse while open, before anything is reserved or waited for. Raises Deferred."""
        await self._refresh()
        self._refuse_while_open()

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[Permit]:
        """Send one request within; how the block ends is the verdict.

        Raises Deferred, before the block, while the circuit is open or another caller probes. A verdict that cannot be
        booked is lost, and never takes the place of what the block has raised or was given.
        """
        permit = await self._permit()
        try:
            yield permit
        except BaseException as error:
            await self._told(permit, verdict(error))
            raise
        await self._told(permit, success=True)

    async def report(self, permit: Permit, success: bool | None) -> None:
        """Book how a permitted request ended; None: nobody can tell. What belongs to an older state is ignored."""
        if permit.probe is not None:
            await self._probed(permit, permit.probe, success)
        elif success is not None and permit.generation == self._circuit.generation:
            self._window.add(self._clock.monotonic(), failed=not success)
            if not success and self._full():
                await self._open(permit.generation)

    async def _told(self, permit: Permit, success: bool | None) -> None:
        try:
            await self.report(permit, success)
        except Exception as error:  # noqa: BLE001  whatever the ledger has
            logs.get().warning(f"{self.name}: how a request ended could not be booked", error=type(error).__name__)

    async def _permit(self) -> Permit:
        await self._refresh()
        while self.state != "closed":
            async with self._asking:  # one of this process asks for all
                if self.state != "closed":
                    self._refuse_while_open()
                    probe = await self._claimed(self._circuit)
                    if probe is not None:
                        return probe
        return Permit(self._circuit.generation)

    def _refuse_while_open(self) -> None:
        wait = self._until - self._clock.monotonic()
        if self._circuit.state != "closed" and wait > 0:
            doing = "is being tried again" if self._circuit.state == "half_open" else "has failed too often"
            raise Deferred(f"{self.name} {doing}: not asked for {wait:.0f} s", code="breaker_open", after=wait)

    async def _refresh(self) -> None:
        if self._clock.monotonic() - self._heard_at < FRESH:
            return
        async with self._asking:
            if self._clock.monotonic() - self._heard_at >= FRESH:
                circuit = await self._store.read(lambda rows: rows.circuit(self.name))
                if circuit.generation >= self._circuit.generation:  # else it was read before we wrote
                    self._hear(circuit)
                self._heard_at = self._clock.monotonic()

    def _hear(self, circuit: Circuit) -> None:
        """Take over what the ledger says. Its times are of the wall clock, which may be wrong: none counts too long."""
        self._heard_at = self._clock.monotonic()
        if circuit.generation != self._circuit.generation:
            self._window = Window(self._policy.window)
        if circuit != self._circuit:
            self._circuit = circuit
            self._until = self._heard_at + self._left(circuit)

    def _left(self, circuit: Circuit) -> float:
        if circuit.state == "half_open":
            return self._seconds(circuit.probe_until, self._policy.probe)
        return self._seconds(circuit.opened_until, self._policy.pause(circuit.open_count, 1.0))

    def _seconds(self, until: datetime | None, most: float) -> float:
        return 0.0 if until is None else min(most, max(0.0, (until - self._clock.now()).total_seconds()))

    def _full(self) -> bool:
        window, policy = self._window, self._policy
        many = window.calls >= policy.at_least and window.failures >= policy.rate * window.calls
        return many or window.in_a_row >= policy.in_a_row

    async def _open(self, generation: int) -> None:
        """Open for all, unless somebody else has done so."""
        chance = self._clock.random()
        closed = Circuit("closed", generation)
        self._circuit = self._opened(closed, chance)  # of this process nobody waits for the commit
        self._until = self._clock.monotonic() + self._left(self._circuit)
        await self._transition(lambda now: now.generation == generation, lambda _: self._opened(closed, chance))

    def _opened(self, before: Circuit, chance: float) -> Circuit:
        times = before.open_count + 1
        until = self._clock.now() + timedelta(seconds=self._policy.pause(times, chance))
        return Circuit("open", before.generation + 1, times, until)

    async def _claimed(self, seen: Circuit) -> Permit | None:
        """Become the one probe: whoever first replaces the state that was `seen` by all."""
        who = token(8)

        def probing(before: Circuit) -> Circuit:
            until = self._clock.now() + timedelta(seconds=self._policy.probe)
            return replace(before, state="half_open", probe_by=who, probe_until=until)

        circuit = await self._transition(lambda now: _same(now, seen), probing)
        return Permit(circuit.generation, who) if circuit.probe_by == who else None

    async def _probed(self, permit: Permit, who: str, success: bool | None) -> None:
        """Close on success, also of a probe that took too long; open again on the failure of the one that counts."""
        chance = self._clock.random()

        def counts(now: Circuit) -> bool:
            ours = now.state == "half_open" and now.generation == permit.generation
            return ours and (success is True or now.probe_by == who)

        def ended(before: Circuit) -> Circuit:
            if success is None:
                return replace(before, state="open", probe_by=None, probe_until=None)
            return Circuit("closed", before.generation + 1) if success else self._opened(before, chance)

        await self._transition(counts, ended)

    async def _transition(self, if_: Callable[[Circuit], bool], to: Callable[[Circuit], Circuit]) -> Circuit:
        """Change the shared state in one transaction if it still is as expected; returns what it is then."""

        def change(rows: Rows) -> Circuit:
            circuit = rows.circuit(self.name)
            if if_(circuit):
                circuit = to(circuit)
                rows.put_circuit(self.name, circuit)
            return circuit

        circuit = await self._store.change(change)
        self._hear(circuit)
        return circuit


class Breakers:
    """The breakers by dependency, shared through the ledger; without one they hold for this process alone."""

    def __init__(
        self, clock: Clock, ledger: Ledger | None = None, *, policy: Policy | None = None, store: Store | None = None
    ) -> None:
        self._clock = clock
        self._store = store or (InLedger(ledger) if ledger else InMemory())
        self._policy = policy or Policy()
        self._known: dict[str, Breaker] = {}

    def of(self, dependency: str, policy: Policy | None = None) -> Breaker:
        """Return the breaker of `dependency`; the same object, with the `policy` of the first, for all callers."""
        if dependency not in self._known:
            self._known[dependency] = Breaker(dependency, self._clock, self._store, policy or self._policy)
        return self._known[dependency]


def verdict(error: BaseException) -> bool | None:
    """Whether the other side was alive: True for an answer, False for none or a broken one, None for neither."""
    if isinstance(error, Transient):
        return bool(_ALIVE.fullmatch(error.code))
    if isinstance(error, Permanent | Invalid | Downstream | Stop):
        return True
    if isinstance(error, Unknown | OSError | TimeoutError):
        return False
    return None  # cancelled, or ours


def _same(now: Circuit, seen: Circuit) -> bool:
    return (now.generation, now.state, now.probe_by) == (seen.generation, seen.state, seen.probe_by)
