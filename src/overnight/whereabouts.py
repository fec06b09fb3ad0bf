"""Where the schedulers of a project listen: a file each, locked as long as its process lives."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from overnight import logs

ALIVE = "/livez"  # where a scheduler is asked whether it is one
MARK = "Overnight-Serve"  # the header by which a scheduler is told from whoever else answers at its address
LONGEST = 4096  # bytes of such a file


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A scheduler of this project; `url` is empty when it has no page, `mark` is what its answers bear."""

    pid: int
    url: str
    mark: str


@contextmanager
def announced(root: Path, url: str, mark: str) -> Iterator[None]:
    """Say for the length of the block where this process listens. One that cannot say it works all the same."""
    file = _folder(root) / f"{os.getpid()}.json"
    held = None
    try:
        held = _written(file, Whereabouts(os.getpid(), url, mark))
    except OSError as error:
        logs.get().warning("overnight doctor will not find this process", file=str(file), error=str(error))
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                file.unlink()
            os.close(held)


def schedulers(root: Path) -> list[Whereabouts]:
    """Those of this machine that live."""
    return [found for file in sorted(_folder(root).glob("*.json")) if (found := _read(file)) is not None]


def _written(file: Path, here: Whereabouts) -> int:
    """Lock it before it can be seen under its name; what killed processes have left is removed on this occasion."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for other in file.parent.glob("*.json"):
        if _read(other) is None:
            other.unlink(missing_ok=True)
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, json.dumps(asdict(here)).encode())
        new.rename(file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(file: Path) -> Whereabouts | None:
    """What a living process has written; None when it is gone, and its lock with it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Whereabouts(**json.loads(os.read(descriptor, LONGEST)))
    else:
        return None
    finally:
        os.close(descriptor)


def _folder(root: Path) -> Path:
    return root / "var" / "serving"
