"""One simulated machine: its clock, its disk, its processes and what it talks to; the engine's own code runs on it.

Replaced are the lowest ports only: the event loop, the clock, random bytes, the thread that commits, `fsync`, process
ids and signals, the start of child processes, and the three other sides; what each process would compile again is
compiled once. SQLite is the real one, on a memory file
system where there is one, and without `fsync`: a simulated crash kills processes, it does not cut the power.
"""

import asyncio
import contextlib
import dataclasses
import errno
import io
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, Self
from unittest.mock import patch

import jinja2
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket as Compilation
from pydantic import TypeAdapter
from sqlalchemy import Connection, bindparam, event, select
from sqlalchemy.exc import OperationalError

from overnight import jobs, liveness, project, publishing
from overnight import ledger as ledgers
from overnight.batch import Picked
from overnight.cli.run import EXIT
from overnight.clock import chance
from overnight.errors import ConfigError, OvernightError, Refused
from overnight.ledger import Ledger, _lockless, presence
from overnight.ledger.tables import effect
from overnight.ledger.writer import Inline, _commit, _resolve
from overnight.mail import smtp, templates
from overnight.mail.consent import keep
from overnight.occurrences import occurrence_of
from overnight.redact import Redactor
from overnight.runner import Request, Workplace, run_slot
from overnight.schedule import Schedule, load
from tests.simulation.loop import Killed, Process, VirtualLoop, check, current, live
from tests.simulation.outside import Bucket, Faults, Model, Relay, die

HOME = Path(__file__).parent / "project"
TURN = 0.1  # seconds of the disk: what comes within one is one commit
START = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(slots=True)
class WorldClock:
    """The machine's clock: `step` is by how much its wall clock is wrong."""

    loop: VirtualLoop
    dice: random.Random
    step: timedelta = timedelta()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.loop.time()) + self.step

    def monotonic(self) -> float:
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

    def random(self) -> float:
        return self.dice.random()


class Disk(Inline):
    """The writer of one process: commits happen at every turn of the disk, so that others can join."""

    def __init__(self, world: "World") -> None:
        super().__init__(world.ledger.engine)
        self.world = world

    def submit(self, many: Any, argument: Any) -> asyncio.Future[Any]:
        check()
        return super().submit(many, argument)

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(TURN - loop.time() % TURN, self.commit)

    def commit(self) -> None:
        """Commit, fail, or die before or after."""
        group, self._group = self._group, []
        try:
            check()
            fault = self.world.faults.draw("commit")
            if fault == "die_before":
                die()
            if fault == "full":
                for op in group:
                    op.error = OperationalError("COMMIT", {}, OSError(errno.ENOSPC, "database or disk is full"))
            else:
                _commit(self.world.ledger.locking, group)
            if fault == "die_after":
                die()
        except Killed:
            return
        _resolve(group)


