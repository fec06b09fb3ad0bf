"""A report is a function of the ledger that becomes a CSV.

    @report({"report_date": "date", "job": "text", "calls": "count", "cost_usd": "money"})
    def cost(day: Day) -> DataFrame:
        return day.query("SELECT … WHERE budget_day = :day")

The same ledger gives the same bytes: columns in the declared order, rows sorted by what is written, no time of making.
Files are kept in the spool first and uploaded after, so that no store that is down can lose one.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, get_args
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Executable, bindparam, select, text
from sqlalchemy import func as sql

from overnight.cells import Columns, Kind, Table, table
from overnight.ledger import Ledger
from overnight.ledger.tables import run, slot
from overnight.storage import Drained, Spool
from overnight.storage.store import digest

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = 2  # of the manifest and the columns; new columns only at the end
DEADLINE = 30.0  # seconds a run may wait for the store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Day:
    """What a report is asked about: a date in the project's zone, and the ledger."""

    date: date
    ledger: Ledger

    def query(self, statement: str | Executable, **parameters: Any) -> "DataFrame":
        """The rows as a DataFrame of plain Python objects: integers stay integers, NULL stays None.

        In SQL text `:day` is the date as `2026-11-22`, the form of all `day` columns.
        """
        from pandas import DataFrame  # noqa: PLC0415  0.4 s and 100 MB, only for who makes a report

        asked = text(statement) if isinstance(statement, str) else statement
        values = {"day": self.date.isoformat()} | parameters
        names, rows = self.ledger.reading(_rows, asked, values)
        return DataFrame(rows, columns=names, dtype=object)


