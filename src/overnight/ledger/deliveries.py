"""What mailboxes said: who is not to be mailed any more, because there is no such mailbox, or it is full for ever.

A hard bounce suppresses a subscriber at once, the third soft one of the last five mails as well. Mails that arrive are
noted only for who has bounced before, and forgotten with the last soft bounce among five: the table stays small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, delete, exists, func, select, update

from overnight.ledger.outsiders import keep_out, let_in
from overnight.ledger.statements import Prepared, insert_new
from overnight.ledger.tables import delivery as table
from overnight.ledger.tables import outsider, subscriber

Verdict = Literal["hard", "soft"]

WATCHED = 5  # mails of a subscriber
ENOUGH = 3  # soft bounces among them


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether somebody may be mailed: `status` None for one whom the ledger does not know; `watched`: has bounced."""

    status: str | None = None
    watched: bool = False


_bounces = select(table.c.ref).where(table.c.subscriber == bindparam("watched"))
_subscribed = select(subscriber.c.status).where(subscriber.c.id == bindparam("id")).scalar_subquery()
_out = select(outsider.c.status).where(outsider.c.id == bindparam("outside")).scalar_subquery()
_standing = Prepared(
    lambda _insert: select(func.coalesce(_subscribed, _out).label("status"), exists(_bounces).label("bounced"))
)


def standing(connection: Connection, who: str) -> Standing:
    """Look up whether `who` may be mailed."""
    status, bounced = _standing.row(connection, {"watched": who, "id": who, "outside": who}) or (None, False)
    return Standing(status, bool(bounced))


def bounced(connection: Connection, who: str, ref: str, verdict: Verdict, status: str, at: datetime) -> bool:
    """Note that the mail `ref` came back, once however often it is told; whether that suppressed `who` just now."""
    _note(connection, who, ref, verdict, status, at)
    if verdict == "soft" and sum(row.verdict == "soft" for row in _latest(connection, who)) < ENOUGH:
        return False
    reason = _reason(verdict, status)
    if connection.execute(select(subscriber.c.id).where(subscriber.c.id == who)).first() is None:
        return keep_out(connection, who, "suppressed", reason, at)
    values: dict[str, Any] = {"status": "suppressed", "reason": reason, "changed_at": at}
    mine = (subscriber.c.id == who, subscriber.c.status == "active")
    return bool(connection.execute(update(subscriber).where(*mine).values(values)).rowcount)


def delivered(connection: Connection, who: str, ref: str, at: datetime) -> None:
    """Note that a mail to somebody who has bounced before was taken; with no soft bounce left, forget all of it."""
    _note(connection, who, ref, "delivered", "", at)
    latest = _latest(connection, who)
    if all(row.verdict == "delivered" for row in latest):
        forget(connection, who)


def pardon(connection: Connection, refs: Mapping[str, str], at: datetime) -> None:
    """Take bounces `{ref: subscriber}` back: it was not about these mailboxes after all."""
    for ref, who in refs.items():
        mine = (table.c.subscriber == who, table.c.ref == ref)
        row = connection.execute(select(table.c.verdict, table.c.status).where(*mine)).one_or_none()
        if row is None:
            continue
        connection.execute(delete(table).where(*mine))
        reason = _reason(row.verdict, row.status)
        let_in(connection, who, reason=reason)
        for_it = (subscriber.c.status == "suppressed", subscriber.c.reason == reason)
        values: dict[str, Any] = {"status": "active", "reason": None, "changed_at": at}
        connection.execute(update(subscriber).where(subscriber.c.id == who, *for_it).values(values))


def forget(connection: Connection, who: str) -> None:
    """Count anew: somebody knows that the mailbox works again."""
    connection.execute(delete(table).where(table.c.subscriber == who))


def _reason(verdict: str, status: str) -> str:
    return f"bounced {status}" if verdict == "hard" else f"bounced {status} in {ENOUGH} of the last {WATCHED} mails"


def _note(connection: Connection, who: str, ref: str, verdict: str, status: str, at: datetime) -> None:
    """Write what became of a mail: a bounce replaces that it was taken, and nothing replaces a bounce."""
    row = {"subscriber": who, "ref": ref, "verdict": verdict, "status": status, "at": at}
    if not insert_new(connection, table, [row]) and verdict != "delivered":
        same = (table.c.subscriber == who, table.c.ref == ref, table.c.verdict != "hard")
        connection.execute(update(table).where(*same).values(verdict=verdict, status=status))


def _latest(connection: Connection, who: str) -> list[Any]:
    """The watched mails of somebody; older ones are dropped."""
    newest = select(table).where(table.c.subscriber == who).order_by(table.c.at.desc(), table.c.ref)
    rows = list(connection.execute(newest))
    for row in rows[WATCHED:]:
        connection.execute(delete(table).where(table.c.subscriber == who, table.c.ref == row.ref))
    return rows[:WATCHED]
