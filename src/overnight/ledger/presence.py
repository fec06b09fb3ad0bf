"""Who has the ledger's file open, and whether it is still the file that was opened.

Beside `overnight.db` lies `overnight.db-open`: every process that has the ledger open holds a shared lock on it, which
dies with the process. The first to come finds there whether the last to go has said goodbye.

    (empty)   no ledger was ever made here
    closed    the last process has closed the ledger: everything is in the file itself
    open      somebody has it open, or was killed: then `overnight.db-wal` has the latest commits
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from overnight import logs
from overnight.errors import Refused
from overnight.ledger.copies import copy_file
from overnight.ledger.faults import LedgerFault, way_out

Identity = tuple[int, int]


def marker(file: Path) -> Path:
    """The file that tells who has the ledger open."""
    return file.with_name(f"{file.name}-open")


@dataclass(slots=True)
class Presence:
    """This process among those that have the ledger open.

    `alone`: nobody else had it open when we came; `unclean`: and whoever had it last was killed, or nobody can tell.
    """

    file: Path
    alone: bool
    unclean: bool
    _descriptor: int
    _names: tuple[str, str]  # of the file and of its log, made once
    _identity: tuple[Identity | None, Identity | None] | None = None
    _witness: sqlite3.Connection | None = None
    _left: bool = False

    @classmethod
    def enter(cls, file: Path) -> Self:
        """Announce this process. Raises LedgerFault when the file or its latest commits have disappeared."""
        descriptor = os.open(marker(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            alone = _locked(descriptor)
            if not alone:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            state = os.pread(descriptor, 16, 0).decode(errors="replace").strip()
            _refuse_loss(file, state, alone=alone)
        except BaseException:
            os.close(descriptor)
            raise
        unclean = alone and state != "closed" and _size(file) > 0
        return cls(file, alone, unclean, descriptor, (str(file), str(_side(file, "wal"))))

    def settle(self) -> None:
        """Let others in, once the file is known to be good.

        From here on a connection of our own keeps the write-ahead log from being removed by anybody who closes, and
        still has everything should the names of the files go away.
        """
        self._witness = sqlite3.connect(self.file, check_same_thread=False)
        self._witness.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._identity = self._seen()
        self._write("open")
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def verify(self) -> None:
        """Check that what is open is still what has the name: two stats, some 15 us. Raises LedgerFault."""
        if self._identity is not None and not self._left and self._identity != self._seen():
            raise LedgerFault(
                "gone",
                f"the ledger {self.file} was deleted, moved or replaced while this process had it open, or its -wal "
                "file was; nothing more is recorded, so nothing more is done",
            )

    def rescue(self, target: Path) -> None:
        """Copy what was open, whatever has its name now."""
        if self._witness is not None:
            copy_file(self._witness, target)

    def abandon(self) -> None:
        """Go without a goodbye: the next process looks at the file first."""
        self._left = True

    def leave(self) -> None:
        """Say goodbye; call it when everything is committed, before the last connection is closed."""
        if self._left:
            return
        self._left = True
        good = self._identity is not None and self._identity == self._seen()
        if good and _locked(self._descriptor):
            self._write("closed")
        if self._witness is not None:
            self._witness.close()
        os.close(self._descriptor)

    def _seen(self) -> tuple[Identity | None, Identity | None]:
        return _identity(self._names[0]), _identity(self._names[1])

    def _write(self, state: str) -> None:
        os.pwrite(self._descriptor, f"{state}\n".encode(), 0)
        os.ftruncate(self._descriptor, len(state) + 1)


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Keep every process from opening the ledger for the length of the block. Raises Refused while one has it open."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(marker(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked(descriptor):
            raise Refused(
                f"processes have the ledger {file} open: stop `overnight serve`, wait for runs to end or "
                f"`overnight cancel` them (`fuser -v {file}` lists who it is), and give the command again"
            )
        yield
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"closed\n", 0)
    finally:
        os.close(descriptor)


class Nowhere:
    """The presence in a ledger that is no file: its server keeps order."""

    alone = True
    unclean = False

    def settle(self) -> None:
        """Nobody waits."""

    def verify(self) -> None:
        """A server does not lose its files unnoticed."""

    def rescue(self, target: Path) -> None:
        """Nothing to copy."""

    def abandon(self) -> None:
        """Nobody asks."""

    def leave(self) -> None:
        """Nobody asks."""


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_loss(file: Path, state: str, *, alone: bool) -> None:
    if not state:
        return
    anew = f"If that was meant, and the work should begin anew: rm {marker(file)}"
    if _size(file) == 0:
        what = "is empty" if file.exists() else "is not there any more"
        raise LedgerFault(
            "gone",
            f"the ledger {file} {what}, though there was one. Without it nobody knows what was sent. {way_out(file)}. "
            f"{anew}",
        )
    if alone and state == "open" and not _side(file, "wal").exists():
        _refuse_lost_log(file)


def _refuse_lost_log(file: Path) -> None:
    """A killed process leaves both side files, and whoever closes the database removes the -shm file first.

    So a -shm file alone says that the other was removed by hand. When both are gone another program may have closed the
    database properly: that is told, and the file is checked.
    """
    if _side(file, "shm").exists():
        raise LedgerFault(
            "gone",
            f"{file}-wal is gone, which had the latest commits of the ledger when its last process was killed: what is "
            f"left is older than what was sent. {way_out(file)}. To go on with what is left, and have mail of that "
            f"time sent again: rm {marker(file)}",
        )
    logs.get().warning(
        "the ledger was closed by another program, or its -wal and -shm files were removed", ledger=str(file)
    )


def _side(file: Path, name: str) -> Path:
    return file.with_name(f"{file.name}-{name}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116  twice as fast as Path.stat, with every transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino
