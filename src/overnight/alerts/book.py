"""Alerts in the ledger: their state, what is still to be told of them, and messages that a channel has not taken.

What changes is noted with the state, in one transaction, and told from there: a crash between the two loses nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, or_, select, update

from overnight.alerts.alarm import Alarm
from overnight.alerts.state import Change, Known, step
from overnight.clock import iso, token
from overnight.ledger.controls import alert, notice
from overnight.ledger.flow import held
from overnight.ledger.statements import put
from overnight.triggers import compact

IS_OPEN = or_(alert.c.state == "pending", alert.c.state == "firing")  # an IN is put together anew each time
INHIBITED = ("success_rate", "p95_duration", "model")  # what an open breaker explains
ASIDE = "s3"  # but not this one's: reports wait for their store, items do not
BETWEEN = timedelta(minutes=2)  # from when a side may be tried again until a sweep has done so
AT_ONCE = timedelta(minutes=1)  # how long a message belongs to the process that has taken it
PATIENCE = timedelta(days=1)  # after which a message is given up: what lasts is told again by then
SLOWEST = timedelta(hours=1)  # between two attempts


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a message: a change of an alert; times are UTC."""

    rule: str
    scope: str
    message: str
    change: Change
    since: datetime
    at: datetime

    @property
    def lasted(self) -> str:
        """How long it has lasted, as in `2h10m`: whole minutes, or seconds below one."""
        seconds = max(0, int((self.at - self.since).total_seconds()))
        return compact(seconds - seconds % 60 if seconds >= 60 else seconds)

    @property
    def line(self) -> str:
        """The line as a chat shows it."""
        head = {"new": "Alert", "over": f"Resolved after {self.lasted}", "reminder": f"Still, since {self.lasted}"}
        return f"{head[self.change]}: {self.message}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to one channel; `tries` counts this attempt."""

    id: str
    channel: str
    changes: tuple[Told, ...]
    created_at: datetime
    tries: int


def note(connection: Connection, alarm: Alarm, now: datetime, repeat: timedelta) -> Change | None:
    """Move the state of one alert; returns what is to be told."""
    return note_all(connection, [alarm], now, repeat).get(alarm.key)


def note_all(connection: Connection, alarms: Sequence[Alarm], now: datetime, repeat: timedelta) -> dict[str, Change]:
    """Move the state of each alert; returns by key what is to be told. An open breaker goes first: it mutes others."""
    changes: dict[str, Change] = {}
    for alarm in sorted(alarms, key=lambda one: one.rule != "breaker"):
        row = connection.execute(_ALERT, {"key": alarm.key}).mappings().one_or_none()
        old = _known(row) if row is not None else None
        muted = _silent(row, now) or (alarm.rule in INHIBITED and _explained(connection, alarm.rule, now))
        new, change = step(old, firing=alarm.firing, now=now, hold=alarm.hold, repeat=repeat, muted=muted)
        if new is not None and new != old:
            _write(connection, alarm, new, change or (row["untold"] if row is not None else None), row)
        if change is not None:
            changes[alarm.key] = change
    return changes


def _known(row: RowMapping) -> Known:
    return Known(row["state"], row["first_at"], row["last_at"], row["times"], row["notified_at"])


def _silent(row: RowMapping | None, now: datetime) -> bool:
    return row is not None and row["silenced_until"] is not None and row["silenced_until"] > now


def _explained(connection: Connection, rule: str, now: datetime) -> bool:
    """Whether a side that is down, and of which people were told, is what this alert comes from."""
    told = select(alert.c.scope).where(alert.c.rule == "breaker", alert.c.state == "firing")
    down = {one.name for one in held(connection, now - BETWEEN) if one.down}
    sides = {name.partition(":")[0] for name in down.intersection(connection.execute(told).scalars())}
    return "anthropic" in sides if rule == "model" else bool(sides - {ASIDE})


def _write(connection: Connection, alarm: Alarm, new: Known, untold: str | None, row: RowMapping | None) -> None:
    put(
        connection,
        alert,
        {
            "key": alarm.key, "rule": alarm.rule, "scope": alarm.scope, "message": alarm.message,
            "state": new.state, "first_at": new.since, "last_at": new.last_at, "times": new.times,
            "notified_at": new.notified_at, "untold": untold,
            "silenced_until": row["silenced_until"] if row is not None else None,
        },
    )  # fmt: skip


def worth_noting(connection: Connection, alarms: Iterable[Alarm]) -> list[Alarm]:
    """Those that change anything: a look that finds nothing wrong where nothing was wrong needs no write lock."""
    known = set(connection.execute(_OPEN).scalars())
    return [alarm for alarm in alarms if alarm.firing or alarm.key in known]


def anything_to_tell(connection: Connection, now: datetime) -> bool:
    """Whether a change is untold, or a message waits whose time has come."""
    return bool(connection.execute(_ANYTHING, {"now": now}).scalar_one())


