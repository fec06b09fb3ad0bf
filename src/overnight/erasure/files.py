"""The files that have a person's address: mails, reports, logs, copies of the ledger."""

import gzip
import mmap
import re
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from email import policy
from email.parser import BytesParser
from glob import escape as as_written
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from overnight.erasure.person import Erased, Person, pattern_of
from overnight.erasure.rows import bury, erase_rows
from overnight.mail.outbox import write_index
from overnight.plurals import counted
from overnight.storage.spool import foretell
from overnight.subscribers import forms

_MAGIC = b"SQLite format 3\0"
_SOFT_BREAK = re.compile(rb"=\r?\n")
_MAIL = "[0-9a-f]" * 32 + "@*"  # a mail's file is named by its Message-ID
_SEALED = (".bz2", ".xz", ".zst", ".zip")  # ways to pack a log that nothing here reads
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "outbox": (f"*/*/{_MAIL}.eml", f"*/*/{_MAIL}.html", f"*/*/{_MAIL}.txt", "*/*/.*.tmp", "*/*/index.html", ".bounces"),
    "reports": ("report=*/date=*/*", "latest/*.csv", "latest/.new-*"),
    "spool": ("*[0-9]/report=*/date=*/*", "*[0-9]/latest/*.csv", "*[0-9]/latest/.new-*"),
    "log": ("overnight.jsonl*",),
    "bounces": ("*.eml",),
    "backups": ("*/ledger.db*",),
}


def files_of(root: Path, ledger: Path, *, outbox: str, reports: str, spool: str) -> Iterator[Path]:
    """The files that we write about people: under var/, beside the ledger, and where schedule.yaml says.

    The ledger itself is not among them. Of folders that have been in use before and are no more, only those under var/.
    """
    var = root / "var"
    yield from ledger.parent.glob(f"{as_written(ledger.name)}.*")
    places = [
        ("log", var / "log"),
        ("bounces", var / "bounces"),
        ("outbox", var / "rehearsal"),
        ("backups", ledger.parent / "backups"),
    ]
    places += [(kind, var / kind) for kind in ("outbox", "reports", "spool", "backups")]
    for kind, name in (("outbox", outbox), ("reports", reports), ("spool", spool)):
        if "://" not in name:
            places.append((kind, root / name))
    for kind, folder in places:
        for layout in _LAYOUTS[kind]:
            yield from (path for path in folder.glob(layout) if path.is_file() and not path.is_symlink())


def erase_files(files: Iterable[Path], person: Person, done: Erased) -> None:
    """Take the person out of each file, and note in `done` what was changed and what could not be."""
    pattern = re.compile(pattern_of(person).encode(), re.IGNORECASE)
    indexes: set[Path] = set()
    for path in files:
        try:
            _erase_file(path, pattern, person, done, indexes)
        except (OSError, EOFError, zlib.error, SQLAlchemyError, sqlite3.Error) as error:
            done.left.append(f"{path}: {error}")
    for outbox in {place.parent.parent for place in indexes}:
        write_index(outbox, {place for place in indexes if place.parent.parent == outbox})


def _erase_file(path: Path, pattern: "re.Pattern[bytes]", person: Person, done: Erased, indexes: set[Path]) -> None:
    if not path.is_file() or not path.stat().st_size:
        return  # the page of a mail that was deleted, or the log of a copy that was merged into it
    if _is_copy(path):
        rows = _erase_copy(path, person)
        if rows:
            done.files[str(path)] = f"{counted(rows, 'row')} erased"
    elif path.suffix == ".eml":
        _erase_mail(path, pattern, person, done, indexes)
    elif path.suffix in _SEALED:
        raise OSError("is packed: unpack it, and give the command again")
    elif path.suffix == ".gz":
        if n := _overwrite_packed(path, pattern):
            done.files[str(path)] = f"overwritten in {n} places"
    else:
        if path.suffix == ".csv":
            foretell(path, pattern.sub(lambda match: b"x" * len(match[0]), path.read_bytes()))
        if n := _overwrite(path, pattern):
            done.files[str(path)] = f"overwritten in {n} places"


def _erase_mail(path: Path, pattern: "re.Pattern[bytes]", person: Person, done: Erased, indexes: set[Path]) -> None:
    """A mail to this person goes. One to somebody else stays, for by its file the outbox knows that it was sent."""
    data = path.read_bytes()
    if _recipients(data) & {address.casefold() for address in person.addresses}:
        path.unlink()
        for suffix in (".html", ".txt"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        done.files[str(path)] = "deleted"
        indexes.add(path.parent)
    elif n := _overwrite_lines(path, data, pattern):
        done.files[str(path)] = f"overwritten in {n} places"


def _recipients(data: bytes) -> set[str]:
    header = BytesParser(policy=policy.default).parsebytes(data, headersonly=True)["To"]
    written = [] if header is None else [each.addr_spec for each in header.addresses]
    return {form.casefold() for address in written for form in (address, *forms(address))}


def _overwrite_lines(path: Path, data: bytes, pattern: "re.Pattern[bytes]") -> int:
    """Write x over each address also where quoted-printable has broken its line; returns how many."""
    broken = {at for match in _SOFT_BREAK.finditer(data) for at in range(*match.span())}
    kept = [at for at in range(len(data)) if at not in broken]
    places = [match.span() for match in pattern.finditer(bytes(data[at] for at in kept))]
    with path.open("r+b") as file:
        for at in (kept[n] for span in places for n in range(*span)):
            file.seek(at)
            file.write(b"x")
    return len(places)


def _is_copy(path: Path) -> bool:
    """Whether it is a database, hence a backup or a ledger kept aside."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _overwrite(path: Path, pattern: "re.Pattern[bytes]") -> int:
    """Write x over each address: the file keeps its size, its name and whoever appends to it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        places = [match.span() for match in pattern.finditer(data)]
        for start, end in places:
            data[start:end] = b"x" * (end - start)
        if places:
            data.flush()
    return len(places)


def _overwrite_packed(path: Path, pattern: "re.Pattern[bytes]") -> int:
    """The same in a log that was turned over and packed: nobody appends to it, so that a new file takes its place."""
    new, places = path.with_name(f".{path.name}.new"), 0
    try:
        with gzip.open(path) as old, gzip.open(new, "wb") as out:
            for line in old:
                clean, n = pattern.subn(lambda match: b"x" * len(match[0]), line)
                places += n
                out.write(clean)
        shutil.copystat(path, new)  # by its time the log is read in order
        if places:
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return places


def _erase_copy(path: Path, person: Person) -> int:
    """The same rows in a copy of the ledger, and its free pages."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            rows = sum(erase_rows(connection, person).values()) + bury(connection, person)
    finally:
        engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return rows
