"""Who is alive: an OS file lock that dies with its process, and a lease for owners on other machines.

There is no "running" flag that could stick: a run whose lock is free, or whose lease has run out, was interrupted. A
lease is renewed only while the event loop ticks, so that also a process which is stopped, or blocks its loop for longer
than the lease, is succeeded; when it wakes, the fence of each transaction refuses what it writes.
"""

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from overnight import logs
from overnight.clock import Clock
from overnight.errors import ConfigError, Fenced, Refused, Stop
from overnight.ledger import Ledger
from overnight.ledger.runs import LEASE, lease_of, renew
from overnight.ledger.turn import turn
from overnight.outcome import Scope

HOST = socket.gethostname()
RENEW_EVERY = LEASE.total_seconds() / 4
NOTING_SECONDS = 2.0  # how long somebody who wants a process to end at once waits for what he has wanted before
TURN_SECONDS = 10  # others have their turn for a millisecond


@contextmanager
def slot_lock(root: Path, job: str, slot: str, hung: Callable[[int], bool] = lambda _pid: False) -> Iterator[None]:
    """Hold the slot's file lock for the length of the block. Raises Refused while another process holds it.

    `hung(pid)` says that the process which holds it has let its lease run out: then it keeps the lock of a file that is
    no more, and we have that of the new one.
    """
    with _one_at_a_time(root):
        descriptor = _open(root, job, slot)
        if not _lock(descriptor) and hung(_holder(descriptor)):
            os.close(descriptor)
            _path(root, job, slot).unlink()
            descriptor = _open(root, job, slot)
        held = _lock(descriptor)
        if held:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    try:
        if not held:
            raise Refused(
                f"{job} {slot} is being run by another process on this machine; wait for it, or `overnight cancel` it"
            )
        yield
    finally:
        if held:
            _remove(_path(root, job, slot), descriptor)
        os.close(descriptor)


def _remove(path: Path, descriptor: int) -> None:
    """Leave no file behind of every slot there ever was: a job that runs each minute has half a million a year.

    In our turn, in which nobody has opened it and not yet locked it. Not that of who has taken over from us.
    """
    with suppress(OSError), turn(path.with_name("turn"), 1) as mine:
        if mine and os.path.samestat(os.fstat(descriptor), path.stat()):
            path.unlink()


async def hung_holder(root: Path, ledger: Ledger, clock: Clock, job: str, slot: str) -> Callable[[int], bool]:
    """Make the question `hung` of `slot_lock`: whether the process that holds it is stopped, or its loop blocked.

    After a suspended machine, or a clock set forward, every lease looks old: while the slot is locked, who lives has 16
    seconds to renew its own first.
    """
    silent = ledger.reading(lease_of, job, slot)
    if silent is None or silent["until"] is None or silent["until"] > clock.now() or _is_free(root, job, slot):
        return lambda _pid: False
    await clock.sleep(RENEW_EVERY + 1)
    same = (silent["host"], silent["fence"], silent["until"]) == (HOST, *_term(ledger, job, slot))
    return lambda pid: same and pid == silent["pid"]


def _term(ledger: Ledger, job: str, slot: str) -> tuple[int, datetime | None]:
    held = ledger.reading(lease_of, job, slot)
    return (0, None) if held is None else (held["fence"], held["until"])


def is_dead(root: Path, held: Mapping[Any, Any], now: datetime) -> bool:
    """Whether the owner of a lease is gone: its lock is free here, or its lease has run out anywhere.

    A lease that reaches far beyond its length is of a clock that was ahead: by then another process has the number.
    """
    if held["until"] <= now:
        return True
    ahead = held["until"] > now + 2 * LEASE
    return held["host"] == HOST and _is_free(root, held["job"], held["slot"]) and (ahead or not _exists(held["pid"]))


def ask_to_end(root: Path, *, job: str, slot: str, host: str) -> int:
    """Send SIGINT to the run that holds the slot on this machine; returns its process, 0 when there is none yet.

    Nobody is to go on with it: SIGTERM would say that only the machine wants it to end. It is the one whose number is
    in the lock: until a run has opened, the lease names the scheduler that has claimed the slot, which must live on.
    """
    pid = _locked_by(root, job, slot) if host == HOST else 0
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    return pid


def _is_free(root: Path, job: str, slot: str) -> bool:
    return _locked_by(root, job, slot) == 0


def _locked_by(root: Path, job: str, slot: str) -> int:
    with _one_at_a_time(root):  # whoever starts just now must not find the file locked by our question
        try:
            descriptor = os.open(_path(root, job, slot), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return 0 if _lock(descriptor) else _holder(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(descriptor: int) -> int:
    """The process that has locked this file: it has written its number in the same turn."""
    return int(os.pread(descriptor, 20, 0))


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Nobody else takes a lock, or puts a new file in the place of a hung process's. Raises Refused after 10 s.

    ConfigError when the files of locks cannot be written, as after a command that was once given by root.
    """
    folder = root / "var" / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with turn(folder / "turn", TURN_SECONDS) as mine:
            if not mine:
                raise Refused(
                    f"another process has kept {folder / 'turn'} for over {TURN_SECONDS} s and is probably stopped: "
                    "find it with `fuser`, and let it go on (kill -CONT) or end it (kill -KILL)"
                )
            yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        who = f"who runs overnight must be able to write there, here the user with the id {os.geteuid()}"
        raise ConfigError(f"{error.filename or folder}: {error.strerror}: {who}") from error


def _exists(pid: int) -> bool:
    """A scheduler holds a lease without the lock between its claim and its child's start.

    One that is gone and was not waited for yet, as after a kill of its parent, is no more.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return state_of(pid) != "Z"


def state_of(pid: int) -> str:
    """The letter by which the kernel tells what a process does; empty where there is no /proc to ask."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return told.rpartition(")")[2].split()[0]


def _open(root: Path, job: str, slot: str) -> int:
    return os.open(_path(root, job, slot), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _path(root: Path, job: str, slot: str) -> Path:
    return root / "var" / "locks" / f"{job}.{slot}.lock"


@asynccontextmanager
async def kept_lease(ledger: Ledger, scope: Scope, clock: Clock, lost: Callable[[Fenced], None]) -> AsyncIterator[None]:
    """Renew the lease while this event loop ticks; `lost` hears when somebody else has taken over."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)  # noqa: TID251  of the loop that has to tick: a test's clock may jump
            try:
                await ledger.write(lambda connection: renew(connection, scope, clock.now()))
            except Fenced as error:
                lost(error)
                return
            except Stop as error:  # locked, or the disk is full: the items' own writes will tell
                logs.get().warning("the lease could not be renewed", job=scope.job, slot=scope.slot, error=str(error))

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()


def end_at_once(noting: "asyncio.Future[None] | None") -> None:
    """End this process with 130: every outcome so far is durable, and what is in flight is resumed.

    That a person has asked it to end (`noting`) is written first, or his run would be gone on with; it has 2 seconds.
    """
    if noting is None or noting.done():
        os._exit(130)
    noting.add_done_callback(lambda _noted: os._exit(130))
    asyncio.get_running_loop().call_later(NOTING_SECONDS, os._exit, 130)
