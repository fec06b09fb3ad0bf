"""What all processes know of a dependency: its circuit, its rate limits, and its pause.

`InLedger` shares it through the ledger; `InMemory` keeps it for one process. Both take the same functions of `Rows`.
How a bucket is shared out is decided here (`Ask`), when to ask is decided by `limits`.
"""

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Connection, RowMapping, Table, bindparam, case, literal, select

from overnight import logs
from overnight.clock import iso
from overnight.ledger import Ledger
from overnight.ledger.controls import breaker, bucket, pause
from overnight.ledger.statements import Prepared, insert_new, put

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]

POLL = 0.05  # seconds until another look, when those before us in the queue are late
TICK = 0.001  # seconds; the ledger's resolution of time
DUST = 1e-6  # tokens; below it is rounding


@dataclass(frozen=True, slots=True)
class Circuit:
    """The state of a breaker. `generation` tells results of an older state; `probe_by` holds the one probe."""

    state: State = "closed"
    generation: int = 0
    open_count: int = 0
    opened_until: datetime | None = None
    probe_by: str | None = None
    probe_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What a process may spend until a time, or waits for; how much of it is spent is known to that process alone."""

    amount: float
    until: datetime


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket as of `at`: `tokens` left after all that is leased, and who waits for how much, in order.

    `waited_ms` is how long callers have waited for it since the ledger was made.
    """

    tokens: float
    at: datetime
    leases: Mapping[str, Lease] = field(default_factory=dict)
    queue: Mapping[str, Lease] = field(default_factory=dict)
    waited_ms: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process brings back to a bucket, what it must have, and what it would like to have at least.

    `held` is what it has kept from filling up: the bucket fills from when a lease is spent, not from when it was given.
    `waited_ms` is what its callers have waited since it was here last.
    """

    balance: float
    credit: float
    held: float
    need: float
    want: float
    queued: float
    rate: float
    burst: float
    waited_ms: int

    def settled(self, level: Level, holder: str, now: datetime) -> Level:
        """Return the bucket as it is now, without the old lease of this process."""
        queue = {name: wanted for name, wanted in level.queue.items() if name == holder or wanted.until > now}
        first = next(iter(queue.values())).amount if queue else self.want
        leases = {name: lease for name, lease in level.leases.items() if name != holder and lease.until > now}
        lent = [lease.amount for lease in leases.values()]
        room = max(self.burst, first, *lent) - sum(lent)
        # a lease of ours that ran out has come back by itself, when others have seen it
        back, held = (self.balance, self.held) if holder in level.leases else (0.0, self.credit)
        passed = max(0.0, (now - level.at).total_seconds())  # a wall clock set back refills nothing
        tokens = max(min(level.tokens, 0.0), min(room - held, level.tokens + passed * self.rate)) + back + self.credit
        left, waited = max(min(tokens, 0.0), min(room, tokens)), level.waited_ms + self.waited_ms
        return Level(left, now, leases, queue, waited)

    def wait(self, level: Level, holder: str) -> float:
        """Seconds until it is this process's turn and there is enough; 0.0: now."""
        ahead = itertools.takewhile(lambda name: name != holder, level.queue)
        others = [level.queue[name].amount for name in ahead]
        missing = sum(others) + self.want - level.tokens
        if missing <= DUST:
            return POLL if others else 0.0  # who is first is about to come
        return math.ceil(missing / self.rate / TICK - DUST) * TICK

    def amount(self, level: Level, holder: str) -> float:
        """How much to take: all that is queued for, where nobody else waits."""
        alone = not level.queue.keys() - {holder}
        return max(self.want, min(self.queued, level.tokens)) if alone else self.want

    def lined_up(self, level: Level, holder: str, until: datetime) -> Level:
        """Return the bucket with this process in its queue."""
        return replace(level, queue={**level.queue, holder: Lease(self.want, until)})

    def leased(self, level: Level, holder: str, until: datetime) -> Level:
        """Return the bucket with what this process takes of it."""
        lease = Lease(self.amount(level, holder), until)
        left = replace(level, tokens=level.tokens - lease.amount, leases={**level.leases, holder: lease})
        return without(left, holder)


def without(level: Level, holder: str) -> Level:
    """Return the bucket without this process in its queue."""
    return replace(level, queue={name: wanted for name, wanted in level.queue.items() if name != holder})


