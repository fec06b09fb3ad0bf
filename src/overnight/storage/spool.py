"""Nothing is lost while the store is down: first to this disk, then out.

    <folder>/00000007/report=cost/date=2026-11-22/cost-2026-11-22.csv    a publication, whole
    <folder>/00000007/.order                                             its files in the order of their upload

A publication is there whole or not at all, leaves in order, and is removed only when the store has every file of it, or
a newer one has each of its keys.
Uploading is a step of its own that can be repeated and never changes what a run has come to.
"""

import asyncio
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from overnight.durable import sync
from overnight.errors import OvernightError, Permanent
from overnight.storage.folder import write_durably
from overnight.storage.store import Store, checked, digest

ORDER = ".order"


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain has come to, in publications; `error` says why some are left.

    `refused`: waiting will not help, somebody has to do something.
    """

    uploaded: int
    left: int
    error: str | None = None
    refused: bool = False


@dataclass(slots=True)
class _Progress:
    """What the uploading task tells, and how it is told to stop."""

    uploaded: int = 0
    error: str | None = None
    refused: bool = False
    stop: bool = False


def add_to(folder: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    """Keep a publication of `(key, content)` in a spool, durably, whoever will upload it; returns its place.

    Raises Permanent for a key no store would take, OSError when this disk cannot.
    """
    keys = [checked(key) for key, _ in files]
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".adding", wait=True):
        _clear(folder, ".new-*")  # of processes that were killed in here
        place = folder / f"{max((int(path.name) for path in waiting(folder)), default=0) + 1:08d}"
        unfinished = folder / f".new-{place.name}"
        for key, content in files:
            write_durably(unfinished / key, content)
        order = [[key, digest(content)] for key, (_, content) in zip(keys, files, strict=True)]
        write_durably(unfinished / ORDER, json.dumps(order).encode())
        unfinished.rename(place)
        sync(folder)
        _drop_superseded(folder, place, set(keys))
    return place


def _drop_superseded(folder: Path, newest: Path, keys: set[str]) -> None:
    """Remove what waits and would be overwritten whole by the newest, unless somebody uploads, who may be reading it.

    A store that is down for days would fill this disk with each run's version of the same reports.
    """
    with _locked(folder / ".draining", wait=False) as ours:
        for place in waiting(folder) if ours else ():
            if place != newest and _keys_of(place) <= keys:
                with suppress(OSError):  # somebody else's files: the newest one is kept all the same
                    _remove(place)


def _keys_of(place: Path) -> set[str]:
    """What a publication writes; one that is damaged is left to the drain, which tells it."""
    try:
        return {key for key, _ in _order(place)}
    except (OSError, ValueError):
        return {str(place)}


def _order(place: Path) -> list[tuple[str, str]]:
    """The files of a publication, each with its digest, as they are to be uploaded. Raises OSError, ValueError."""
    try:
        return [(str(key), str(sha)) for key, sha in json.loads((place / ORDER).read_bytes())]
    except TypeError as error:
        raise ValueError(f"{ORDER} is no list of files") from error


@dataclass(frozen=True, slots=True)
class Spool:
    """Publications on their way to `store`, kept in `folder` until they are there."""

    folder: Path
    store: Store

    def add(self, files: Sequence[tuple[str, bytes]]) -> Path:
        """Keep a publication of `(key, content)`, durably; they will be uploaded in this order. Raises as `add_to`."""
        return add_to(self.folder, files)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of who makes what is to be kept: two that read and keep side by side keep the older last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / ".making", wait=True):
            yield

    def waiting(self) -> list[Path]:
        """The publications not yet uploaded, oldest first."""
        return waiting(self.folder)

    async def drain(self, deadline: float = 30.0) -> Drained:
        """Upload what waits, for at most `deadline` seconds of real time; a failing store is an `error`, never raised.

        One process drains at a time. A request that hangs is left to a task that nobody waits for, not even the end of
        the process; until it gives up, it keeps others from uploading out of order.
        """
        if not self.waiting():
            return Drained(0, 0)
        progress = _Progress()
        uploading = asyncio.create_task(self._upload_all(progress), name="spool")
        try:
            done, _ = await asyncio.wait({uploading}, timeout=deadline)
        finally:
            progress.stop = True
        if done:
            uploading.result()  # a bug is told
        else:
            progress.error = progress.error or f"{self.store.describe()} took longer than {deadline:g} s"
        return Drained(progress.uploaded, len(self.waiting()), progress.error, progress.refused)

    async def _upload_all(self, progress: _Progress) -> None:
        with _locked(self.folder / ".draining", wait=False) as ours:
            if not ours:
                progress.error = "another process is uploading"
                return
            await asyncio.to_thread(_clear, self.folder, ".done-*")
            for place in self.waiting():
                try:
                    await self._upload(place, progress)
                except OvernightError as error:
                    progress.error, progress.refused = str(error), isinstance(error, Permanent)
                    return  # the next ones would meet the same store, and must not overtake this one
                except (OSError, ValueError) as error:
                    progress.error = f"the publication {place} cannot be read: {error}; its report can be made again"
                    progress.refused = True
                    continue
                if progress.stop:
                    return
                progress.uploaded += 1

    async def _upload(self, place: Path, progress: _Progress) -> None:
        for key, sha in await asyncio.to_thread(_order, place):
            if progress.stop:
                return
            content = await asyncio.to_thread((place / checked(key)).read_bytes)
            if digest(content) != sha:
                raise ValueError(f"{key} has been changed since it was written")
            await self.store.put(key, content)
        await asyncio.to_thread(_remove, place)


def _remove(place: Path) -> None:
    """At once, so that no half-removed publication is ever taken for a whole one."""
    finished = place.with_name(f".done-{place.name}")
    place.rename(finished)
    shutil.rmtree(finished)


def _clear(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        shutil.rmtree(path, ignore_errors=True)


def waiting(folder: Path) -> list[Path]:
    """The publications in a spool's folder, oldest first."""
    return sorted(path for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def foretell(csv: Path, after: bytes) -> None:
    """Let manifest and order of a report name the digest it will have: the one is trusted, the other checked.

    Before the file is written: who is killed in between finds it as it was, and does the same once more.
    """
    manifest, told = csv.with_name("manifest.json"), b""
    swaps = {digest(csv.read_bytes()): digest(after)}
    if manifest.is_file():
        was = manifest.read_bytes()
        told = _swapped(was, swaps)
        swaps[digest(was)] = digest(told)
    for order in (folder / ORDER for folder in csv.parents[1:3]):  # of latest/x.csv and of report=x/date=y/x.csv
        if order.is_file():
            write_durably(order, _swapped(order.read_bytes(), swaps))
    if told:
        write_durably(manifest, told)


def _swapped(text: bytes, swaps: Mapping[str, str]) -> bytes:
    for was, becomes in swaps.items():
        text = text.replace(was.encode(), becomes.encode())
    return text


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the file's lock; False when another process (or thread) has it. The system frees a dead one's."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