_ALERT = select(alert).where(alert.c.key == bindparam("key"))
_OPEN = select(alert.c.key).where(IS_OPEN)


def write_up(connection: Connection, channels: Sequence[str], now: datetime) -> list[str]:
    """Make one message of all that is untold, for each channel; returns the channels for which any message is due.

    Messages for a channel that was taken out are forgotten: nobody is to get them any more.
    """
    connection.execute(_FORGET_OTHERS, {"channels": list(channels), "now": now})
    changes = _json(
        Told(row["rule"], row["scope"], row["message"], row["untold"], row["first_at"], row["last_at"])
        for row in connection.execute(_CHANGES).mappings()
    )
    if connection.execute(_TELL).rowcount:
        for channel in channels:
            values = {"id": f"d_{token(8)}", "channel": channel, "changes": changes, "created_at": now}
            connection.execute(insert(notice), {**values, "tries": 0, "next_at": now})
    return list(connection.execute(_CHANNELS, {"now": now}).scalars())


_TO_TELL = alert.c.untold.is_not(None)
_CHANGES = select(alert).where(_TO_TELL).order_by(alert.c.untold, alert.c.first_at)
_TELL = update(alert).where(_TO_TELL).values(untold=None)
_NOW_DUE = notice.c.next_at <= bindparam("now")
_FORGET_OTHERS = delete(notice).where(notice.c.channel.not_in(bindparam("channels", expanding=True)), _NOW_DUE)
_ANYTHING = select(or_(select(alert.c.key).where(_TO_TELL).exists(), select(notice.c.id).where(_NOW_DUE).exists()))
_CHANNELS = select(notice.c.channel).where(_NOW_DUE).distinct()


def take(connection: Connection, channel: str, now: datetime) -> Delivery | None:
    """Take over the message for a channel that is due for longest; it is ours to deliver within a minute."""
    row = connection.execute(_NEXT, {"channel": channel, "now": now}).mappings().one_or_none()
    if row is None:
        return None
    one = Delivery(row["id"], channel, _told(row["changes"]), row["created_at"], row["tries"] + 1)
    connection.execute(_TAKE, {"b_id": one.id, "v_next_at": now + AT_ONCE, "v_tries": one.tries})
    return one


_NEXT = (
    select(notice)
    .where(notice.c.channel == bindparam("channel"), _NOW_DUE)
    .order_by(notice.c.next_at, notice.c.created_at)
    .limit(1)
)
_THIS = notice.c.id == bindparam("b_id")
_TAKE = update(notice).where(_THIS).values(next_at=bindparam("v_next_at"), tries=bindparam("v_tries"))


def delivered(connection: Connection, one: Delivery) -> None:
    """Forget a message that a channel has taken."""
    connection.execute(_FORGET, {"b_id": one.id})


_FORGET = delete(notice).where(_THIS)


def postponed(connection: Connection, one: Delivery, error: str, now: datetime) -> bool:
    """Try again later, each time twice as late; False when it was given up."""
    if now - one.created_at >= PATIENCE:
        delivered(connection, one)
        return False
    later = min(AT_ONCE * 2 ** min(one.tries - 1, 10), SLOWEST)
    connection.execute(update(notice).where(notice.c.id == one.id).values(next_at=now + later, error=error))
    return True


def undelivered(connection: Connection) -> Sequence[RowMapping]:
    """Channels that have failed to take a message: `channel`, `waiting` messages, the newest `error`."""
    of, newest = notice.c.channel, notice.c.created_at.desc()
    waiting = func.count().over(partition_by=of).label("waiting")
    error = func.first_value(notice.c.error).over(partition_by=of, order_by=(newest, notice.c.id)).label("error")
    query = select(of, waiting, error).distinct().where(notice.c.error.is_not(None)).order_by(of)
    return connection.execute(query).mappings().all()


def firing(connection: Connection) -> Sequence[RowMapping]:
    """Alerts that are not over, newest first."""
    return connection.execute(_FIRING).mappings().all()


_FIRING = select(alert).where(alert.c.state == "firing").order_by(alert.c.last_at.desc())


def every(connection: Connection) -> Sequence[RowMapping]:
    """All alerts the ledger knows, also those that are over, newest first."""
    return connection.execute(select(alert).order_by(alert.c.last_at.desc())).mappings().all()


def silence(connection: Connection, key: str, until: datetime | None) -> bool:
    """Keep an alert quiet until then, or with None not any longer; False when there is none of that key."""
    return connection.execute(update(alert).where(alert.c.key == key).values(silenced_until=until)).rowcount > 0


def _json(changes: Iterable[Told]) -> str:
    return json.dumps([asdict(one) | {"since": iso(one.since), "at": iso(one.at)} for one in changes])


def _told(text: str) -> tuple[Told, ...]:
    return tuple(_one(values) for values in json.loads(text))


def _one(values: Mapping[str, Any]) -> Told:
    times = {name: datetime.fromisoformat(values[name]) for name in ("since", "at")}
    return Told(**{**values, **times})