def milliseconds(instant: datetime) -> datetime:
    """What the ledger can hold: refilling by the same instant that is written down loses and gains nothing."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


class Rows(Protocol):
    """The rows of dependencies, within one transaction."""

    def circuit(self, name: str) -> Circuit:
        """Find a breaker; closed when it is not known."""
        ...

    def put_circuit(self, name: str, circuit: Circuit) -> None:
        """Write a breaker."""
        ...

    def level(self, name: str, new: Level) -> Level:
        """Find a bucket; `new` when it is not known."""
        ...

    def put_level(self, name: str, level: Level) -> None:
        """Write a bucket."""
        ...

    def paused_until(self, dependency: str) -> datetime | None:
        """Until when nobody asks, UTC."""
        ...

    def put_pause(self, dependency: str, until: datetime) -> None:
        """Write a pause."""
        ...


class Store(Protocol):
    """Where the rows live. Functions may run twice, and must leave nothing behind but rows."""

    async def read(self, query: Callable[[Rows], T]) -> T:
        """Look, without a lock."""
        ...

    async def change(self, change: Callable[[Rows], T]) -> T:
        """Read and write in one transaction; returns once it is durable."""
        ...

    def post(self, change: Callable[[Rows], object]) -> None:
        """Queue a change that nobody waits for."""
        ...


class InLedger:
    """Rows shared by all processes of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self, query: Callable[[Rows], T]) -> T:
        """Look, in a thread of its own."""
        return await self._ledger.read(lambda connection: query(LedgerRows(connection, locked=False)))

    async def change(self, change: Callable[[Rows], T]) -> T:
        """Join the next group commit."""
        return await self._ledger.write(_on_rows(change))

    def post(self, change: Callable[[Rows], object]) -> None:
        """Join the next group commit and go on."""
        self._ledger.writer.submit(_each, _on_rows(change)).add_done_callback(_posted)


