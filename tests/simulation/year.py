"""A year of nights in a world: what the machine, the weather and people do, and what is looked at every noon."""

import asyncio
import dataclasses
import gc
import hashlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Connection, bindparam, func, or_, select, text

from overnight import logs
from overnight.dispatcher import Dispatcher
from overnight.errors import Stop
from overnight.ledger.runs import owed_reports
from overnight.ledger.tables import DEFERRED, UNSETTLED, entry, item, lease, metadata, occurrence
from overnight.occurrences import set_pause
from overnight.redact import Redactor
from overnight.service import _either
from tests.simulation.invariants import Books, violations
from tests.simulation.loop import Process
from tests.simulation.weather import DAY, HOUR, Weather
from tests.simulation.world import World

SOON, LATER = 900.0, 3600.0  # seconds between looks while something is unsettled, and for deferred items
GIVEN_UP = timedelta(hours=7)  # what is older than max_age is left alone
EDITIONS = ("30 2 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *")  # what people make of the time of `letters`


class Broken(AssertionError):
    """An invariant does not hold; the message says how to see it again."""


@dataclass(frozen=True, slots=True)
class History:
    """What a simulation came to; `digest` is the same for the same seed."""

    seed: int
    nights: int
    digest: str
    items: int
    runs: int
    killed: int
    mails: int
    unknown: int
    calls: int


@dataclass(slots=True)
class Year:
    """The nights of one world."""

    world: World
    weather: Weather
    nights: int
    killed: int = 0
    books: Books = field(init=False)
    _daemons: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.books = Books(self.world)

    async def live(self) -> None:
        """Live through all nights."""
        for night in range(self.nights):
            self.weather.plan(night * DAY)
            for at, act in sorted(self._events(night * DAY), key=lambda event: event[0]):
                await self._until(at)
                await act()
            await self._until((night + 1) * DAY)
            await self._rest()
            if found := violations(self.books, last=night == self.nights - 1):
                self._tell(night, found)

    def _tell(self, night: int, found: list[str]) -> None:
        seed = self.world.seed
        again = f"make simulate SEED={seed} NIGHTS={night + 1} ITEMS={self.world.items}"
        raise Broken(f"seed {seed}, night {night + 1}:\n  " + "\n  ".join(found[:20]) + f"\nTo see it again: {again}")

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.world.loop.time()))

    async def _rest(self) -> None:
        """Wait until no run is under way: invariants are looked at between runs."""
        while running := [p for p in self.world.processes.values() if p.name != "serve"]:
            await asyncio.wait([process.exited for process in running])

    def _events(self, noon: float) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """What the machine and people do in a night."""
        happens, between = self.weather.happens, self.weather.between
        events: list[tuple[float, Callable[[], Awaitable[None]]]] = [(noon + HOUR, self._serve)]
        events += [(noon + hour * HOUR, self._serve) for hour in (12.2, 13, 14, 18)]
        if happens(0.1):
            events.append((noon + between(12, 12.4) * HOUR, self._second))
        if happens(0.05):
            events.append((noon + between(2, 13) * HOUR, self._off))
        if happens(0.06):
            step = timedelta(hours=between(-3, 3))
            events.append((noon + between(6, 16) * HOUR, lambda: self._step(step)))
            events.append((noon + between(16, 20) * HOUR, lambda: self._step(timedelta())))
        if happens(0.05):
            events.append((noon + between(12.5, 12.504) * HOUR, self._terminate))
        if happens(0.02):
            events.append((noon + 2 * HOUR, self._edit))
        if happens(0.02):
            events.append((noon + 3 * HOUR, self._pause))
        if happens(0.2):
            events.append((noon + between(1, 4) * HOUR, self._resume))
        return events

    async def _serve(self) -> None:
        """Start the scheduler where none is running, as systemd does."""
        self._daemons = [process for process in self._daemons if not process.exited.done()]
        if not self._daemons:
            await self._second()

    async def _second(self) -> None:
        """Start a scheduler, whether or not there is one."""
        self._daemons.append(self.world.start("serve", lambda: serving(self.world)))

    async def _off(self) -> None:
        """Switch the machine off for some hours, or days."""
        for process in list(self.world.processes.values()):
            process.kill()
        hours = self.weather.between(0, 12) if self.weather.happens(0.8) else self.weather.between(12, 60)
        await asyncio.sleep(hours * HOUR)

    async def _step(self, to: timedelta) -> None:
        """Set the wall clock, wrongly or right."""
        self.world.clock.step = to
        self.books.steps.append(self.world.loop.time())

    async def _terminate(self) -> None:
        """Ask a run to end."""
        for process in list(self.world.processes.values()):
            if process.name != "serve":
                process.terminate()

    async def _edit(self) -> None:
        """Give `letters` another time."""
        schedule = self.world.schedule
        assert schedule is not None
        cron = self.weather.dice.choice(EDITIONS)
        letters = schedule.jobs["letters"].model_copy(update={"cron": cron})
        letters._name, letters._project_zone = "letters", schedule.jobs["letters"].zone
        self.world.schedule = schedule.model_copy(update={"jobs": schedule.jobs | {"letters": letters}})
        await self._look()

    async def _look(self) -> None:
        """See to it that a scheduler looks now: who edits, pauses or resumes has one that does so within a minute."""
        for process in self._daemons:
            process.kill()
        await asyncio.sleep(1)
        await self._serve()
        await asyncio.sleep(1)

    async def _pause(self) -> None:
        await self._look()
        job, now = self.weather.dice.choice(("letters", "agents", "chores")), self.world.clock.now()
        self.world.ledger.writing(lambda connection: set_pause(connection, job, now, "a test", now))

    async def _resume(self) -> None:
        await self._look()
        now = self.world.clock.now()
        for job in self.world.ledger.reading(_paused):
            self.world.ledger.writing(lambda connection, job=job: set_pause(connection, job, None, None, now))


