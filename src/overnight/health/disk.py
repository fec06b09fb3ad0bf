"""How much room is left wherever we write, each file system once."""

import asyncio
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from overnight.health.report import Finding
from overnight.schedule import Schedule
from overnight.threads import in_own_thread

LOW = 200 * 1024 * 1024  # bytes
FEW = 1000  # files that can still be made
TIMEOUT = 1.5  # seconds: below the patience of a check


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has left; `files` is None where it does not count them, `error` says why nothing is known."""

    device: int = 0
    free: int = 0
    files: int | None = None
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether it is enough for a while."""
        return not self.error and self.free >= LOW and (self.files is None or self.files >= FEW)

    def __str__(self) -> str:
        few = f" and only {self.files} files" if self.files is not None and self.files < FEW else ""
        return self.error or f"{self.free // 1024**2} MB free{few}"


def places(root: Path, schedule: Schedule, ledger: Path | None) -> dict[str, Path]:
    """Where a project writes, by what it is for; a ledger on a server, mail to a relay and a bucket are not here."""
    found = {"var": root / "var", "spool": root / schedule.reports.spool}
    if ledger is not None:
        found["ledger"] = ledger.parent
    if schedule.mail.transport.startswith("outbox:"):
        found["outbox"] = root / schedule.mail.transport.removeprefix("outbox:")
    if "://" not in schedule.reports.to:
        found["reports"] = root / schedule.reports.to
    return found


@dataclass(slots=True)
class Disks:
    """Asks for each place in a thread of its own; one that has not answered, as a dead network folder, is asked once.

    Otherwise each look would leave another thread behind.
    """

    _asked: dict[Path, "asyncio.Task[Room]"] = field(default_factory=dict)

    async def rooms(self, where: Mapping[str, Path]) -> dict[str, Room]:
        """What is left, by the names of the places that share it. Takes TIMEOUT at most."""
        tasks = {name: self._task(path) for name, path in where.items()}
        await asyncio.wait(set(tasks.values()), timeout=TIMEOUT)
        silent = Room(error=f"no answer within {TIMEOUT:g} s")
        found = {name: task.result() if task.done() else silent for name, task in tasks.items()}
        alike: dict[tuple[int, str], list[str]] = {}
        for name, room in found.items():
            alike.setdefault((room.device, room.error), []).append(name)
        return {", ".join(names): found[names[0]] for names in alike.values()}

    def _task(self, path: Path) -> "asyncio.Task[Room]":
        task = self._asked.get(path)
        if task is None or task.done():
            task = self._asked[path] = asyncio.create_task(in_own_thread("disk", partial(_room, path)))
        return task


def finding(rooms: Mapping[str, Room]) -> Finding:
    """The least room counts."""
    told = "; ".join(f"{names}: {room}" for names, room in rooms.items())
    known: Collection[int] = [room.free for room in rooms.values() if not room.error]
    good = all(room.good for room in rooms.values())
    return Finding("healthy" if good else "degraded", told, min(known, default=None), "bytes")


def _room(path: Path) -> Room:
    """What is left where `path` is, or will be made."""
    try:
        status = os.statvfs(path)
        return Room(path.stat().st_dev, status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)
    except (FileNotFoundError, NotADirectoryError):
        return _room(path.parent) if path.parent != path else Room(error="there is no such folder")
    except OSError as error:
        return Room(error=error.strerror or type(error).__name__)
