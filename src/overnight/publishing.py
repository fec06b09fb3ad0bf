"""When reports are made and sent: after each run, and whenever a day is owed or something waits in the spool."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from overnight import logs, project
from overnight.alerts import Alarm
from overnight.alerts.alarm import MOST_NAMED
from overnight.dependency import Dependencies
from overnight.ledger import Ledger
from overnight.ledger.runs import owed_reports, reports_made
from overnight.plurals import counted
from overnight.report import publish as publish_days
from overnight.retention import retired_days
from overnight.schedule import Schedule
from overnight.storage import Drained, Spool, open_store

Raise = Callable[[Sequence[Alarm]], Awaitable[None]]

AGAIN = timedelta(minutes=10)
LONG_AGO = datetime.min.replace(tzinfo=UTC)


def spool_of(root: Path, schedule: Schedule, dependencies: Dependencies) -> Spool:
    """The project's spool, on its way to `reports.to`."""
    store = open_store(schedule.reports.to, root, schedule.environ, dependencies)
    return Spool(root / schedule.reports.spool, store)


async def publish(
    root: Path, schedule: Schedule, ledger: Ledger, dependencies: Dependencies, raise_all: Raise
) -> tuple[str, ...]:
    """Make the reports of all days that are owed, those of a process that died before it came to it included.

    Returns where to look. Never raises for a report or a store: what a run has come to does not depend on its reports.
    A day of which a report fails, or for which the disk has no room, stays owed. That is alerted, as is a store that
    refuses reports.
    """
    owed = await ledger.read(owed_reports)
    if not owed:
        return ()
    try:
        retired = await ledger.read(retired_days, list(owed))  # they would be made of less than before
        days = [date.fromisoformat(day) for day in owed if day not in retired]
        project.attach(root)  # a scheduler runs no job that would have done it
        reports, broken = await asyncio.to_thread(project.load_reports)  # with pandas, for a second
        done = await publish_days(reports, days, ledger, schedule.timezone, spool_of(root, schedule, dependencies))
        unmade = {day.isoformat() for day in (days if broken else done.unmade)}
        made = {day: mark for day, mark in owed.items() if day not in unmade}
        await ledger.write(lambda connection: reports_made(connection, made))
        failed = {name: str(error) for name, error in broken.items()} | dict(done.errors)
        await raise_all([*alarms_of(done.drained, schedule.reports.spool), unmade_alarm(failed)])
    except Exception as error:  # noqa: BLE001  an unreadable spool, a broken reports package: told, and the run stands
        logs.get().error("reports could not be made", exc_info=error)
        with suppress(Exception):  # what broke may be the ledger, in which alerts are noted
            await raise_all([unmade_alarm({"reports": f"{type(error).__name__}: {error}"})])
        return ()
    where = str(schedule.reports.to) if not done.drained.left else f"{schedule.reports.spool} (waiting for the store)"
    return (where,) if done.keys else ()


def alarms_of(drained: Drained, spool: str) -> list[Alarm]:
    """An alert when only a person can help, over once all is uploaded. A store that is down helps itself. Pure."""
    if drained.refused:
        left = f"{spool} holds {counted(drained.left, 'publication')} of reports"
        return [Alarm("reports", spool, f"{left}: {drained.error}")]
    done = drained.uploaded and not drained.left
    return [Alarm("reports", spool, "all reports are uploaded", firing=False)] if done else []


@dataclass(slots=True)
class Owing:
    """Days whose reports have just failed wait ten minutes: a bug in one lasts, and all are made anew."""

    unmade: Mapping[str, str] = field(default_factory=dict)
    until: datetime = LONG_AGO

    def due(self, connection: Connection, now: datetime) -> bool:
        """Whether a day is owed that has not just been tried."""
        owed = owed_reports(connection)
        return bool(owed) and (owed != self.unmade or now >= self.until)

    async def publish(
        self, root: Path, schedule: Schedule, ledger: Ledger, dependencies: Dependencies, raise_all: Raise
    ) -> None:
        """The same as the function; what is owed after it has failed."""
        await publish(root, schedule, ledger, dependencies, raise_all)
        self.unmade, self.until = await ledger.read(owed_reports), ledger.clock.now() + AGAIN


def unmade_alarm(failed: Mapping[str, str]) -> Alarm:
    """The alert about reports that could not be made, by name; over when there is none. Pure."""
    if not failed:
        return Alarm("reports", "made", "all reports are made", firing=False)
    named = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:MOST_NAMED])
    more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    return Alarm(
        "reports", "made", f"reports could not be made: {named}{more}; once that is mended they make themselves"
    )


async def drain_spool(root: Path, schedule: Schedule, dependencies: Dependencies, raise_all: Raise) -> Drained:
    """Upload what waits; a store that is down stays a line in the log, one that refuses it is alerted."""
    drained = await spool_of(root, schedule, dependencies).drain()
    log = logs.get()
    if drained.error:
        log.warning("reports wait in the spool", left=drained.left, error=drained.error)
    elif drained.uploaded:
        log.info("spooled reports were uploaded", uploaded=drained.uploaded)
    await raise_all(alarms_of(drained, schedule.reports.spool))
    return drained