def _each(connection: Connection, changes: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    return [change(connection) for change in changes]


def _posted(done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logs.get().warning("a pause or level was not shared with other processes", error=str(error))


def _on_rows(change: Callable[[Rows], T]) -> Callable[[Connection], T]:
    return lambda connection: change(LedgerRows(connection))


class InMemory:
    """Rows of this process alone."""

    def __init__(self) -> None:
        self._rows = MemoryRows()

    async def read(self, query: Callable[[Rows], T]) -> T:
        """Look."""
        return query(self._rows)

    async def change(self, change: Callable[[Rows], T]) -> T:
        """Read and write."""
        return change(self._rows)

    def post(self, change: Callable[[Rows], object]) -> None:
        """Read and write at once."""
        change(self._rows)


@dataclass(slots=True)
class LedgerRows:
    """Rows of the ledger; `locked`: those read stay ours until the commit."""

    connection: Connection
    locked: bool = True

    def circuit(self, name: str) -> Circuit:
        """Find a breaker."""
        row = self._found(partial(self._circuit, name), breaker, {"name": name} | asdict(Circuit()))
        if row is None:
            return Circuit()
        return Circuit(**{column: value for column, value in row.items() if column != "name"})

    def put_circuit(self, name: str, circuit: Circuit) -> None:
        """Write a breaker."""
        put(self.connection, breaker, {"name": name} | asdict(circuit))

    def level(self, name: str, new: Level) -> Level:
        """Find a bucket."""
        look = partial(_LEVELS[self.locked].row, self.connection, {"name": name})
        row = self._found(look, bucket, {"name": name} | _columns(new))
        if row is None:
            return new
        tokens, at, leases, queue, waited_ms = row
        return Level(tokens, datetime.fromisoformat(at), _leases(leases), _leases(queue), waited_ms)

    def put_level(self, name: str, level: Level) -> None:
        """Write a bucket."""
        _put_level.one(self.connection, {"name": name} | _columns(level) | {"at": iso(level.at)})

    def paused_until(self, dependency: str) -> datetime | None:
        """Look up a pause."""
        row = _pause.row(self.connection, {"dependency": dependency})
        return None if row is None else datetime.fromisoformat(row[0])

    def put_pause(self, dependency: str, until: datetime) -> None:
        """Write a pause."""
        put(self.connection, pause, {"dependency": dependency, "until": until})

    def _circuit(self, name: str) -> RowMapping | None:
        return self.connection.execute(_CIRCUITS_BY_NAME[self.locked], {"name": name}).mappings().first()

    def _found(self, look: Callable[[], T | None], table: Table, new: dict[str, Any]) -> T | None:
        """Find a row; in a transaction it is made when missing, so that two processes cannot both make it."""
        row = look()
        if self.locked and row is None and insert_new(self.connection, table, [new]) == 0:
            row = look()
        return row


_pause = Prepared(lambda _insert: select(pause.c.until).where(pause.c.dependency == bindparam("dependency")))
_CIRCUIT = select(breaker).where(breaker.c.name == bindparam("name"))
_CIRCUITS_BY_NAME = {True: _CIRCUIT.with_for_update(), False: _CIRCUIT}
_OF_LEVEL = ("tokens", "at", "leases", "queue", "waited_ms")
_LEVEL = select(*(bucket.c[name] for name in _OF_LEVEL)).where(bucket.c.name == bindparam("name"))
_LEVELS = {True: Prepared(lambda _insert: _LEVEL.with_for_update()), False: Prepared(lambda _insert: _LEVEL)}
_put_level = Prepared(
    lambda insert: (new := insert(bucket)).on_conflict_do_update(
        index_elements=[bucket.c.name], set_={name: new.excluded[name] for name in _OF_LEVEL}
    ),
    columns=("name", *_OF_LEVEL),
)


@dataclass(slots=True)
class MemoryRows:
    """Rows in dictionaries."""

    circuits: dict[str, Circuit] = field(default_factory=dict)
    levels: dict[str, Level] = field(default_factory=dict)
    pauses: dict[str, datetime] = field(default_factory=dict)

    def circuit(self, name: str) -> Circuit:
        """Find a breaker."""
        return self.circuits.get(name, Circuit())

    def put_circuit(self, name: str, circuit: Circuit) -> None:
        """Write a breaker."""
        self.circuits[name] = circuit

    def level(self, name: str, new: Level) -> Level:
        """Find a bucket."""
        return self.levels.get(name, new)

    def put_level(self, name: str, level: Level) -> None:
        """Write a bucket."""
        self.levels[name] = level

    def paused_until(self, dependency: str) -> datetime | None:
        """Look up a pause."""
        return self.pauses.get(dependency)

    def put_pause(self, dependency: str, until: datetime) -> None:
        """Write a pause."""
        self.pauses[dependency] = until


@dataclass(frozen=True, slots=True)
class Held:
    """A dependency that nobody asks `until` then (UTC): its circuit is `open`, or it has asked for a pause (`paused`).

    `half_open`: one caller is trying it just now.
    """

    name: str
    state: Literal["open", "half_open", "paused"]
    until: datetime

    def __str__(self) -> str:
        return f"{self.name} {self.state} until {iso(self.until)}"

    @property
    def down(self) -> bool:
        """Whether it has failed; to be asked for patience is nothing unusual."""
        return self.state != "paused"


def held(connection: Connection, now: datetime) -> list[Held]:
    """Which dependencies are left alone now, by name. One that may be tried again is not among them."""
    rows = [row for query in (_CIRCUITS, _PAUSES) for row in connection.execute(query).mappings()]
    return sorted((Held(**row) for row in rows if row["until"] and row["until"] > now), key=lambda one: one.name)


def forgotten(connection: Connection, before: datetime) -> list[str]:
    """Circuits that anybody may try since then, and nobody did: of a relay, bucket or model that is in use no more."""
    return list(connection.execute(_FORGOTTEN, {"before": before}).scalars())


_UNTIL = case((breaker.c.state == "open", breaker.c.opened_until), else_=breaker.c.probe_until)
_CIRCUITS = select(breaker.c.name, breaker.c.state, _UNTIL.label("until")).where(breaker.c.state != "closed")
_PAUSES = select(pause.c.dependency.label("name"), literal("paused").label("state"), pause.c.until)
_FORGOTTEN = (
    select(breaker.c.name)
    .where(breaker.c.state != "closed", bindparam("before", type_=breaker.c.opened_until.type) >= _UNTIL)
    .order_by(breaker.c.name)
)


def _columns(level: Level) -> dict[str, Any]:
    shared = {"leases": _json(level.leases), "queue": _json(level.queue)}
    return {"tokens": level.tokens, "at": level.at, **shared, "waited_ms": level.waited_ms}


def _json(leases: Mapping[str, Lease]) -> str:
    return json.dumps({holder: [lease.amount, iso(lease.until)] for holder, lease in leases.items()})


def _leases(text: str) -> dict[str, Lease]:
    return {
        holder: Lease(amount, datetime.fromisoformat(until)) for holder, (amount, until) in json.loads(text).items()
    }
