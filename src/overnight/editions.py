"""Corrected editions: a slot made once more, under a name of its own.

`2026-11-22.2` is the second edition of `2026-11-22`. Everything durable is keyed by the slot, so a new name alone makes
`once` values, Message-IDs, effects, budget and audience new; the marks of what was used count as its own.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select, update

from overnight.errors import ConfigError, Refused
from overnight.ledger.items import moved_by_hand
from overnight.ledger.rollups import IN_STATE, left, of_slot
from overnight.ledger.runs import days_of, owe_reports
from overnight.ledger.tables import effect, item, lease, occurrence, slot
from overnight.outcome import EDITION, original

OPEN = ("pending", "retry")


@dataclass(frozen=True, slots=True)
class Edition:
    """The edition to be made: `name` is its slot, `before` the one it replaces, which has sent `mails`."""

    name: str
    before: str
    mails: int


def next_edition(connection: Connection, job: str, name: str, now: datetime) -> Edition:
    """What a corrected edition of this slot would be.

    Raises ConfigError for a slot that was never run, Refused while it is being run.
    """
    base = original(name)
    rows = connection.execute(select(slot).where(slot.c.job == job, of(base))).mappings().all()
    made = [row for row in rows if not row["rehearsal"]]
    if not made:
        raise ConfigError(
            f"{job} {name} was never run, so there is nothing to correct: overnight run {job} --slot {base}"
        )
    newest = max(made, key=_number)
    held = connection.execute(
        select(lease.c.run_id).where(lease.c.job == job, lease.c.slot == newest["slot"], lease.c.until > now)
    ).scalar_one_or_none()
    if held is not None:
        raise Refused(f"{job} {newest['slot']} is being run ({held}): wait for it, or `overnight cancel {held}`")
    sent = (effect.c.job == job, effect.c.slot == newest["slot"], effect.c.kind == "mail", effect.c.state == "done")
    mails = connection.execute(select(func.count()).where(*sent)).scalar_one()
    return Edition(f"{base}{EDITION}{_number(newest) + 1}", newest["slot"], int(mails))


def of(base: str) -> ColumnElement[bool]:
    """Condition on `slot`: the slot of this name and its later editions."""
    return or_(slot.c.slot == base, slot.c.slot.startswith(f"{base}{EDITION}", autoescape=True))


def _number(row: RowMapping) -> int:
    return int(row["slot"].partition(EDITION)[2] or 1)


def supersede(connection: Connection, job: str, edition: Edition, now: datetime) -> int:
    """Let the items of the edition before that are not done pass: nobody gets it any more. Returns how many.

    Raises Refused when a run has begun, or another correction was made, while the operator was asked.
    """
    wanted = next_edition(connection, job, edition.before, now)
    if wanted.name != edition.name:
        raise Refused(f"{job} {edition.name} was made by somebody else just now: overnight runs {job}")
    mine = (item.c.job == job, item.c.slot == edition.before)
    passed, why = 0, moved_by_hand(f"superseded by {edition.name}")
    for state in OPEN:
        values = {"state": "skipped", "reason": why, "next_at": None, "expires_at": None}
        left(connection, IN_STATE, of_slot(job, edition.before) | {"w_state": state})
        n = connection.execute(update(item).where(*mine, item.c.state == state).values(**values)).rowcount
        moved = {state: slot.c[state] - n, "skipped": slot.c.skipped + n}
        connection.execute(update(slot).where(slot.c.job == job, slot.c.slot == edition.before).values(**moved))
        passed += n
    waiting = (
        occurrence.c.job == job,
        occurrence.c.slot == edition.before,
        occurrence.c.state.in_(("claimed", "queued")),
    )
    connection.execute(update(occurrence).where(*waiting).values(state="ran", reason=f"superseded by {edition.name}"))
    owe_reports(connection, days_of(connection, job, edition.before))
    return passed
