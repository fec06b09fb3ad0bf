"""The rows of a person in the ledger, or in a copy of it."""

import json
import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, String, Table, Text, delete, false, inspect, or_, select, update

from overnight.erasure.person import Person, pattern_of, spelled
from overnight.ledger.forgotten import tombstone
from overnight.ledger.items import moved_by_hand
from overnight.ledger.rollups import OF_KEY, left, trouble
from overnight.ledger.tables import call, item, metadata, outsider, signup, slot, tool_call
from overnight.ledger.tables import subscriber as table
from overnight.outcome import State

REASON = "forgotten"
OPEN: tuple[State, ...] = ("pending", "retry")


def bury(connection: Connection, person: Person) -> int:
    """Put the hash in the place of the address; returns the rows changed."""
    mine = (table.c.id == person.id, table.c.status != REASON)
    row = connection.execute(select(table.c.normalized).where(*mine)).one_or_none()
    if row is None:
        return 0
    values = {"email": "", "name": "", "topics": "[]", "status": REASON, "reason": "asked"}
    hidden = {"normalized": tombstone(connection, row.normalized)}
    return connection.execute(update(table).where(*mine).values(**values, **hidden)).rowcount


def erase_rows(connection: Connection, person: Person) -> Counter[str]:
    """Erase a person from every table but `subscriber`; returns how many rows of which."""
    rows: Counter[str] = Counter()
    there = inspect(connection)  # a copy may be of an older schema
    rows["item"] += _skip_open(connection, person, summed=there.has_table(trouble.name))
    rows["item"] += _scrub_items(connection, person)
    answers = (call.c.key == person.id, call.c.response.is_not(None))
    rows["call"] += connection.execute(update(call).where(*answers).values(response=None)).rowcount
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


def _skip_open(connection: Connection, person: Person, *, summed: bool) -> int:
    """Let what is still to be done for the person pass; where troubles are `summed`, it leaves the sums."""
    total = 0
    for state in OPEN:
        mine = (item.c.key == person.id, item.c.state == state)
        slots = connection.execute(select(item.c.job, item.c.slot).where(*mine)).all()
        for job, name in slots:
            moved = {state: slot.c[state] - 1, "skipped": slot.c.skipped + 1}
            connection.execute(update(slot).where(slot.c.job == job, slot.c.slot == name).values(**moved))
        if summed:
            left(connection, OF_KEY, {"w_key": person.id, "w_state": state})
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
    return re.search(pattern_of(person), text, re.IGNORECASE) is not None


def _replace_texts(connection: Connection, of: Table, columns: Collection[str], person: Person) -> int:
    """Put the id in the place of the address, wherever a text of this table has it."""
    pattern = re.compile(pattern_of(person), re.IGNORECASE)
    keys = list(of.primary_key)
    total = 0
    for column in of.columns:
        if column.name not in columns or not isinstance(column.type, (String, Text)):
            continue
        holding = or_(false(), *(column.icontains(form, autoescape=True) for form in spelled(person)))
        for row in connection.execute(select(*keys, column.label("text")).where(holding)).all():
            clean, n = pattern.subn(person.id, row.text)
            if n:
                same = [key == value for key, value in zip(keys, row[: len(keys)], strict=True)]
                connection.execute(update(of).where(*same).values({column.name: clean}))
                total += 1
    return total
