"""Forgetting a person: the address and the name go from everything the project keeps on this machine.

What stays is what keeps a promise: the subscriber's row with a keyed hash in place of the address, so that no import
brings the person back, and effects under the opaque id, so that counts stay right. The id says nothing by itself.

    the ledger        rows are rewritten, then the file is, for SQLite leaves deleted bytes in free pages
    its copies        the same, in backups and in files kept aside
    mail files        those to this person deleted, and their index is written anew
    reports           the same as below, and their manifests told; those whose figures change are made anew
    the rest          the address is overwritten in place by x: processes may have these files open

An address ends where it ends: ann@example.co is in none of joann@example.co and ann@example.com. Only files whose place
and name are ones we write are looked at, for a folder that schedule.yaml names may have other things in it.

Out of reach: reports in S3 that are not made anew, mail in relays and mailboxes, backups elsewhere, what a disk keeps
of deleted files.
"""

import json
import mmap
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from glob import escape as as_written
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Row,
    String,
    Table,
    Text,
    create_engine,
    delete,
    false,
    inspect,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from overnight.ledger import Ledger
from overnight.ledger.forgotten import tombstone
from overnight.ledger.items import moved_by_hand
from overnight.ledger.outsiders import outsider_of
from overnight.ledger.rollups import left, trouble
from overnight.ledger.runs import days_of, owe_reports
from overnight.ledger.tables import call, item, metadata, outsider, signup, slot, tool_call
from overnight.ledger.tables import subscriber as table
from overnight.mail.outbox import write_index
from overnight.outcome import State
from overnight.storage.spool import foretell
from overnight.subscribers import forms

