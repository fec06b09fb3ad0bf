"""What the log says of one task or run: the file that is written to, and those it was turned over into."""

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

FOLDER = Path("var") / "log"
NAME = "overnight.jsonl"
END = 512 * 1024  # bytes of a file that are read of its end
OWN = ("timestamp", "level", "message", "run_id", "worker_id")  # what every line has


@dataclass(frozen=True, slots=True)
class Event:
    """One line; `at` is None when it says no time."""

    fields: Mapping[str, Any]

    @property
    def at(self) -> datetime | None:
        """When it was written."""
        try:
            at = datetime.fromisoformat(str(self.fields.get("timestamp")))
        except ValueError:
            return None
        return at if at.tzinfo else None

    @property
    def level(self) -> str:
        """How grave it is."""
        return str(self.fields.get("level"))

    @property
    def message(self) -> str:
        """What happened."""
        return str(self.fields.get("message"))

    def more(self, *known: str) -> str:
        """The other fields as `name=value`, without those that the reader knows."""
        shown = ((name, value) for name, value in self.fields.items() if name not in (*OWN, *known))
        return "  ".join(f"{name}={_value(value)}" for name, value in shown)


def files(root: Path) -> list[Path]:
    """The files of the log, the oldest first."""
    return sorted((root / FOLDER).glob(f"{NAME}*"), key=lambda file: (file.stat().st_mtime_ns, file.name != NAME))


def events(root: Path, of: str) -> Iterator[Event]:
    """All that is said of a task (its id, its key, or `job/slot`) or a run, as it happened. Raises OSError."""
    for file in files(root):
        with _opened(file) as lines:
            yield from filter(None, (_event(line.decode(errors="replace"), of) for line in lines))


def latest(root: Path, of: str, most: int) -> list[Event]:
    """The newest events, the oldest of them first; of each file only the end is read. Raises OSError."""
    found = (event for file in reversed(files(root)) for event in _backwards(file, of))
    return list(islice(found, most))[::-1]


def coming(root: Path, of: str, wait: Callable[[], None]) -> Iterator[Event]:
    """What is written from now on, for ever; a file that was turned over, or cut to nothing, is opened anew."""
    file, place = root / FOLDER / NAME, os.SEEK_END
    while True:
        with file.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(0, place)
            yield from filter(None, (_event(line, of) for line in _growing(file, stream, wait)))
        place = os.SEEK_SET


def _growing(file: Path, stream: TextIO, wait: Callable[[], None]) -> Iterator[str]:
    """Whole lines, until another file has the name, or this one has become shorter."""
    line, size = "", 0
    while True:
        line += stream.readline()
        if line.endswith("\n"):
            yield line
            line = ""
            continue
        wait()
        known, size = size, os.fstat(stream.fileno()).st_size
        if size < known or (file.exists() and file.stat().st_ino != os.fstat(stream.fileno()).st_ino):
            return


def _opened(file: Path) -> "BufferedReader | gzip.GzipFile":
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _backwards(file: Path, of: str) -> Iterator[Event]:
    with _opened(file) as log:
        if isinstance(log, BufferedReader):
            log.seek(max(0, file.stat().st_size - END))
        lines = log.read().decode(errors="replace").splitlines()
    yield from filter(None, (_event(line, of) for line in reversed(lines)))


def _event(line: str, of: str) -> Event | None:
    if of not in line:
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    id_ = str(fields.get("task_id", ""))
    mine = id_ == of or id_.endswith(f"/{of}") or id_.startswith(f"{of}/") or fields.get("run_id") == of
    return Event(fields) if mine else None


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if " " not in text else json.dumps(text, ensure_ascii=False)
