"""When a job is due: `cron`, `every` and `at`, as pure functions of an instant.

All answers are UTC instants and all comparisons are made in UTC. A time of day runs exactly once per local day: in a
skipped hour right after the gap (before it, where it reaches over midnight), in a repeated hour the first time. A
schedule whose minute or hour starts with `*` (`*/15 * * * *`) follows elapsed time instead, and so runs in both copies
of a repeated hour.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
RANGES = ("minute 0-59", "hour 0-23", "day of month 1-31", "month 1-12 or JAN-DEC", "day of week 0-7 or SUN-SAT")

_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z", re.ASCII)
_LONGEST = 200  # characters; a longer expression is a paste gone wrong and only costs parsing time


class Trigger(Protocol):
    """What the scheduler, the ledger and `next` ask of a schedule entry."""

    @property
    def text(self) -> str:
        """It on one line, for `read`."""
        ...

    @property
    def at_most_daily(self) -> bool:
        """True when it fires at most once per local day, so that a date names the slot."""
        ...

    def next(self, after: datetime) -> datetime | None:
        """Return the first due instant (UTC) strictly later than `after` (aware); None when there is none."""
        ...

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the due instants (UTC) with `after < t <= until`, in order."""
        ...

    def local(self, instant: datetime) -> datetime:
        """Return the instant on the job's wall clock."""
        ...

    def slot(self, instant: datetime) -> str:
        """Name the slot: the local date for at most daily triggers, else the UTC instant."""
        ...

    def scheduled_for(self, slot: str) -> datetime:
        """Return the instant (UTC) a slot belongs to; ValueError for a malformed slot."""
        ...

    def note(self, instant: datetime) -> str:
        """Return what a clock change does to this occurrence; empty on ordinary days."""
        ...

    def describe(self) -> str:
        """Return the schedule in words."""
        ...


class Listed(NamedTuple):
    """A job of schedule.yaml as far as its times go: a hash that changes with them, and its trigger as text."""

    hash: str
    enabled: bool
    timing: str = ""


def read(text: str) -> "Trigger":
    """Return the trigger that wrote this as its `text`. Raises ValueError."""
    kind, first, rest = (text + "  ").split(" ", 2)
    match kind:
        case "cron":
            return Cron(rest.strip(), ZoneInfo(first))
        case "every":
            return Every(int(first))
    raise ValueError(f"{text!r} is no trigger")


