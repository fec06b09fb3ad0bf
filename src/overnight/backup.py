"""A backup while everything runs, and the way back.

    <folder>/20261122T070000Z/ledger.db      the ledger as one commit left it; subscribers and suppressions are in it
    <folder>/20261122T070000Z/secret         what signs Message-IDs, 0600: without it mail would be sent a second time

A restored ledger does not know what happened after it was copied. A folder of mail files tells it; a relay does not,
so then every job is paused until somebody has looked.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from overnight.clock import iso
from overnight.durable import sync
from overnight.errors import ConfigError, Refused, Stop
from overnight.ledger import Ledger
from overnight.ledger.copies import copy_file, copy_open, quick_check, unused
from overnight.ledger.presence import exclusive
from overnight.ledger.tables import SCHEMA_VERSION

LEDGER, SECRET = "ledger.db", "secret"
RESTORED = "restored"  # how the reason of such a pause begins
SIDES = ("-wal", "-shm")  # files that belong to an open database


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written: a folder, `size` bytes of ledger, and whether the secret is in it."""

    folder: Path
    size: int
    secret: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place: `latest` is the newest run it knows (UTC), `kept` was moved aside, `paused` are jobs."""

    file: Path
    latest: str | None
    kept: tuple[Path, ...]
    paused: tuple[str, ...] = ()


def back_up(ledger: Ledger, root: Path, folder: Path, now: datetime) -> Backup:
    """Copy ledger and secret into a new folder in `folder`; whole or not at all.

    Raises Refused for a ledger on a server, Stop when the copy cannot be written.
    """
    if ledger.engine.dialect.name != "sqlite":
        raise Refused(
            "the ledger is on a database server: back it up with the server's own tools (pg_dump), and var/secret"
        )
    place = _unused(folder, now)
    partial = folder / f".{place.name}.{os.getpid()}"
    try:
        partial.mkdir(parents=True, mode=0o700)
        secret = _copied_secret(root, partial)
        copy_open(ledger.engine, partial / LEDGER)
        sync(partial)
        partial.rename(place)
        sync(folder)
    except BaseException as error:  # also Ctrl-C: half a backup has the secret in it
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, (OSError, sqlite3.Error)):
            raise
        raise Stop(
            f"no backup was made in {folder}: {error}; name a folder with room for the ledger", code="backup"
        ) from error
    return Backup(place, (place / LEDGER).stat().st_size, secret)


def _unused(folder: Path, now: datetime) -> Path:
    """Named by the second: of two within one, the later gets the next name that is free, and stays the newest."""
    while (place := folder / f"{now:%Y%m%dT%H%M%SZ}").exists():
        now += timedelta(seconds=1)
    return place


def _copied_secret(root: Path, folder: Path) -> bool:
    secret = root / "var" / SECRET
    if not secret.exists():
        return False
    _install(secret, folder / SECRET)
    return True


@dataclass(frozen=True, slots=True)
class Pausing:
    """The jobs of the schedule, `{name: hash}`, that are to be paused until somebody has seen what was sent since."""

    jobs: Mapping[str, str]
    at: datetime


def restore(source: Path, file: Path, root: Path, pausing: Pausing | None = None) -> Restored:
    """Put a backup (its folder, or a ledger's file) in the place of the ledger at `file`, which is kept beside it.

    With `pausing` its jobs are paused in it before anybody can open it.

    Nothing is touched when the backup is damaged or newer than we are (ConfigError), cannot be copied (Stop), or while
    any process has the ledger open (Refused). Killed half-way, the ledger is not there, and the next command says how
    to go on.
    """
    copy = source / LEDGER if source.is_dir() else source
    with exclusive(file), _whole(copy, file.parent) as whole:
        latest = _examined(whole, copy)
        fresh, paused = unused(file, "restoring"), []
        with _or_nothing(copy, fresh):
            _install(whole, fresh)
            paused = _pause(fresh, pausing, latest) if pausing else []
        kept = _set_aside(file)
        secret = copy.with_name(SECRET)
        if source.is_dir() and secret.exists():  # first: with a new one, Message-IDs would be new as well
            kept += _restore_secret(secret, root / "var" / SECRET)
        fresh.rename(file)
        sync(file.parent)
    return Restored(file, latest, tuple(kept), tuple(paused))


@contextmanager
def _or_nothing(copy: Path, *fresh: Path) -> Iterator[None]:
    """What is copied within leaves nothing when it fails. Raises Stop for a disk without room, or rights that lack."""
    try:
        yield
    except BaseException as error:
        for file in fresh:
            file.unlink(missing_ok=True)
        if not isinstance(error, (OSError, sqlite3.OperationalError)):
            raise
        raise Stop(
            f"{copy} cannot be put in place: {error}; nothing was changed. It needs as much room beside the ledger",
            code="backup",
        ) from error


@contextmanager
def _whole(copy: Path, room: Path) -> Iterator[Path]:
    """The copy as one file: what was kept of a killed process has its latest commits in a log beside it.

    It costs twice its size in the folder `room` meanwhile; the copy itself stays as it is. Raises ConfigError.
    """
    if not copy.is_file():
        raise ConfigError(f"there is no backup at {copy}; `overnight backup` makes folders with a {LEDGER}")
    log = copy.with_name(f"{copy.name}-wal")
    if not log.exists():
        yield copy
        return
    with TemporaryDirectory(prefix=".restoring-", dir=room) as name:
        both, merged = Path(name) / "both", Path(name) / "merged"
        with _or_nothing(copy):
            shutil.copyfile(copy, both)
            shutil.copyfile(log, both.with_name("both-wal"))
        try:
            with closing(sqlite3.connect(both)) as connection:
                copy_file(connection, merged)
        except sqlite3.Error as error:
            raise ConfigError(f"{copy} is damaged: {error}; take an older backup") from error
        yield merged


def _examined(whole: Path, copy: Path) -> str | None:
    """When the newest run of this copy started. Raises ConfigError when it cannot be used."""
    with closing(sqlite3.connect(f"file:{whole.absolute()}?mode=ro&immutable=1", uri=True)) as connection:
        found = quick_check(connection)
        if found is not None:
            raise ConfigError(f"{copy} is damaged: {found}; take an older backup")
        try:
            version = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
            latest = connection.execute("SELECT max(started_at) FROM run").fetchone()[0]
        except sqlite3.Error as error:
            raise ConfigError(f"{copy} is a database, but no ledger: {error}") from error
    if version is None or int(version[0]) > SCHEMA_VERSION:
        raise ConfigError(f"{copy} was made by a newer version of overnight (we know schema {SCHEMA_VERSION}): upgrade")
    return None if latest is None else str(latest)


def _set_aside(file: Path) -> list[Path]:
    """Rename the ledger with the files that belong to it: together they can still be opened, or examined."""
    kept = unused(file, "replaced")
    moved = []
    for side in ("", *SIDES):
        old = file.with_name(f"{file.name}{side}")
        if old.exists():
            moved.append(old.rename(kept.with_name(f"{kept.name}{side}")))
    return moved


def _restore_secret(secret: Path, place: Path) -> list[Path]:
    if place.exists():
        if place.read_bytes() == secret.read_bytes():
            return []
        kept = place.rename(unused(place, "replaced"))
        _install(secret, place)
        return [kept]
    _install(secret, place)
    return []


def _install(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as out, source.open("rb") as data:
        shutil.copyfileobj(data, out)
        out.flush()
        os.fsync(out.fileno())


def _pause(fresh: Path, pausing: Pausing, latest: str | None) -> list[str]:
    """Pause every job that is not, also one no scheduler has seen yet; returns their names."""
    at = iso(pausing.at)
    reason = f"{RESTORED} at {at} from a backup whose newest run is of {latest}: what was sent later is not in it"
    new = "INSERT OR IGNORE INTO entry (job, hash, enabled, effective_since) VALUES (?, ?, 1, ?)"
    pause = "UPDATE entry SET paused_at = ?, pause_reason = ? WHERE paused_at IS NULL RETURNING job"
    with closing(sqlite3.connect(fresh)) as connection, connection:
        connection.executemany(new, [(job, digest, at) for job, digest in pausing.jobs.items()])
        return [row[0] for row in connection.execute(pause, (at, reason)).fetchall()]
