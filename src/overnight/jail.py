"""Files below one folder: every step of a path is opened by itself, and none of them may be a link.

A path that was checked as text can lead elsewhere a moment later; a folder that is open cannot.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from overnight.clock import token
from overnight.errors import Denied, Permanent

DEEPEST = 32
LONGEST = 1_000  # characters of a path
LONGEST_NAME = 200  # bytes of one step; most file systems take 255
_ODD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|%[0-9a-fA-F]{2}|^~|^[A-Za-z]:")


def steps(path: str) -> list[str]:
    """Return the parts of a relative path. Raises Denied for one that is absolute, hidden, or leads upwards.

    Hidden are names with a dot in front: `.env`, `.git`, `.ssh`.
    """
    parts = path.removesuffix("/").split("/")
    if not path or len(path) > LONGEST or len(parts) > DEEPEST or path.startswith("/") or _ODD.search(path):
        raise Denied(f"{path!r:.120} is no plain relative path, such as docs/index.md", code="path")
    if any(part in ("", "..") or part.startswith(".") for part in parts):
        raise Denied(f"{path!r:.120} leads upwards or to a hidden file, which is not allowed", code="path")
    if any(len(part.encode()) > LONGEST_NAME for part in parts):
        raise Denied(f"{path!r:.120} has a name of over {LONGEST_NAME} bytes", code="path")
    return parts


@contextmanager
def folder_of(root: Path, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Open the folder in which `path` is, below `root`; gives its descriptor and the last name.

    Raises Denied when a step is a link or no folder, or is not there; with `make` missing folders are made.
    """
    *folders, name = steps(path)
    if make:
        root.mkdir(parents=True, exist_ok=True)
    here = _opened(str(root), None, path)
    try:
        for part in folders:
            if make:
                _make(part, here, path)
            inner = _opened(part, here, path)
            os.close(here)
            here = inner
        yield here, name
    finally:
        os.close(here)


def read(root: Path, path: str, limit: int) -> tuple[bytes, int]:
    """Return at most `limit` bytes of a file below `root`, and its size. Raises Denied, and Permanent: not there."""
    with folder_of(root, path) as (folder, name):
        file = _file(name, os.O_RDONLY | os.O_NONBLOCK, folder, path)
        try:
            about = os.fstat(file)
            if not S_ISREG(about.st_mode):
                raise Denied(f"{path} is no file", code="path")
            with os.fdopen(os.dup(file), "rb") as stream:
                return stream.read(limit), about.st_size
        finally:
            os.close(file)


def write(root: Path, path: str, data: bytes) -> None:
    """Write a file below `root` as a whole or not at all. Raises Denied."""
    with folder_of(root, path, make=True) as (folder, name):
        _refuse_link(name, folder, path)
        temporary = (
            f".{token(8)}.part"  # its own, and new: two writers do not mix, and nothing is written through a link
        )
        file = _file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder, path)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise


def remove(root: Path, path: str) -> None:
    """Remove a file below `root`; one that is gone already is well."""
    with suppress(FileNotFoundError), folder_of(root, path) as (folder, name):
        os.unlink(name, dir_fd=folder)


def names(root: Path, path: str, most: int) -> list[str]:
    """List a folder below `root` (`.`: the root itself), folders with a slash at the end; nothing hidden, no links."""
    with (
        folder_of(root, "x" if path in (".", "./") else f"{path.removesuffix('/')}/x") as (folder, _),
        os.scandir(folder) as entries,
    ):
        found = sorted(f"{e.name}/" if e.is_dir(follow_symlinks=False) else e.name for e in entries if not _out(e))
    return found[:most]


def _out(entry: "os.DirEntry[str]") -> bool:
    return entry.name.startswith(".") or entry.is_symlink()


def _make(part: str, folder: int, path: str) -> None:
    try:
        os.mkdir(part, dir_fd=folder)
    except FileExistsError:
        pass
    except PermissionError as error:
        raise Denied(f"{path}: no folder may be made here", code="path") from error


def _opened(part: str, folder: int | None, path: str) -> int:
    follow = 0 if folder is None else os.O_NOFOLLOW  # the operator's own folder may be a link
    try:
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | follow, dir_fd=folder)
    except FileNotFoundError as error:
        raise Permanent(f"there is no {path}", code="not_found") from error
    except OSError as error:
        raise Denied(f"{path} leads through a link or a file", code="path") from error


def _file(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except FileNotFoundError as error:
        raise Permanent(f"there is no {path}", code="not_found") from error
    except OSError as error:
        raise Denied(f"{path} cannot be opened: it is a link, a folder, or not ours", code="path") from error


def _refuse_link(name: str, folder: int, path: str) -> None:
    with suppress(FileNotFoundError):
        if not S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise Denied(f"{path} is a link or a folder", code="path")