class _Timed:
    """What the kinds of trigger share: everything but the arithmetic of the next instant."""

    def next(self, after: datetime) -> datetime | None:
        raise NotImplementedError

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the due instants (UTC) with `after < t <= until`, in order."""
        due = self.next(after)
        while due is not None and due <= until:
            yield due
            due = self.next(due)


@dataclass(frozen=True)
class Cron(_Timed):
    """A cron expression of five fields on the wall clock of `tz`.

    0 and 7 are Sunday; day of month and day of week are alternatives when both are given, as in cron. `L`, `LW` and
    `5#2` are understood. ValueError when the expression cannot be read or never fires.
    """

    expr: str
    tz: ZoneInfo

    def __post_init__(self) -> None:
        _check(self.expr)

    @property
    def text(self) -> str:
        """It and its zone on one line, for `read`."""
        return f"cron {self.tz.key} {self.expr}"

    @cached_property
    def _fields(self) -> str:
        return NICKNAMES.get(self.expr.strip().lower(), self.expr)

    @cached_property
    def _follows_elapsed_time(self) -> bool:
        minute, hour = self._fields.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    @cached_property
    def _time_of_day(self) -> time | None:
        """The only time of day at which it fires, if there is just one."""
        parsed = CronSim(self._fields, datetime(2000, 1, 1, tzinfo=UTC))
        if self._follows_elapsed_time or len(parsed.minutes) > 1 or len(parsed.hours) > 1:
            return None
        return time(min(parsed.hours), min(parsed.minutes))

    @property
    def at_most_daily(self) -> bool:
        """True when minute and hour are a single value each."""
        return self._time_of_day is not None

    def next(self, after: datetime) -> datetime | None:
        """Return the first due instant (UTC) strictly later than `after` (aware); None when there is none."""
        return _next(self, after.astimezone(UTC))  # or the two copies of an hour would be one

    def _next(self, after: datetime) -> datetime | None:
        try:
            return self._by_elapsed_time(after) if self._follows_elapsed_time else self._by_wall_clock(after)
        except (OverflowError, StopIteration):  # the calendar ends in the year 9999
            return None

    def _by_wall_clock(self, after: datetime) -> datetime:
        """Let cronsim move times out of a gap; skip what lies before `after` inside a repeated hour."""
        after = after.astimezone(UTC)
        due = (self._on_its_day(at) for at in CronSim(self._fields, after.astimezone(self.tz)))
        return next(at for at in due if at is not None and at > after)

    def _on_its_day(self, at: datetime) -> datetime | None:
        """Return `at` in UTC, kept on its local day where the gap reaches over midnight (America/Nuuk, 23:00-00:00).

        After such a gap it would be the next day, which has a run of its own; so it runs in the last minute before.
        None when the whole local day does not exist (Pacific/Apia left out 2011-12-30).
        """
        if self._time_of_day is None or at.time() >= self._time_of_day:
            return at.astimezone(UTC)
        before = at.astimezone(UTC) - _MINUTE  # the end of the gap is the instant of the change
        exists = self.local(before).date() == at.date() - timedelta(days=1)
        return before if exists else None

    def _by_elapsed_time(self, after: datetime) -> datetime:
        """Walk the stretches between clock changes, each as a calendar with a fixed offset."""
        after = after.astimezone(UTC)
        while True:
            offset = self._offset(after)
            wall = next(CronSim(self._fields, (after + offset).replace(tzinfo=None)))
            due = wall.replace(tzinfo=UTC) - offset
            if self._offset(due) == offset:
                return due
            change = self._change(after, due, offset)
            # One second back on the new clock, so that a job due at the change itself is found.
            shifted = (change - _SECOND + self._offset(change)).replace(tzinfo=None)
            due = next(CronSim(self._fields, shifted)).replace(tzinfo=UTC) - self._offset(change)
            if self._offset(due) == self._offset(change):
                return due
            after = change

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.tz).utcoffset() or timedelta()

    def _change(self, low: datetime, high: datetime, offset: timedelta) -> datetime:
        """Return the first second in (low, high] that no longer has the offset of `low`."""
        low = low.replace(microsecond=0)
        while high - low > _SECOND:
            middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return high

    def local(self, instant: datetime) -> datetime:
        """Return the instant on the job's wall clock."""
        return instant.astimezone(self.tz)

    def slot(self, instant: datetime) -> str:
        """Name the slot: the local date for at most daily triggers, else the UTC instant."""
        return self.local(instant).date().isoformat() if self.at_most_daily else _stamp(instant)

    def scheduled_for(self, slot: str) -> datetime:
        """Return the instant (UTC) of a slot: for a date, that day at the job's time, whether or not it fires then."""
        if self._time_of_day is None:
            return _instant(slot)
        day, at = _date(slot), self._time_of_day
        try:
            before = datetime.combine(day, time(), self.tz) - _SECOND
            due = self._on_its_day(next(CronSim(f"{at.minute} {at.hour} * * *", before)))
        except (OverflowError, StopIteration):
            due = None
        if due is None:
            raise ValueError(f"slot {slot!r} lies outside the calendar of {self.tz.key}")
        return due

    def note(self, instant: datetime) -> str:
        """Return what a clock change does to this occurrence; empty on ordinary days."""
        local = self.local(instant)
        wall = f"{local:%H:%M}"
        if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():  # never a gap: `local` exists
            once = "runs each time" if self._follows_elapsed_time else "runs once"
            return f"clocks go back that night: {wall} comes twice, {once}"
        if self._time_of_day and self._time_of_day != local.time():
            return f"{self._time_of_day:%H:%M} does not exist that day, runs at {wall}"
        return ""

    def describe(self) -> str:
        """Return the schedule in words: "At 07:00 on Monday through Friday"."""
        return CronSim(self._fields, datetime(2000, 1, 1, tzinfo=UTC)).explain()


@lru_cache(maxsize=1024)
def _next(cron: Cron, after: datetime) -> datetime | None:
    """Every look asks each job for what comes after the same occurrence, and cronsim takes a step for each day."""
    return cron._next(after)  # noqa: SLF001