def _paused(connection: Connection) -> list[str]:
    return list(connection.execute(select(entry.c.job).where(entry.c.paused_at.is_not(None))).scalars())


async def serving(world: World) -> int:
    """`overnight serve` without its web page; it looks less often, which is what a sleepy machine does."""
    wake = asyncio.Event()
    dispatcher = Dispatcher(world.workplace(), on_end=wake.set)
    while True:
        wake.clear()
        assert world.schedule is not None
        dispatcher.work = dataclasses.replace(dispatcher.work, schedule=world.schedule)
        try:
            await dispatcher.look()
        except Stop:  # the disk is full: `serve` looks again in a minute
            await _either(wake, 60)
        else:
            await _either(wake, _pause_after(world))


def _pause_after(world: World) -> float:
    """Seconds until there is something to look for."""
    assert world.schedule is not None
    now = world.clock.now()
    unsettled, deferred, since = world.ledger.reading(_open, now - GIVEN_UP)
    nexts = []
    for name, settings in world.schedule.jobs.items():
        at = settings.trigger().next(since.get(name, now))
        nexts.append(now if at is None else at)
    wait = (min(nexts) - now).total_seconds()
    if unsettled or wait <= 0:
        return SOON
    if deferred is not None:
        wait = min(wait, max((deferred - now).total_seconds(), LATER))
    return wait + 1


def _open(connection: Connection, lately: datetime) -> tuple[bool, datetime | None, dict[str, datetime]]:
    """Whether anything is under way, when deferred items are due, and since when each job's next time counts."""
    begun, deferred = connection.execute(_LEFT, {"lately": lately}).one()
    entries = connection.execute(_ENTRIES)
    since = {job: max(filter(None, (counts, last))) for job, counts, last in entries}
    return begun or bool(owed_reports(connection)), deferred, since


_WAITING = select(occurrence.c.id).where(UNSETTLED, occurrence.c.noted_at > bindparam("lately"))
_HELD = select(lease.c.run_id).where(lease.c.until > bindparam("lately"))
_DEFERRED = select(func.min(item.c.next_at)).where(DEFERRED)
_LEFT = select(or_(_WAITING.exists(), _HELD.exists()), _DEFERRED.scalar_subquery())
_LAST = select(func.max(occurrence.c.scheduled_for)).where(occurrence.c.job == entry.c.job)
_ENTRIES = select(entry.c.job, entry.c.effective_since, _LAST.scalar_subquery())


def simulate(
    seed: int, nights: int, items: int = 100, *, after: Callable[[Year], None] = lambda _year: None
) -> History:
    """Live through `nights` of a seed; `after` may look at the end. Raises Broken when an invariant does not hold."""
    memory = Path("/dev/shm")  # noqa: S108
    with quietly(), tidied_seldom(), tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        weather = Weather(seed)
        world = World(Path(folder), seed, weather, items=items, fuses=weather.fuse)
        weather.time = world.loop.time
        year = Year(world, weather, nights)
        kept: list[History] = []

        async def main() -> None:
            await year.live()
            kept.append(world.ledger.reading(_history, year))
            after(year)

        world.run(main)
        return kept[0]


@contextmanager
def quietly() -> Iterator[None]:
    """Log nothing, and leave structlog as it was."""
    before = structlog.get_config()
    with Path("/dev/null").open("w") as nowhere:
        logs.configure(level="critical", shown="critical", stream=nowhere, redactor=Redactor())
        yield
    structlog.configure(**before)


@contextmanager
def tidied_seldom() -> Iterator[None]:
    """Look for garbage after 50,000 new objects instead of 700, which costs a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    yield
    gc.set_threshold(*before)


def _history(connection: Connection, year: Year) -> History:
    """Count, and digest every row of the ledger and all books of the other sides."""
    world, digest = year.world, hashlib.sha256()
    for table in metadata.sorted_tables:
        keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
        rows = connection.connection.cursor().execute(f'SELECT * FROM "{table.name}" ORDER BY {keys}')
        for row in rows:
            digest.update(repr(row).encode())
    outside = [sorted(world.relay.spool.items()), [b.cost_nano for b in world.model.bill], sorted(world.bucket.files)]
    digest.update(json.dumps([*outside, world.loop.time()]).encode())

    def count(query: str) -> int:
        return int(connection.execute(text(query)).scalar_one())

    return History(
        seed=world.seed,
        nights=year.nights,
        digest=digest.hexdigest(),
        items=count("SELECT coalesce(sum(pending + ok + failed + retry + skipped + unknown), 0) FROM slot"),
        runs=count("SELECT count(*) FROM run"),
        killed=count("SELECT count(*) FROM run WHERE reason = 'its process died'"),
        mails=sum(world.relay.spool.values()),
        unknown=count("SELECT count(*) FROM effect WHERE state IN ('unknown', 'intent')"),
        calls=count("SELECT count(*) FROM call"),
    )
