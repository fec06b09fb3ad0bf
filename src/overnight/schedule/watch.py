"""schedule.yaml as a running process follows it: a valid change is taken, a broken file leaves the old one in force."""

from dataclasses import dataclass, field
from pathlib import Path

from overnight.clock import Clock
from overnight.errors import ConfigError
from overnight.schedule.loading import load
from overnight.schedule.model import Schedule

SETTLE = 1.0  # seconds that a change has to stay as it is: half a file can be valid, and lack jobs

Stamp = tuple[int, int, int]


@dataclass(slots=True)
class Watch:
    """Looks at the file by time, size and inode: this works on network folders and with editors that replace it.

    `problem` is what is wrong with the file as it is now, None when it is the one in force. `path` is read once
    it has not been written to for a second; until then it is `unsettled`.
    """

    path: Path
    clock: Clock
    problem: str | None = None
    _seen: Stamp | None = field(default=None)
    _last: Stamp | None = field(default=None)
    _since: float = 0.0

    def __post_init__(self) -> None:
        """The file as it is now is the one in force."""
        self._seen = self._last = self._stamp()

    @property
    def unsettled(self) -> bool:
        """Whether it has changed just now, and somebody may still be writing it."""
        return self._last != self._seen and self.clock.monotonic() - self._since < SETTLE

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
        self.problem = None
        return schedule

    def _stamp(self) -> Stamp | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
