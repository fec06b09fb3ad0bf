"""What becomes of a subscription: somebody signs up, confirms it by a link, is suppressed, is brought back.

Who signs up is no subscriber before the link in the mail was used, for anybody may type in any address. Everybody who
is not suppressed gets that mail, subscriber or not, so that nobody can find out who is one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from overnight.errors import ConfigError, Refused
from overnight.ledger import Ledger, deliveries
from overnight.ledger.flow import LedgerRows, Level, milliseconds
from overnight.ledger.forgotten import tombstone
from overnight.ledger.outsiders import keep_out, let_in, page
from overnight.ledger.tables import effect, signup, subscriber
from overnight.subscribers import LEFT, PAGE, Listed, Status, new_id, outside

AGAIN = (timedelta(minutes=10), timedelta(hours=1), timedelta(days=1))  # until another mail to the same address
PUT_OFF = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))  # after each answer of `not yet`
GIVEN_UP = timedelta(days=1)  # a mail that could not go out is not tried for longer
AT_ONCE = 20.0  # sign-ups before the rate counts

Confirmed = Literal["subscribed", "suppressed", "used"]


def sign_up(connection: Connection, email: str, normalized: str, now: datetime) -> None:
    """Note that somebody at this address wants the mail, unless the last link was sent there a moment ago."""
    row = connection.execute(select(signup).where(signup.c.normalized == normalized)).one_or_none()
    if row is not None and row.confirmed_at is None and not _may_mail(row, now):
        return
    if row is None or row.confirmed_at is not None:
        connection.execute(delete(signup).where(signup.c.normalized == normalized))
        values = {"id": new_id("p_"), "email": email, "normalized": normalized, "asked_at": now}
        connection.execute(insert(signup).values(**values))
        return
    values = {"asked_at": now, "mailed_at": None, "put_off": 0, "next_at": None}
    connection.execute(update(signup).where(signup.c.id == row.id).values(values))


def _may_mail(row: Row[Any], now: datetime) -> bool:
    """Whether a link is to be sent to somebody who signs up once more; one that waits to be sent is enough."""
    if row.mailed_at is None:
        return bool(now - row.asked_at >= GIVEN_UP)
    return bool(now - row.mailed_at >= AGAIN[min(row.mails, len(AGAIN)) - 1])


def admitted(connection: Connection, per_second: float, now: datetime) -> bool:
    """Whether one more sign-up is within the rate of all of them together; nobody waits for it."""
    rows, now = LedgerRows(connection), milliseconds(now)
    level = rows.level("subscribe.requests", Level(AT_ONCE, now))
    passed = max(0.0, (now - level.at).total_seconds())  # a wall clock set back refills nothing
    tokens = min(AT_ONCE, level.tokens + passed * per_second)
    taken = tokens >= 1
    rows.put_level("subscribe.requests", replace(level, tokens=tokens - taken, at=now))
    return taken


def to_be_mailed(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Sign-ups whose link is to be sent, in order. Suppressed addresses get none: the operator has to look first."""
    suppressed = select(subscriber.c.id).where(
        subscriber.c.normalized == signup.c.normalized, subscriber.c.status == "suppressed"
    )
    waiting = (signup.c.mailed_at.is_(None), signup.c.confirmed_at.is_(None), signup.c.asked_at > now - GIVEN_UP)
    due = or_(signup.c.next_at.is_(None), signup.c.next_at <= now)
    wanted = select(signup).where(*waiting, due, ~suppressed.exists())
    return connection.execute(wanted.order_by(signup.c.asked_at)).all()


def put_off(connection: Connection, row: Row[Any], now: datetime) -> None:
    """The mailbox of this sign-up does not take the link yet."""
    pause = PUT_OFF[min(row.put_off, len(PUT_OFF) - 1)]
    same = (signup.c.id == row.id, signup.c.asked_at == row.asked_at)
    connection.execute(update(signup).where(*same).values(put_off=signup.c.put_off + 1, next_at=now + pause))


