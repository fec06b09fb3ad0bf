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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, false, literal, or_, select

from overnight.erasure.files import erase_files, files_of
from overnight.erasure.person import Erased, Person, spelled
from overnight.erasure.rows import OPEN, REASON, bury, erase_rows
from overnight.ledger import Ledger
from overnight.ledger.forgotten import tombstone
from overnight.ledger.outsiders import outsider_of
from overnight.ledger.rollups import trouble
from overnight.ledger.runs import days_of, owe_reports
from overnight.ledger.tables import item, signup
from overnight.ledger.tables import subscriber as table
from overnight.subscribers import forms

__all__ = ["Erased", "Person", "files_of", "find_person", "forget"]


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
        done.rows.update(erase_rows(connection, person))
        done.rows["subscriber"] += bury(connection, person)

    ledger.writing(erase)
    if not ledger.shrink():
        done.left.append(f"{ledger.faults.file}-wal, which somebody is reading: give the command again")
    erase_files(sorted({file.resolve() for file in files()}), person, done)
    return done


def _told_in(connection: Connection, person: Person) -> set[str]:
    """The days whose reports will say something else without this person."""
    waits = select(item.c.job, item.c.slot).where(item.c.key == person.id, item.c.state.in_(OPEN))
    held = or_(false(), *(trouble.c.sample.icontains(form, autoescape=True) for form in spelled(person)))
    sampled = select(trouble.c.job, trouble.c.slot).where(held)
    return {day for job, name in connection.execute(waits.union(sampled)) for day in days_of(connection, job, name)}
