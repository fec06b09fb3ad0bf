"""The life of an alert, as a function: pending until it has lasted, firing, resolved; and what is to be told when.

This module knows neither ledger nor channel.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

State = Literal["pending", "firing", "resolved"]
Change = Literal["new", "over", "reminder"]

OUT_OF_SIGHT = timedelta(minutes=15)  # what was pending and not seen for so long begins anew


@dataclass(frozen=True, slots=True)
class Known:
    """An alert as it was last noted: `since` when the trouble began, `notified_at` None while nobody was told of it."""

    state: State
    since: datetime
    last_at: datetime
    times: int = 0
    notified_at: datetime | None = None


def step(
    old: Known | None, *, firing: bool, now: datetime, hold: timedelta, repeat: timedelta, muted: bool
) -> tuple[Known | None, Change | None]:
    """What becomes of an alert that was seen `firing` or not, and what is to be told of it.

    `hold`: how long it has to be wrong before anybody is told. `muted` (silenced, or explained by another alert) moves
    the state and keeps quiet: what still lasts when that is over is told as new. The end of what was told is always
    told.
    """
    if not firing:
        return _ended(old, now)
    if old is None or old.state == "resolved" or _out_of_sight(old, now, hold):
        old = Known("pending", since=now, last_at=now)
    lasted = old.state == "firing" or now - old.since >= hold
    change = _due(old, now, repeat) if lasted and not muted else None
    seen = replace(old, state="firing" if lasted else "pending", last_at=now, times=old.times + 1)
    return (replace(seen, notified_at=now) if change else seen), change


def _ended(old: Known | None, now: datetime) -> tuple[Known | None, Change | None]:
    if old is None or old.state == "resolved":
        return old, None
    return replace(old, state="resolved", last_at=now), "over" if old.notified_at else None


def _out_of_sight(old: Known, now: datetime, hold: timedelta) -> bool:
    return old.state == "pending" and now - old.last_at > max(hold, OUT_OF_SIGHT)


def _due(old: Known, now: datetime, repeat: timedelta) -> Change | None:
    if old.notified_at is None:
        return "new"
    return "reminder" if now - old.notified_at >= repeat else None