def mailed(connection: Connection, row: Row[Any], now: datetime) -> None:
    """The link of this sign-up has gone out, or never will."""
    same = (signup.c.id == row.id, signup.c.asked_at == row.asked_at)
    connection.execute(update(signup).where(*same).values(mailed_at=now, mails=signup.c.mails + 1))


def confirm(connection: Connection, id_: str, now: datetime) -> Confirmed:
    """Make a subscriber of who has signed up, once; afterwards say whether that still holds."""
    row = connection.execute(select(signup).where(signup.c.id == id_)).one_or_none()
    if row is None:
        return "used"
    if row.confirmed_at is None:
        _subscribe(connection, row, now)
        connection.execute(update(signup).where(signup.c.id == id_).values(confirmed_at=now))
    status = _status(connection, row.normalized)
    return "subscribed" if status == "active" else "suppressed" if status == "suppressed" else "used"


def _subscribe(connection: Connection, row: Row[Any], now: datetime) -> None:
    known = _status(connection, row.normalized)
    if known in ("active", "suppressed"):
        return
    values = {"status": "active", "reason": None, "changed_at": now}
    if known is not None:
        connection.execute(update(subscriber).where(subscriber.c.normalized == row.normalized).values(**values))
        return
    values |= {"email": row.email, "normalized": row.normalized}
    # One who was forgotten comes back by own wish: under the old id, so that there is one row to forget again.
    grave = subscriber.c.normalized == tombstone(connection, row.normalized)
    if not connection.execute(update(subscriber).where(grave).values(**values)).rowcount:
        new = {"id": new_id("s_"), "name": "", "topics": "[]", "created_at": now}
        connection.execute(insert(subscriber).values(**values, **new))


def _status(connection: Connection, normalized: str) -> str | None:
    mine = subscriber.c.normalized == normalized
    return connection.execute(select(subscriber.c.status).where(mine)).scalar_one_or_none()


def outsiders(ledger: Ledger, status: Status | None = None) -> Iterator[Listed]:
    """Stream those of a job's own readers who are not mailed any more, ordered by id."""
    after = ""
    while rows := ledger.reading(page, after, status, PAGE):
        yield from map(outside, rows)
        after = rows[-1].id


def suppress_by_hand(connection: Connection, id_: str, reason: str, now: datetime) -> None:
    """Send this reader nothing until somebody brings the subscription back; one who left stays so.

    Of a job's own readers, who stand nowhere before they are out, only one whom a job has mailed: else a slip of the
    pen would suppress nobody, and look as if it had.
    """
    mine = subscriber.c.id == id_
    if connection.execute(select(subscriber.c.id).where(mine)).first() is None:
        mails = select(effect.c.id).where(effect.c.kind == "mail", effect.c.target == id_).limit(1)
        if connection.execute(mails).first() is not None:
            keep_out(connection, id_, "suppressed", reason, now)
        return
    values = {"status": "suppressed", "reason": reason, "changed_at": now}
    connection.execute(update(subscriber).where(mine, subscriber.c.status == "active").values(**values))


def reactivate(connection: Connection, id_: str, now: datetime) -> None:
    """Send a suppressed subscriber mail again. Raises Refused for one who left, ConfigError for an unknown id.

    Of a job's own readers, who cannot sign up here, also one who left: the operator knows of the wish.
    """
    row = connection.execute(select(subscriber).where(subscriber.c.id == id_)).one_or_none()
    if row is None and let_in(connection, id_):
        return deliveries.forget(connection, id_)
    if row is None or row.status == "forgotten":
        raise ConfigError(f"{id_}: nobody is known by this id; see overnight subscribers list")
    if row.status == "unsubscribed" or (row.reason or "").endswith(LEFT):
        raise Refused(f"{id_} left by own wish: who wants the mail again signs up and confirms it, on /subscribe")
    values = {"status": "active", "reason": None, "changed_at": now}
    connection.execute(update(subscriber).where(subscriber.c.id == id_).values(**values))
    return deliveries.forget(connection, id_)