@dataclass(slots=True)
class Kept(Ledger):
    """The ledger through two connections that stay open: the one thread there is needs no pool of them."""

    lockless: Connection
    locking: Connection

    @classmethod
    def of(cls, ledger: Ledger, stack: ExitStack) -> Self:
        """Open the two for as long as the stack lasts."""
        own = (ledger.engine, ledger.writer, ledger.clock, ledger.presence, ledger.faults)
        return cls(*own, stack.enter_context(_lockless(ledger.engine)), stack.enter_context(ledger.engine.connect()))

    def reading(self, query: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return query(self.lockless, *arguments)
        finally:
            self.lockless.rollback()


class Compiled(BytecodeCache):
    """Templates as they were compiled once: each process of each machine compiles the same ones."""

    codes: ClassVar[dict[str, CodeType | None]] = {}

    def load_bytecode(self, bucket: Compilation) -> None:
        bucket.code = self.codes.get(bucket.checksum)

    def dump_bytecode(self, bucket: Compilation) -> None:
        self.codes[bucket.checksum] = bucket.code


class Written:
    """A file that is being written."""

    def __init__(self, stream: Any, touch: Callable[[str], None]) -> None:
        self._stream, self._touch = stream, touch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stream.close()

    def write(self, data: Any) -> int:
        """Write it, or half of it, and fail or die."""
        try:
            self._touch("write")
        except BaseException:
            self._stream.write(data[: len(data) // 2])
            raise
        written: int = self._stream.write(data)
        return written


@dataclass(eq=False, slots=True)
class Child:
    """A child process as the dispatcher sees it."""

    process: Process

    @property
    def returncode(self) -> int | None:
        return self.process.exited.result() if self.process.exited.done() else None

    @property
    def pid(self) -> int:
        return self.process.pid

    async def wait(self) -> int:
        return await asyncio.shield(self.process.exited)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


@dataclass(slots=True)
class World:
    """A machine with a project on it. `seed` decides everything."""

    root: Path
    seed: int
    faults: Faults
    items: int = 100
    environ: dict[str, str] = field(default_factory=dict)
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    processes: dict[int, Process] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    schedule: Schedule | None = None
    clock: WorldClock = field(init=False)
    ledger: Kept = field(init=False)
    model: Model = field(init=False)
    relay: Relay = field(init=False)
    bucket: Bucket = field(init=False)
    fuses: Callable[[str], int | None] = lambda _name: None
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def __post_init__(self) -> None:
        self.clock = WorldClock(self.loop, random.Random(f"{self.seed} clock"))
        self.model = Model(self.clock, self.faults)
        self.relay = Relay(self.clock, self.faults, lambda ref: self.ledger.reading(_is_done, ref))
        self.bucket = Bucket(self.faults)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let `main()` happen in this world, from its first second to its last."""
        self.loop.set_exception_handler(self._unhandled)
        with ExitStack() as stack:
            self._replace(stack)
            ledger = Ledger.open("sqlite:///var/overnight.db", root=self.root, clock=self.clock, inline=True)
            stack.callback(ledger.close)
            ledger.writing(lambda connection: keep(connection, "smtp relay.test:25", self.clock.now()))
            event.listen(ledger.engine, "connect", _careless)
            ledger.engine.dispose()
            self.ledger = Kept.of(ledger, stack)
            stack.callback(self.loop.close)
            self.loop.run_until_complete(main())

    def workplace(self, ledger: Ledger | None = None) -> Workplace:
        """The project, as a process that has just been started finds it."""
        if self.schedule is None:
            self.schedule = load(self.root / "schedule.yaml", {"OVERNIGHT_SECRET": "sim", **self.environ})
            for settings in self.schedule.jobs.values():
                settings.params["items"] = self.items
        ledger = ledger or dataclasses.replace(self.ledger, writer=Disk(self))
        return Workplace(self.root, self.schedule, ledger, self.clock, Redactor())

    def start(self, name: str, main: Callable[[], Coroutine[Any, Any, int]]) -> Process:
        """Start a process."""
        pid = next(self._pids)
        process = Process(pid, name, self.loop.create_future(), self.fuses(name))
        self.processes[pid] = process
        living = self.loop.create_task(live(process, main), context=_outside())
        living.add_done_callback(lambda done: self._over(process, done))
        return process

    def _over(self, process: Process, done: "asyncio.Task[None]") -> None:
        self.processes.pop(process.pid)
        if not done.cancelled() and (error := done.exception()) is not None:
            self.troubles.append(f"{process.name}: {type(error).__name__}: {error}")
            if not process.exited.done():
                process.exited.set_result(1)

    async def spawn(self, *command: str, **_settings: Any) -> Child:
        """Take the place of `asyncio.create_subprocess_exec`."""
        check()
        arguments = list(command[command.index("run") + 1 :])
        return Child(self.start(" ".join(arguments), lambda: self.command(arguments)))

    async def command(self, arguments: list[str]) -> int:
        """Do what `overnight run` does for the dispatcher; returns its exit code."""
        return await self.ran(requested(self.ledger, arguments))

    async def ran(self, request: Request) -> int:
        """Do what `overnight run` does; returns its exit code. An error that is none of ours is a bug, and is told."""
        try:
            result = await run_slot(self.workplace(), request)
        except Refused:
            return 4
        except ConfigError:
            return 2
        except OvernightError:
            return 1
        return EXIT[result.status]

    def _replace(self, stack: ExitStack) -> None:
        if not (self.root / "schedule.yaml").exists():
            shutil.copytree(HOME, self.root, dirs_exist_ok=True)
        stack.enter_context(attached(self.root))
        stack.enter_context(chance(random.Random(f"{self.seed} tokens").randbytes))
        opened = type("Opened", (), {"open": lambda *_, **__: self.model})
        replaced: list[tuple[Any, str, Any]] = [
            (smtp, "dial", self.relay.dial),
            (asyncio, "create_subprocess_exec", self.spawn),
            (os, "getpid", lambda real=os.getpid: process.pid if (process := current()) else real()),
            (os, "kill", self._signal),
            (liveness, "state_of", lambda _pid: ""),
            (io, "open", self._opening(io.open)),
            (os, "fsync", lambda _descriptor: self._touch("fsync")),
            (os, "link", self._touching("link", os.link)),
            (os, "rename", self._touching("rename", os.rename)),
            (os, "replace", self._touching("rename", os.replace)),
            (presence, "_identity", lambda _name: None),  # nobody moves the ledger's file here
            (publishing, "open_store", self.bucket.opened),
            (ledgers, "turn", lambda _file, _patience: nullcontext(True)),  # one thread takes turns with nobody
            (templates, "Environment", partial(Environment, bytecode_cache=Compiled())),
            (jinja2, "Environment", partial(Environment, bytecode_cache=Compiled())),  # that of prompts
            (jobs, "TypeAdapter", cache(TypeAdapter)),
            (project, "load_reports", cache(project.load_reports)),
            (project, "code_version", cache(project.code_version)),
        ]
        for where, name, new in replaced:
            stack.enter_context(patch.object(where, name, new))
        stack.enter_context(patch("overnight.ports.Model", opened))

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Files that a process writes: of one that fails half is there, as on a disk that is full."""

        def opened(file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
            stream = real(file, mode, *arguments, **more)
            return Written(stream, self._touch) if current() and mode[0] in "wxa" else stream

        return opened

    def _touching(self, step: str, real: Callable[..., None]) -> Callable[..., None]:
        def touch(*arguments: Any, **more: Any) -> None:
            self._touch(step)
            real(*arguments, **more)

        return touch

    def _touch(self, step: str) -> None:
        """Let a process change something on the disk, or not."""
        fault = self.faults.draw(step) if current() else ""
        if fault == "die":
            die()
        if fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")

    def _signal(self, pid: int, number: int) -> None:
        process = self.processes.get(pid)
        if process is None:
            raise ProcessLookupError(pid)
        if number == signal.SIGTERM:
            process.terminate()

    def _unhandled(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, asyncio.CancelledError):
            self.troubles.append(f"unhandled: {context['message']}: {error!r}")


def requested(ledger: Ledger, arguments: list[str]) -> Request:
    """The request of a command line that the dispatcher writes."""
    job, rest = arguments[0], dict(zip(arguments[1::2], arguments[2::2], strict=True))
    if (id_ := rest.get("--occurrence")) is not None:
        row = ledger.reading(occurrence_of, id_)
        assert row is not None
        return Request(job, row["slot"], kind="scheduled", run_id=row["run_id"] or "")
    kind, selection = {"rest": ("resume", "due"), "deferred": ("sweep", "deferred")}[rest["--sweep"]]
    return Request(job, rest["--slot"], kind=kind, picked=Picked(selection))


def _is_done(connection: Connection, ref: str) -> bool:
    return connection.execute(_STATE, {"ref": ref}).scalar_one_or_none() == "done"


_STATE = select(effect.c.state).where(effect.c.ref == bindparam("ref"))


def _careless(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-65536")  # KiB: a machine with memory


def _outside() -> Any:
    """A context in which no process is current."""
    import contextvars

    from tests.simulation import loop

    context = contextvars.copy_context()
    context.run(loop._current.set, None)
    return context


@contextmanager
def attached(root: Path) -> Iterator[None]:
    """Make this project's jobs and reports the ones that are found, and undo that."""
    import sys

    before = [finder.root for finder in sys.meta_path if isinstance(finder, project._Finder)]
    project.attach(root)
    try:
        yield
    finally:
        for earlier in before:
            project.attach(earlier)
        if not before:
            with contextlib.suppress(ValueError):
                sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, project._Finder)]
