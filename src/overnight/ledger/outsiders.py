"""Readers whom a job brings from elsewhere: of those who are not to be mailed any more, the ledger keeps the id.

A row is written when one leaves by the link of a mail, or when a mailbox has refused for good; it is looked at before
each mail, like the status of a subscriber. Everybody else has none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, select, update

from overnight.ledger.statements import insert_new
from overnight.ledger.tables import outsider as table

Out = Literal["suppressed", "unsubscribed", "forgotten"]

STAND_IN = "rehearsal"  # the id of who gets a test: it is nobody's, so that neither bounce nor link does anything
_WEAKER: dict[Out, tuple[Out, ...]] = {
    "suppressed": (),
    "unsubscribed": ("suppressed",),
    "forgotten": ("suppressed", "unsubscribed"),
}


def keep_out(connection: Connection, id_: str, status: Out, reason: str, at: datetime) -> bool:
    """Mail this reader no more; a stronger reason that stands already stays. Whether that is new."""
    if id_ == STAND_IN:
        return False
    values = {"status": status, "reason": reason, "at": at}
    if insert_new(connection, table, [{"id": id_, **values}]):
        return True
    weaker = (table.c.id == id_, table.c.status.in_(_WEAKER[status]))
    return bool(connection.execute(update(table).where(*weaker).values(**values)).rowcount)


def let_in(connection: Connection, id_: str, *, reason: str | None = None) -> bool:
    """Mail this reader again, unless forgotten; given a `reason`, only one suppressed for it. Whether it was so."""
    mine = [table.c.id == id_, table.c.status != "forgotten"]
    if reason is not None:
        mine += [table.c.status == "suppressed", table.c.reason == reason]
    return bool(connection.execute(delete(table).where(*mine)).rowcount)


def outsider_of(connection: Connection, id_: str) -> Row[Any] | None:
    """The row of this reader."""
    return connection.execute(select(table).where(table.c.id == id_)).one_or_none()


def page(connection: Connection, after: str, status: str | None, limit: int) -> Sequence[Row[Any]]:
    """The next rows by id, without those who were forgotten."""
    query = select(table).where(table.c.id > after, table.c.status != "forgotten").order_by(table.c.id).limit(limit)
    return connection.execute(query if status is None else query.where(table.c.status == status)).all()
