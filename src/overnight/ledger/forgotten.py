"""Who asked to be forgotten: a keyed hash in the place of the address.

The key is random, is made on first use and stays in the ledger: an import can still be compared with a hash, and one
who has the hashes without the ledger learns nothing. Who has both can try addresses: that is the price of not bringing
a person back.
"""

import hashlib
import hmac

from sqlalchemy import Connection, select

from overnight.clock import token
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import meta, subscriber

_KEY = "forget_key"


def tombstone(connection: Connection, normalized: str) -> str:
    """What stands in the place of this address."""
    insert_new(connection, meta, [{"name": _KEY, "value": token(32)}])
    key: str = connection.execute(select(meta.c.value).where(meta.c.name == _KEY)).scalar_one()
    return f"forgotten:{hmac.new(key.encode(), normalized.encode(), hashlib.sha256).hexdigest()}"


def is_forgotten(connection: Connection, normalized: str) -> bool:
    """Whether somebody of this address asked to be forgotten."""
    if connection.execute(select(meta.c.name).where(meta.c.name == _KEY)).first() is None:
        return False
    mine = subscriber.c.normalized == tombstone(connection, normalized)
    return connection.execute(select(subscriber.c.id).where(mine)).first() is not None
