"""Counting what came back, each mail once, however often it is read."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, select, update

from overnight.alerts import Alarm
from overnight.bounces.notice import UNCLEAR, Notice, Reader
from overnight.bounces.place import Incoming, Place
from overnight.clock import Clock
from overnight.ledger import Ledger
from overnight.ledger.deliveries import bounced
from overnight.ledger.outsiders import STAND_IN
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import effect, incoming, subscriber
from overnight.plurals import counted
from overnight.subscribers import leave

_GIVEN = re.compile(rf"s_[a-z2-7]{{16}}|a_[0-9a-f]{{32}}|{STAND_IN}")  # subscribers, operators, tests: ids of ours
_LEAVING = {"left": "asked", "complained": "complained"}  # and the reason that is noted
PAGE = 200  # mails understood at a time, and looked up together
FRESH = timedelta(days=30)  # how often a mail that is read again says so: well within what the ledger remembers of it


@dataclass(slots=True)
class Counted:
    """What a pass came to: mails by kind (`again`: counted before), and who was suppressed or has left by it."""

    kinds: Counter[str] = field(default_factory=Counter)
    suppressed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def alarm(self) -> Alarm | None:
        """Whether our mail as such is refused; None when no server has said anything new."""
        if refused := self.kinds["policy"]:
            came = counted(refused, "mail")
            why = "check SPF, DKIM and DMARC of `from`, and the relay's rules and reputation; nobody was suppressed"
            return Alarm("mail_policy", "bounces", f"{came} came back because our mail as such is refused: {why}")
        if any(self.kinds[kind] for kind in ("hard", "soft", "delayed", "content")):
            return Alarm("mail_policy", "bounces", "mail comes back for other reasons than ours", firing=False)
        return None


def count(ledger: Ledger, clock: Clock, reader: Reader, place: Place) -> Counted:
    """Read everything in a place. A crash leaves the rest for the next pass, and nothing is counted twice."""
    result = Counted()
    mails = place.mails()
    while page := list(islice(mails, PAGE)):
        for mail, notice in _named(ledger, [(mail, reader.read(mail.data)) for mail in page]):
            kind = _counted(ledger, clock, mail, notice, result)
            ours = place.done(mail, clear=kind != "unclear")
            result.kinds[kind if ours or kind != "unclear" else "again"] += 1
    return result


def _named(ledger: Ledger, read: list[tuple[Incoming, Notice]]) -> Iterator[tuple[Incoming, Notice]]:
    """Each with the reader it is about, a subscriber or a job's own; what names neither is unclear.

    Who is named by the Message-ID alone is looked up among all mails ever sent, for the whole page at once: a second
    for each million. `mail: bounces_to` spares that.
    """
    unnamed = {notice.ref for _, notice in read if notice.ref and not notice.subscriber}
    by_ref = ledger.reading(_targets, unnamed) if unnamed else {}
    named = [notice.subscriber or by_ref.get(notice.ref, "") for _, notice in read]
    known = ledger.reading(_known, {who for who in named if who})
    for (mail, notice), who in zip(read, named, strict=True):
        if who in known:
            yield mail, Notice(notice.kind, who, notice.ref or mail.digest, notice.status)
        else:
            yield mail, UNCLEAR


def _counted(ledger: Ledger, clock: Clock, mail: Incoming, notice: Notice, result: Counted) -> str:
    """Count one mail; returns its kind, `again` for one that was counted before."""
    if notice.kind == "unclear":
        return "unclear"
    now = clock.now()
    reason = _LEAVING.get(notice.kind)
    if reason and not ledger.reading(_was_read, mail.digest):
        ledger.writing(lambda connection: leave(connection, notice.subscriber, reason, now))  # which may be done twice
        result.left.append(notice.subscriber)
    new, suppressed = ledger.writing(lambda connection: _note(connection, mail.digest, notice, now))
    if suppressed:
        result.suppressed.append(notice.subscriber)
    return notice.kind if new else "again"


def _note(connection: Connection, digest: str, notice: Notice, now: datetime) -> tuple[bool, bool]:
    """Whether the mail is new, and whether it suppressed somebody, in one transaction."""
    if not insert_new(connection, incoming, [{"digest": digest, "verdict": notice.kind, "at": now}]):
        read = update(incoming).where(incoming.c.digest == digest, incoming.c.at < now - FRESH)
        connection.execute(read.values(at=now))
        return False, False
    match notice.kind:
        case "hard" | "soft" as verdict:
            return True, bounced(connection, notice.subscriber, notice.ref, verdict, notice.status or "5.0.0", now)
    return True, False


def _was_read(connection: Connection, digest: str) -> bool:
    return connection.execute(select(incoming.c.digest).where(incoming.c.digest == digest)).first() is not None


def _targets(connection: Connection, refs: set[str]) -> dict[str, str]:
    sent = select(effect.c.ref, effect.c.target).where(effect.c.kind == "mail", effect.c.ref.in_(refs))
    return {row.ref: row.target for row in connection.execute(sent)}


def _known(connection: Connection, ids: set[str]) -> set[str]:
    """Those that are somebody's: a job's own reader is known by our signature, or by a mail of ours, alone."""
    own = {who for who in ids if not _GIVEN.fullmatch(who)}
    return own | set(connection.execute(select(subscriber.c.id).where(subscriber.c.id.in_(ids))).scalars())