class At(Cron):
    """Every day at one time of day, `"08:00"`, on the wall clock of `tz`."""

    def __init__(self, clock: str, tz: ZoneInfo) -> None:
        match = _CLOCK.fullmatch(clock)
        if not match:
            raise ValueError(f"{clock!r} is not a time of day; write HH:MM from 00:00 to 23:59, in quotes")
        super().__init__(f"{int(match[2])} {int(match[1])} * * *", tz)


@dataclass(frozen=True)
class Every(_Timed):
    """A fixed distance in whole seconds, counted from 1970-01-01 00:00 UTC.

    Counting from the epoch keeps no state: two schedulers, or one restarted, agree on every instant.
    """

    seconds: int

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise ValueError("`every` must be at least one second")

    @property
    def text(self) -> str:
        """It on one line, for `read`."""
        return f"every {self.seconds}"

    @property
    def at_most_daily(self) -> bool:
        """True from one day upwards; the day is the UTC day."""
        return self.seconds >= timedelta(days=1).total_seconds()

    def next(self, after: datetime) -> datetime | None:
        """Return the first due instant (UTC) strictly later than `after` (aware); None when there is none."""
        try:
            return self._tick((after.astimezone(UTC) - _EPOCH) // self._step + 1)
        except OverflowError:  # the calendar ends in the year 9999
            return None

    @property
    def _step(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def _tick(self, number: int) -> datetime:
        return _EPOCH + number * self._step

    def local(self, instant: datetime) -> datetime:
        """Return the instant in UTC: a distance has no wall clock."""
        return instant.astimezone(UTC)

    def slot(self, instant: datetime) -> str:
        """Name the slot: the UTC date from one day upwards, else the UTC instant."""
        return self.local(instant).date().isoformat() if self.at_most_daily else _stamp(instant)

    def scheduled_for(self, slot: str) -> datetime:
        """Return the instant (UTC) of a slot; for a date without a tick, its midnight."""
        if not self.at_most_daily:
            return _instant(slot)
        midnight = datetime.combine(_date(slot), time(), UTC)
        tick = self._tick(-((_EPOCH - midnight) // self._step))
        return tick if tick.date() == midnight.date() else midnight

    def note(self, instant: datetime) -> str:  # noqa: ARG002  part of the protocol
        """Return nothing: clock changes do not touch a distance."""
        return ""

    def describe(self) -> str:
        """Return the schedule in words: "every 6h"."""
        return "every " + compact(self.seconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)
def _check(expr: str) -> None:
    """Raise ValueError, for a reader, unless the expression fires at some time."""
    text = NICKNAMES.get(expr.strip().lower(), expr)
    fields = text.split()
    if len(text) > _LONGEST or len(fields) != len(RANGES):
        raise ValueError(f"{expr[:40]!r} is not a cron expression; it needs 5 fields: minute hour day month weekday")
    _check_fields(expr, fields)
    try:
        next(CronSim(text, datetime(2000, 1, 1)))  # noqa: DTZ001  wall clock on purpose
    except (CronSimError, StopIteration):
        raise ValueError(f"cron {expr!r} never fires: no month has such a day") from None


def _check_fields(expr: str, fields: list[str]) -> None:
    """Try each field alone, so that the message can name the one that is wrong."""
    for position, (field, allowed) in enumerate(zip(fields, RANGES, strict=True)):
        alone = ["*"] * len(RANGES)
        alone[position] = field
        try:
            CronSim(" ".join(alone), datetime(2000, 1, 1))  # noqa: DTZ001
        except (CronSimError, ValueError, AssertionError):
            raise ValueError(f"cron {expr!r} never fires: {field!r} is no {allowed}") from None


def _stamp(instant: datetime) -> str:
    """Return the UTC instant to the minute; with seconds only where there are some."""
    utc = instant.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ" if utc.second else "%Y-%m-%dT%H:%MZ")


def _instant(slot: str) -> datetime:
    try:
        if _INSTANT.fullmatch(slot):
            return datetime.fromisoformat(slot).astimezone(UTC)
    except ValueError:
        pass
    raise ValueError(f"slot {slot!r} is not a UTC instant such as 2026-11-22T07:30Z")


def _date(slot: str) -> date:
    try:
        if _DATE.fullmatch(slot):
            return date.fromisoformat(slot)
    except ValueError:
        pass
    raise ValueError(f"slot {slot!r} is not a date such as 2026-11-22")


def compact(seconds: int) -> str:
    """Write a whole number of seconds the way schedule.yaml does: `1h30m`."""
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