REASON = "forgotten"
_OPEN: tuple[State, ...] = ("pending", "retry")
_MAGIC = b"SQLite format 3\0"
_SOFT_BREAK = re.compile(rb"=\r?\n")
# What may stand before an address though it ends in a letter or a digit: an escaped character, as in JSON's \n and
# \u003c, a link's %3D, a mail's =3D. Of %XX and =XX only separators count: %2B is a plus, hence a part of the address.
_ESCAPED = r"(?<=\\[nrtbf])|(?<=\\u00[0-7][0-9a-f])|(?<=[%=](?:0[9AD]|2[026789CF]|3[ABCDEF]))"
_BEFORE = rf"(?:(?<![A-Za-z0-9._%+-])|{_ESCAPED})"
_AFTER = r"(?![A-Za-z0-9-]|\.[A-Za-z0-9])"
_MAIL = "[0-9a-f]" * 32 + "@*"  # a mail's file is named by its Message-ID
_LAYOUTS: dict[str, tuple[str, ...]] = {
    "outbox": (f"*/*/{_MAIL}.eml", f"*/*/{_MAIL}.html", f"*/*/{_MAIL}.txt", "*/*/.*.tmp", "*/*/index.html", ".bounces"),
    "reports": ("report=*/date=*/*", "latest/*.csv", "latest/.new-*"),
    "spool": ("*[0-9]/report=*/date=*/*", "*[0-9]/latest/*.csv", "*[0-9]/latest/.new-*"),
    "log": ("overnight.jsonl*",),
    "bounces": ("*.eml",),
    "backups": ("*/ledger.db*",),
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to be forgotten: an id, and every address by which the ledger knows that person."""

    id: str
    addresses: tuple[str, ...]
    name: str = ""


@dataclass(slots=True)
class Erased:
    """What was erased where: rows by table, files with what was done, and what could not be reached."""

    id: str
    rows: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def find_person(ledger: Ledger, who: str) -> Person | None:
    """Find somebody by id or address; by address also one whose forgetting was begun before."""
    typed = forms(who)

    def find(connection: Connection) -> Row[Any] | None:
        names = [*typed, *(tombstone(connection, address) for address in typed)]
        known = connection.execute(select(table).where(or_(table.c.id == who, table.c.normalized.in_(names)))).first()
        if known is not None:
            return known
        nameless = select(signup, literal("").label("name"), literal("").label("status"))
        return connection.execute(nameless.where(or_(signup.c.id == who, signup.c.normalized.in_(typed)))).first()

    row = ledger.writing(find)
    if row is None:
        return ledger.reading(_outsider, who)
    known = (row.email, row.normalized) if row.status != REASON else ()
    return Person(row.id, tuple(dict.fromkeys(form for form in (*known, *typed) if form)), row.name)


def _outsider(connection: Connection, id_: str) -> Person | None:
    """One of a job's own readers who is not mailed any more: what the job's items say of who has this key."""
    if outsider_of(connection, id_) is None:
        return None
    payloads = connection.execute(select(item.c.payload).where(item.c.key == id_)).scalars()
    said = [value for value in map(json.loads, payloads) if isinstance(value, dict)]
    written = dict.fromkeys(str(value.get("email", "")) for value in said)
    addresses = dict.fromkeys(form for each in written for form in (each, *forms(each)) if form)
    return Person(id_, tuple(addresses), next((str(value["name"]) for value in said if value.get("name")), ""))


def forget(
    ledger: Ledger, person: Person, files: Callable[[], Iterable[Path]], refuse: Callable[[Connection], None]
) -> Erased:
    """Erase a person from the ledger, its copies, and these files. May be done again: it then goes on.

    No run may be under way: it would have the address in its memory and write it again. `refuse` raises Refused then;
    it is asked in the transaction that erases, so that a run which begins meanwhile begins before it, and is seen, or
    after it, and finds nobody. So is what `files` lists: what an earlier run has written is complete.
    """
    done = Erased(person.id)

    def erase(connection: Connection) -> None:
        refuse(connection)
        owe_reports(connection, _told_in(connection, person))
        done.rows.update(_erase_rows(connection, person))
        done.rows["subscriber"] += _bury(connection, person)

    ledger.writing(erase)
    if not ledger.shrink():
        done.left.append(f"{ledger.faults.file}-wal, which somebody is reading: give the command again")
    _erase_files(sorted({file.resolve() for file in files()}), person, done)
    return done


def _told_in(connection: Connection, person: Person) -> set[str]:
    """The days whose reports will say something else without this person."""
    waits = select(item.c.job, item.c.slot).where(item.c.key == person.id, item.c.state.in_(_OPEN))
    held = or_(*(trouble.c.sample.icontains(form, autoescape=True) for form in _spelled(person)))
    sampled = select(trouble.c.job, trouble.c.slot).where(held)
    return {day for job, name in connection.execute(waits.union(sampled)) for day in days_of(connection, job, name)}


def _bury(connection: Connection, person: Person) -> int:
    """Put the hash in the place of the address; returns the rows changed."""
    mine = (table.c.id == person.id, table.c.status != REASON)
    row = connection.execute(select(table.c.normalized).where(*mine)).one_or_none()
    if row is None:
        return 0
    values = {"email": "", "name": "", "topics": "[]", "status": REASON, "reason": "asked"}
    hidden = {"normalized": tombstone(connection, row.normalized)}
    return connection.execute(update(table).where(*mine).values(**values, **hidden)).rowcount


def _erase_files(files: Iterable[Path], person: Person, done: Erased) -> None:
    pattern = re.compile(_pattern(person).encode(), re.IGNORECASE)
    indexes: set[Path] = set()
    for path in files:
        try:
            _erase_file(path, pattern, person, done, indexes)
        except (OSError, SQLAlchemyError, sqlite3.Error) as error:
            done.left.append(f"{path}: {error}")
    for outbox in {place.parent.parent for place in indexes}:
        write_index(outbox, {place for place in indexes if place.parent.parent == outbox})


def _erase_file(path: Path, pattern: "re.Pattern[bytes]", person: Person, done: Erased, indexes: set[Path]) -> None:
    if not path.is_file() or not path.stat().st_size:
        return  # the page of a mail that was deleted, or the log of a copy that was merged into it
    if _is_copy(path):
        rows = _erase_copy(path, person)
        if rows:
            done.files[str(path)] = f"{rows} rows erased"
    elif path.suffix == ".eml":
        _erase_mail(path, pattern, person, done, indexes)
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


def _pattern(person: Person) -> str:
    """The address in every form in which it is written somewhere, and nobody's of which it is only a part."""
    forms = sorted(_spelled(person), key=len, reverse=True)
    return f"{_BEFORE}(?:{'|'.join(map(re.escape, forms)) or '(?!)'}){_AFTER}"


def _spelled(person: Person) -> set[str]:
    """As it is, in a link, in JSON, in HTML (of two libraries), in quoted-printable."""
    return {
        form
        for each in person.addresses
        for form in (
            each,
            quote(each),
            json.dumps(each)[1:-1],
            escape(each),
            escape(each).replace("&#x27;", "&#39;"),
            each.replace("=", "=3D"),
        )
    }


def _erase_copy(path: Path, person: Person) -> int:
    """The same rows in a copy of the ledger, and its free pages."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            rows = sum(_erase_rows(connection, person).values()) + _bury(connection, person)
    finally:
        engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return rows


def _erase_rows(connection: Connection, person: Person) -> Counter[str]:
    """Erase a person from every table but `subscriber`; returns how many rows of which."""
    rows: Counter[str] = Counter()
    rows["item"] += _skip_open(connection, person)
    rows["item"] += _scrub_items(connection, person)
    answers = (call.c.key == person.id, call.c.response.is_not(None))
    rows["call"] += connection.execute(update(call).where(*answers).values(response=None)).rowcount
    there = inspect(connection)  # a copy may be of an older schema
    if there.has_table(tool_call.name):
        talked = (tool_call.c.key == person.id, tool_call.c.arguments.is_not(None))
        told = update(tool_call).where(*talked).values(arguments=None, result=None)
        rows["tool_call"] += connection.execute(told).rowcount
    if there.has_table(signup.name):
        mine = or_(signup.c.id == person.id, signup.c.normalized.in_(person.addresses))
        rows["signup"] += connection.execute(delete(signup).where(mine)).rowcount
    if there.has_table(outsider.name):
        out = (outsider.c.id == person.id, outsider.c.status != REASON)
        buried = update(outsider).where(*out).values(status=REASON, reason="asked")
        rows["outsider"] += connection.execute(buried).rowcount
    for each in metadata.tables.values():
        if each is not table and there.has_table(each.name):
            columns = {column["name"] for column in there.get_columns(each.name)}
            rows[each.name] += _replace_texts(connection, each, columns, person)
    return +rows


def _skip_open(connection: Connection, person: Person) -> int:
    """Let what is still to be done for the person pass."""
    total = 0
    for state in _OPEN:
        mine = (item.c.key == person.id, item.c.state == state)
        slots = connection.execute(select(item.c.job, item.c.slot).where(*mine)).all()
        for job, name in slots:
            moved = {state: slot.c[state] - 1, "skipped": slot.c.skipped + 1}
            connection.execute(update(slot).where(slot.c.job == job, slot.c.slot == name).values(**moved))
        left(connection, *mine)
        values = {"state": "skipped", "reason": moved_by_hand(REASON), "next_at": None, "expires_at": None}
        connection.execute(update(item).where(*mine).values(**values))
        total += len(slots)
    return total


def _scrub_items(connection: Connection, person: Person) -> int:
    """Blank address and name in the payloads and results of the person's own items; they keep their shape."""
    mine = select(item.c.job, item.c.slot, item.c.payload, item.c.result).where(item.c.key == person.id)
    total = 0
    for row in connection.execute(mine).all():
        clean = {name: _blanked_json(getattr(row, name), person) for name in ("payload", "result")}
        if any(clean[name] != getattr(row, name) for name in clean):
            same = (item.c.job == row.job, item.c.slot == row.slot, item.c.key == person.id)
            connection.execute(update(item).where(*same).values(**clean))
            total += 1
    return total


def _blanked_json(text: str | None, person: Person) -> str | None:
    if text is None:
        return None
    before = json.loads(text)
    after = _blanked(before, person)
    return text if after == before else json.dumps(after, ensure_ascii=False)


def _blanked(value: Any, person: Person) -> Any:
    match value:
        case dict():
            return {key: _blanked(each, person) for key, each in value.items()}
        case list():
            return [_blanked(each, person) for each in value]
        case str() if value and (value == person.name or _holds(value, person)):
            return ""
    return value


def _holds(text: str, person: Person) -> bool:
    return re.search(_pattern(person), text, re.IGNORECASE) is not None


def _replace_texts(connection: Connection, of: Table, columns: Collection[str], person: Person) -> int:
    """Put the id in the place of the address, wherever a text of this table has it."""
    pattern = re.compile(_pattern(person), re.IGNORECASE)
    keys = list(of.primary_key)
    total = 0
    for column in of.columns:
        if column.name not in columns or not isinstance(column.type, (String, Text)):
            continue
        holding = or_(false(), *(column.icontains(form, autoescape=True) for form in _spelled(person)))
        for row in connection.execute(select(*keys, column.label("text")).where(holding)).all():
            clean, n = pattern.subn(person.id, row.text)
            if n:
                same = [key == value for key, value in zip(keys, row[: len(keys)], strict=True)]
                connection.execute(update(of).where(*same).values({column.name: clean}))
                total += 1
    return total


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
