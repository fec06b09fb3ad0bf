"""schedule.yaml as a running process follows it: a valid change is taken, a broken file leaves the old one in force."""

import os
from dataclasses import InitVar, dataclass, field
from pathlib import Path

from overnight.clock import Clock
from overnight.errors import ConfigError
from overnight.schedule.environment import environment
from overnight.schedule.loading import load, loads
from overnight.schedule.model import Schedule
from overnight.schedule.source import read

SETTLE = 1.0  # seconds that a change has to stay as it is: half a file can be valid, and lack jobs

Stamp = tuple[int, int, int]


@dataclass(slots=True)
class Watch:
    """Looks at the file by time, size and inode: this works on network folders and with editors that replace it.

    `text` is the one in force, `problem` what is wrong with the file as it is now. `path` is read once it has not been
    written to for a second; until then it is `unsettled`.
    """

    path: Path
    clock: Clock
    text: InitVar[str]
    problem: str | None = None
    _seen: Stamp | None = field(default=None)
    _last: Stamp | None = field(default=None)
    _since: float = 0.0

    def __post_init__(self, text: str) -> None:
        """The file may have been edited since the one in force was read from it."""
        self._last, self._since = self._stamp(), self.clock.monotonic()
        self._seen = self._last if self._says() == text else None

    @property
    def unsettled(self) -> bool:
        """Whether it has changed just now, and somebody may still be writing it."""
        return self._last != self._seen and self.clock.monotonic() - self._since < SETTLE

    @property
    def touched(self) -> bool:
        """Whether the file is another one than was read last."""
        return self._stamp() != self._seen

    def again(self) -> None:
        """Read it at the next look, whether it was touched or not: what it says also depends on `.env`."""
        self._seen = None

    def changed(self) -> Schedule | None:
        """The new schedule when the file has changed, is written to no more, and is valid."""
        stamp = self._stamp()
        if stamp != self._last:
            self._last, self._since = stamp, self.clock.monotonic()
        if stamp == self._seen or self.unsettled:
            return None
        self._seen = stamp
        try:
            schedule = load(self.path)
        except ConfigError as error:
            self.problem = str(error)
            return None
        except Exception as error:  # noqa: BLE001  a bug of ours, which must not end who wakes the others
            self.problem = f"{self.path.name} meets a bug in overnight: {type(error).__name__}: {error}"
            return None
        self.problem = None
        return schedule

    def _says(self) -> str | None:
        try:
            return read(self.path, self.path.name)
        except ConfigError:
            return None

    def _stamp(self) -> Stamp | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def keep(path: Path, text: str) -> None:
    """Keep beside the file what of it is in force: runs that start while somebody breaks it work by this copy."""
    copy = _copy(path)
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = copy.with_suffix(f".{os.getpid()}")
    new.write_bytes(text.encode())
    new.rename(copy)


def in_force(path: Path) -> Schedule:
    """The schedule by which a scheduler's run works: the file's, or the kept one's. Raises ScheduleErrors.

    `.env` is read anew in both cases.
    """
    try:
        return load(path)
    except Exception:  # whatever is wrong with it
        copy = _copy(path)
        if not copy.exists():
            raise
        return loads(read(copy, copy.name), environment(path.parent, None), copy.name, path.parent)


def _copy(path: Path) -> Path:
    return path.parent / "var" / f"{path.stem}.in-force{path.suffix}"
