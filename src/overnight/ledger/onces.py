"""Values that are computed once per slot, and what of a source they have used up."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select

from overnight.ledger.items import hold
from overnight.ledger.statements import insert_new, put
from overnight.ledger.tables import once, seen
from overnight.outcome import EDITION, Scope, original


def once_value(connection: Connection, job: str, name: str, value: str) -> str | None:
    """The stored value of `once`, as JSON."""
    found: str | None = connection.execute(_VALUE, {"job": job, "slot": name, "name": value}).scalar_one_or_none()
    return found


_VALUE = select(once.c.value).where(*(once.c[name] == bindparam(name) for name in ("job", "slot", "name")))


def keep_once(
    connection: Connection, scope: Scope, name: str, value: str, marks: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Store a `once` value together with the `(source, key)` marks it used up: both or neither. Raises Fenced."""
    hold(connection, scope)
    row = {"job": scope.job, "slot": scope.slot, "name": name, "value": value, "run_id": scope.run_id, "at": now}
    put(connection, once, row)
    insert_new(
        connection,
        seen,
        [{"job": scope.job, "source": source, "key": key, "slot": scope.slot} for source, key in marks],
    )


def borrow_onces(connection: Connection, scope: Scope, now: datetime) -> None:
    """Give a rehearsal the `once` values of the slot it rehearses: it shows what was paid for, and pays for nothing."""
    real = (once.c.job == scope.job, once.c.slot == scope.slot.partition("~")[0])
    own = {"slot": scope.slot, "run_id": scope.run_id, "at": now}
    rows = connection.execute(select(once).where(*real)).mappings().all()
    insert_new(connection, once, [{**row, **own} for row in rows])


def seen_by_others(connection: Connection, job: str, name: str, source: str) -> set[str]:
    """Keys of a source that other slots of the job have used; rehearsals and editions of a slot count as that slot."""
    base = original(name)
    mine = or_(seen.c.slot.in_((name, base)), seen.c.slot.startswith(f"{base}{EDITION}", autoescape=True))
    query = select(seen.c.key).where(seen.c.job == job, seen.c.source == source, ~mine)
    return set(connection.execute(query).scalars())
