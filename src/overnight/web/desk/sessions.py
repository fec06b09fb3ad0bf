"""Sessions that have logged out: known to the ledger for as long as they would have lasted.

A cookie that somebody has copied is worth nothing afterwards, to another process or after a restart either.
"""

from datetime import datetime

from sqlalchemy import Connection, delete, select

from overnight.clock import iso
from overnight.ledger.statements import put
from overnight.ledger.tables import meta
from overnight.tokens import SESSION

_OUT = "logged-out:"  # in `meta`, before the id of a session; its value is when it would have ended


def log_out(connection: Connection, id_: str, now: datetime) -> None:
    """Note that a session has ended, and forget those that are over by now."""
    connection.execute(delete(meta).where(meta.c.name.startswith(_OUT), meta.c.value < iso(now)))
    put(connection, meta, {"name": f"{_OUT}{id_}", "value": iso(now + SESSION)})


def has_logged_out(connection: Connection, id_: str) -> bool:
    """Whether a session was ended."""
    return connection.execute(select(meta.c.name).where(meta.c.name == f"{_OUT}{id_}")).first() is not None