def _rows(connection: Connection, statement: Any, values: dict[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    result = connection.execute(statement, values)
    return list(result.keys()), [tuple(row) for row in result]


@dataclass(frozen=True, slots=True)
class Report:
    """A report by its name; calling it is calling its function."""

    name: str
    fn: Callable[[Day], "DataFrame"]
    columns: Columns

    def __call__(self, day: Day) -> "DataFrame":
        """Ask the ledger about a day."""
        return self.fn(day)

    def table(self, day: Day) -> Table:
        """Make the table of a day as it is written. Raises ValueError naming the column where that cannot be."""
        frame = self(day)
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            has = ", ".join(map(str, frame.columns))
            raise ValueError(f"the table lacks the column {missing[0]!r}; it has {has}")
        return table({name: list(frame[name]) for name in self.columns}, self.columns)


def report(columns: Columns) -> Callable[[Callable[[Day], "DataFrame"]], Report]:
    """Declare a report and its columns; registers nothing.

    `money` cells are integer nano-USD and are written in dollars; `ratio` is any finite number, written with six
    digits; `instant` is an aware datetime or ISO text; None is an empty cell.

    Raises TypeError for what is no mapping of columns to these kinds, and for an `async def`.
    """
    kinds = get_args(Kind)
    if not isinstance(columns, Mapping) or any(kind not in kinds for kind in columns.values()):
        raise TypeError(f'name the columns and their kinds, @report({{"job": "text"}}); kinds are {", ".join(kinds)}')

    def declare(fn: Callable[[Day], "DataFrame"]) -> Report:
        if iscoroutinefunction(fn):
            raise TypeError(f"a report is a plain `def`, for it is made in a thread of its own: {fn.__name__} is async")
        return Report(fn.__name__, fn, columns)

    return declare


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing has come to: keys written, why reports failed (by `name date`), and the upload.

    `unmade` are the days of which a report failed, or for which this disk had no room: theirs are to be made again.
    """

    keys: tuple[str, ...]
    errors: Mapping[str, str]
    drained: Drained
    unmade: frozenset[date] = frozenset()


async def publish(
    reports: Sequence[Report], dates: Iterable[date], ledger: Ledger, zone: ZoneInfo, spool: Spool
) -> Published:
    """Make each report for each day, keep it in the spool, then upload for at most 30 s.

    A report that cannot be made is an error of that report; a store that is down leaves everything in the spool.
    Neither raises: what a run has come to does not depend on its reports.
    """
    keys: list[str] = []
    errors: dict[str, str] = {}
    unmade: set[date] = set()
    today = ledger.clock.now().astimezone(zone).date()
    for day in sorted(set(dates)):
        for each in reports:
            try:
                keys.append(await asyncio.to_thread(_keep, each, Day(day, ledger), spool, today))
            except Exception as error:
                errors[f"{each.name} {day}"] = f"{type(error).__name__}: {error}"
                unmade.add(day)
                log.exception("report failed", report=each.name, day=day.isoformat())
    drained = await spool.drain(DEADLINE)
    if drained.error:
        log.warning("reports wait in the spool", left=drained.left, reason=drained.error, spool=str(spool.folder))
    return Published(tuple(keys), errors, drained, frozenset(unmade))


def _keep(made: Report, day: Day, spool: Spool, today: date) -> str:
    """Make and keep one report; returns the key of its CSV. One process at a time: who reads later is sent later."""
    where = f"report={made.name}/date={day.date}"
    key = f"{where}/{made.name}-{day.date}.csv"
    with spool.alone():
        written = made.table(day)
        content = written.csv()
        files = [(key, content)]
        if _is_latest(made, day, written, today):
            files.append((f"latest/{made.name}.csv", content))
        told = manifest(made, day.date, written, content)
        files.append((f"{where}/manifest.json", told))  # last: who finds it finds the rest
        spool.add(files)
    return key


def manifest(made: Report, day: date, written: Table, content: bytes) -> bytes:
    """What the CSV must be, as JSON: readers trust only a file that agrees with it. Sums are nano-USD."""
    document = {
        "schema": SCHEMA,
        "report": made.name,
        "date": day.isoformat(),
        "file": f"{made.name}-{day}.csv",
        "columns": dict(made.columns),
        "rows": len(written.rows),
        "bytes": len(content),
        "sha256": digest(content),
        "sums_nano_usd": written.sums(),
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _is_latest(made: Report, day: Day, written: Table, today: date) -> bool:
    """Whether this day is the one in `latest/`.

    Mostly there is one newest day. Where the newest runs were of older slots alone (an old edition, a retry), what they
    cost is of their own day and what they came to is of the slots': each report shows the newest one that has rows.
    """
    slots, later = day.ledger.reading(newest_days, today)
    if day.date != slots and day.date not in later:
        return False
    return day.date == next((each for each in later if _has_rows(made, Day(each, day.ledger), day, written)), slots)


def _has_rows(made: Report, other: Day, day: Day, written: Table) -> bool:
    """Whether the report has rows on the other day, which is no reason to keep this one from being published."""
    if other.date == day.date:
        return bool(written.rows)
    try:
        return bool(made.table(other).rows)
    except Exception:
        log.exception("report failed: latest/ does without", report=made.name, day=other.date.isoformat())
        return False


def newest_days(connection: Connection, today: date) -> tuple[date, list[date]]:
    """The day of the newest real slot that has come, `today` where there is none, and later ones of runs, newest first.

    A clock that was years ahead for one run has left a slot that is newer than `today` for years.
    """
    asked = {"today": today.isoformat()}
    slots = date.fromisoformat(connection.execute(_COME, asked).scalar() or asked["today"])
    later = connection.execute(_LATER, asked | {"slots": slots.isoformat()}).scalars()
    return slots, [date.fromisoformat(day) for day in later]


_STARTED = select(sql.max(run.c.day)).where(run.c.day <= bindparam("today")).scalar_subquery()
_COME = select(sql.max(slot.c.day)).where(slot.c.rehearsal.is_(False), slot.c.day <= _STARTED)
_RUNS = run.c.day > bindparam("slots"), run.c.day <= bindparam("today")
_LATER = select(run.c.day).distinct().where(*_RUNS).order_by(run.c.day.desc())
