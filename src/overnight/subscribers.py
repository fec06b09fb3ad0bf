"""Subscribers: who gets the mail, by an opaque id that outlives a changed address.

Import takes what is right and names each row that is not; nobody who left is brought back by a file.
"""

import base64
import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from sqlalchemy import Connection, Row, insert, or_, select, update

from overnight.clock import Clock, token
from overnight.errors import ConfigError
from overnight.ledger import Ledger, outsiders
from overnight.ledger.forgotten import is_forgotten
from overnight.ledger.tables import subscriber as table

Status = Literal["active", "unsubscribed", "suppressed", "forgotten"]
Change = Literal["added", "updated", "unchanged", "inactive"]

PAGE = 500  # rows a read or a transaction
NAME_MAX = 255
LEFT = "; asked to leave"  # the end of the reason of one who was suppressed before
_COLUMNS = ("email", "name", "topics")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TOPIC_GAP = re.compile(r"[\s|;,]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a cell that begins with one of these


@dataclass(frozen=True)
class Subscriber:
    """Somebody who gets the mail; `topics` empty means all of them."""

    id: str
    email: str
    name: str = ""
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """A subscriber with what became of the subscription."""

    subscriber: Subscriber
    status: Status
    reason: str | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not imported. `value` is masked: reports of imports are passed around."""

    line: int
    column: str
    value: str
    reason: str


@dataclass(slots=True)
class ImportResult:
    """What an import did; `notes` are things worth knowing that are no errors."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One good row; None means that the file has no such column, which leaves things as they are."""

    email: str
    normalized: str
    name: str | None
    topics: tuple[str, ...] | None


class HasLedger(Protocol):
    """A run, or anything else with a ledger."""

    @property
    def ledger(self) -> Ledger: ...


def active_subscribers(run: HasLedger) -> Iterator[Subscriber]:
    """Stream all active subscribers ordered by id, a page at a time: memory stays flat with a million of them."""
    active = (listed.subscriber for listed in everyone(run.ledger, "active"))
    yield from (replace(who, name="") if "=?" in who.name else who for who in active)  # of before `_name` refused it


def everyone(ledger: Ledger, status: Status | None = None) -> Iterator[Listed]:
    """Stream all subscribers, or those of a status, ordered by id."""
    after = ""
    while page := ledger.reading(_page, after, status):
        yield from page
        after = page[-1].subscriber.id


def add(ledger: Ledger, clock: Clock, email: str, *, name: str = "", topics: Iterable[str] = ()) -> Change:
    """Add or update one subscriber; `inactive` means that this person left and was not brought back.

    Raises ConfigError for an address or a name that cannot be used.
    """
    try:
        entry = _entry({"email": email, "name": name, "topics": " ".join(topics)})
    except _BadCell as error:
        raise ConfigError(f"{error.column} {error.value!r}: {error}") from error
    return ledger.writing(lambda connection: _put(connection, entry, clock.now()))


def find(ledger: Ledger, who: str) -> Listed | None:
    """Somebody by id or address; of a job's own readers, who have no address here, one who is not mailed any more."""
    normalized = forms(who)[-1:]
    mine = (or_(table.c.id == who, table.c.normalized.in_(normalized)), table.c.status != "forgotten")
    row = ledger.reading(lambda connection: connection.execute(select(table).where(*mine)).first())
    if row is None and (out := ledger.reading(outsiders.outsider_of, who)) is not None and out.status != "forgotten":
        return outside(out)
    return None if row is None else _listed(row)


def outside(row: Row[Any]) -> Listed:
    """One of a job's own readers."""
    return Listed(Subscriber(row.id, ""), row.status, row.reason, row.at)


def unsubscribe(ledger: Ledger, clock: Clock, who: str) -> bool:
    """Unsubscribe by id or address; False when nobody is known by that. Doing it twice is fine."""
    known = find(ledger, who)
    if known is None:
        return False
    ledger.writing(lambda connection: leave(connection, known.subscriber.id, "asked", clock.now()))
    return True


def leave(connection: Connection, id_: str, reason: str, now: datetime) -> None:
    """Unsubscribe one who has not left yet. A suppressed one stays so, and is not brought back to mail any more."""
    mine = select(table.c.status, table.c.reason).where(table.c.id == id_)
    row = connection.execute(mine).one_or_none()
    if row is None:
        outsiders.keep_out(connection, id_, "unsubscribed", reason, now)
        return
    if row.status not in ("active", "suppressed") or (row.reason or "").endswith(LEFT):
        return
    suppressed = {"reason": f"{row.reason or ''}{LEFT}"}
    values = suppressed if row.status == "suppressed" else {"status": "unsubscribed", "reason": reason}
    connection.execute(update(table).where(table.c.id == id_).values(**values, changed_at=now))


def forms(address: str) -> tuple[str, ...]:
    """The address as it is stored and as it is compared; empty for what is no address."""
    try:
        checked = _address(address)
    except _BadCell:
        return ()
    return checked.normalized, _normalized(checked)


def export_csv(ledger: Ledger) -> Iterator[str]:
    """Write all subscribers as lines of CSV that `import_csv` reads again; text is guarded against spreadsheets."""
    yield _line(["email", "name", "topics", "id", "status"])
    for listed in everyone(ledger):
        who = listed.subscriber
        yield _line([_guarded(who.email), _guarded(who.name), _guarded("|".join(who.topics)), who.id, listed.status])


def import_csv(ledger: Ledger, path: Path, clock: Clock) -> ImportResult:
    """Import `email,name,topics` (any order, `,` or `;`, UTF-8); bad rows are named and the rest is imported.

    Raises ConfigError, with a line, for a file that is no such CSV at all: nothing is imported then. Committed in
    transactions of 500 rows; importing a file again changes nothing.
    """
    result = ImportResult()
    entries = iter(_merge(_rows(path, result), result))
    inactive = 0
    while batch := list(islice(entries, PAGE)):
        changes = ledger.writing(partial(_put_all, entries=batch, now=clock.now()))
        result.added += changes.count("added")
        result.updated += changes.count("updated")
        result.unchanged += changes.count("unchanged") + changes.count("inactive")
        inactive += changes.count("inactive")
    if inactive:
        result.notes.append(f"{inactive} who unsubscribed or were suppressed stay so: an import brings nobody back")
    return result


class _BadCell(Exception):
    """One cell cannot be used."""

    def __init__(self, column: str, value: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.value = column, value


def _page(connection: Connection, after: str, status: Status | None) -> list[Listed]:
    query = select(table).where(table.c.id > after, table.c.status != "forgotten").order_by(table.c.id).limit(PAGE)
    if status is not None:
        query = query.where(table.c.status == status)
    return [_listed(row) for row in connection.execute(query)]


def _listed(row: Row[Any]) -> Listed:
    who = Subscriber(row.id, row.email, row.name, tuple(json.loads(row.topics)))
    return Listed(who, row.status, row.reason, row.changed_at)


def _put_all(connection: Connection, entries: list[_Entry], now: datetime) -> list[Change]:
    return [_put(connection, entry, now) for entry in entries]


def _put(connection: Connection, entry: _Entry, now: datetime) -> Change:
    row = connection.execute(select(table).where(table.c.normalized == entry.normalized)).one_or_none()
    if row is None and is_forgotten(connection, entry.normalized):
        return "inactive"
    if row is None:
        connection.execute(insert(table).values(**_new_row(entry, now)))
        return "added"
    if row.status != "active":
        return "inactive"
    wanted = {
        "email": entry.email,
        "name": row.name if entry.name is None else entry.name,
        "topics": row.topics if entry.topics is None else json.dumps(entry.topics, ensure_ascii=False),
    }
    if all(getattr(row, name) == value for name, value in wanted.items()):
        return "unchanged"
    connection.execute(update(table).where(table.c.id == row.id).values(**wanted, changed_at=now))
    return "updated"


def _new_row(entry: _Entry, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("s_"),
        "email": entry.email,
        "normalized": entry.normalized,
        "name": entry.name or "",
        "topics": json.dumps(entry.topics or (), ensure_ascii=False),
        "status": "active",
        "created_at": now,
        "changed_at": now,
    }


def new_id(kind: str) -> str:
    """An id that says nothing about the person; `kind` is its beginning."""
    return kind + base64.b32encode(bytes.fromhex(token(10))).decode().lower()


def _rows(path: Path, result: ImportResult) -> Iterator[_Entry]:
    """All good rows of the file; bad ones go to `result.rejected`."""
    text = _decoded(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    columns = _header(path, _next(path, reader), result)
    line = reader.line_num + 1
    while (cells := _next(path, reader)) is not None:
        if cells:
            try:
                yield _entry(_named(columns, cells))
            except _BadCell as error:
                result.rejected.append(Rejected(line, error.column, _masked(error.value), str(error)))
        line = reader.line_num + 1


def _named(columns: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) > len(columns):
        raise _BadCell("row", "", f"{len(cells)} cells under {len(columns)} columns: quote the delimiter")
    return dict(zip(columns, cells, strict=False))


def _next(path: Path, reader: Any) -> list[str] | None:
    start = reader.line_num + 1
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        raise ConfigError(f"{path.name}:{start}: {error}; look for a quote that is not closed") from error
    return cells


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path.name}:1: the file is UTF-16: save it as UTF-8 (in a spreadsheet: CSV UTF-8)")
    if (nul := data.find(b"\0")) >= 0:
        raise ConfigError(f"{path.name}:{_line_of(data, nul)}: a NUL byte (byte {nul}): this is no UTF-8 text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path.name}:{_line_of(data, error.start)}: not UTF-8 (byte {error.start}): save the file as UTF-8"
        ) from error


def _line_of(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return ";" if head.count(";") > head.count(",") else ","


def _header(path: Path, cells: list[str] | None, result: ImportResult) -> list[str]:
    columns = [cell.strip().lower() for cell in cells or []]
    if "email" not in columns:
        raise ConfigError(f"{path.name}:1: no column `email`: the first line must read email,name,topics in any order")
    twice = sorted({name for name in _COLUMNS if columns.count(name) > 1})
    if twice:
        raise ConfigError(f"{path.name}:1: the column {twice[0]} is there twice")
    ignored = [name for name in columns if name not in _COLUMNS]
    if ignored:
        result.notes.append(f"columns ignored: {', '.join(ignored)}")
    return columns


def _merge(entries: Iterable[_Entry], result: ImportResult) -> list[_Entry]:
    """Join rows of the same address: topics united, the last name that is given wins."""
    merged: dict[str, _Entry] = {}
    for entry in entries:
        first = merged.get(entry.normalized)
        if first is None:
            merged[entry.normalized] = entry
            continue
        result.merged += 1
        topics = None if first.topics is None else tuple(dict.fromkeys((*first.topics, *(entry.topics or ()))))
        merged[entry.normalized] = replace(first, name=entry.name or first.name, topics=topics)
    return list(merged.values())


def _entry(cells: dict[str, str]) -> _Entry:
    checked = _address(_unguarded(cells.get("email", "").strip()))
    topics = cells.get("topics")
    return _Entry(
        email=checked.normalized,
        normalized=_normalized(checked),
        name=None if (name := cells.get("name")) is None else _name(_unguarded(name.strip())),
        topics=None if topics is None else _topics(_unguarded(topics.strip())),
    )


def _address(text: str) -> ValidatedEmail:
    if not text:
        raise _BadCell("email", "", "the address is missing")
    try:
        return validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise _BadCell("email", text, str(error)) from error


def _normalized(checked: ValidatedEmail) -> str:
    """Reduce an address to what makes two the same person: no case, domain in punycode."""
    return f"{checked.local_part.casefold()}@{checked.ascii_domain.lower()}"


def _name(text: str) -> str:
    if _CONTROL.search(text) or "=?" in text:  # an encoded word, which may hide one
        raise _BadCell("name", text, "the name contains a line break, a control character or an encoded word (=?…)")
    if len(text) > NAME_MAX:
        raise _BadCell("name", text, f"the name has {len(text)} characters, {NAME_MAX} is the limit")
    return text


def _topics(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(topic for topic in _TOPIC_GAP.split(text) if topic))


def _masked(value: str) -> str:
    """`jane@example.org` as `j…@example.org`: enough to find the row, too little to pass on."""
    local, at, domain = value.partition("@")
    return f"{local[:1]}…{at}{_CONTROL.sub('?', domain)[:60]}" if value else ""


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
