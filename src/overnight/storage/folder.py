"""A folder on this machine."""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from overnight.durable import sync
from overnight.errors import Permanent, Transient
from overnight.storage.store import checked
from overnight.threads import in_own_thread

NEW = ".new-"  # before the name of a file that is not whole yet


@dataclass(frozen=True, slots=True)
class Folder:
    """Files under `path`; a reader sees the old file or the new one, never half of one."""

    path: Path

    async def put(self, key: str, content: bytes) -> None:
        """Write by temporary file, fsync and rename; no write when the bytes are there already."""
        await in_own_thread("folder", partial(self._put, key, content))

    async def get(self, key: str) -> bytes | None:
        """Read."""
        return await in_own_thread("folder", partial(self._get, key))

    async def traits(self) -> Sequence[str]:
        """A folder has no moods."""
        return ()

    def _put(self, key: str, content: bytes) -> None:
        if self._get(key) != content:
            with _told(self.path):
                write_durably(self.path / checked(key), content)

    def _get(self, key: str) -> bytes | None:
        with _told(self.path):
            try:
                return (self.path / checked(key)).read_bytes()
            except FileNotFoundError:
                return None

    def describe(self) -> str:
        """The folder."""
        return str(self.path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise Permanent(f"cannot use the folder {path}: {error}; check its owner and mode", code="folder") from error
    except OSError as error:
        raise Transient(f"cannot use the folder {path}: {error}; check the disk", code="folder") from error


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is whole and on disk when this returns; makes the folders above it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _tidied(path.parent):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=NEW)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # mkstemp makes it private; reports are for the reviewers
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync(path.parent)


@contextmanager
def _tidied(folder: Path) -> Iterator[None]:
    """Share the folder's lock with whoever else writes there; who is alone first removes what killed writers have left.

    Nobody waits for the lock: who has it may be stopped. Where there are no locks nothing is removed.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f"{NEW}*"):
                left.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
