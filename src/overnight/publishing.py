"""When reports are made and sent: after each run, and whenever a day is owed or something waits in the spool."""

from datetime import date
from pathlib import Path

from overnight import logs, project
from overnight.alerts import Alarm, Alerter
from overnight.dependency import Dependencies
from overnight.ledger import Ledger
from overnight.ledger.runs import owed_reports, reports_made
from overnight.report import publish as publish_days
from overnight.retention import retired_days
from overnight.schedule import Schedule
from overnight.storage import Drained, Spool, open_store


def spool_of(root: Path, schedule: Schedule, dependencies: Dependencies) -> Spool:
    """The project's spool, on its way to `reports.to`."""
    store = open_store(schedule.reports.to, root, schedule.environ, dependencies)
    return Spool(root / schedule.reports.spool, store)


async def publish(
    root: Path, schedule: Schedule, ledger: Ledger, dependencies: Dependencies, alerter: Alerter
) -> tuple[str, ...]:
    """Make the reports of all days that are owed, those of a process that died before it came to it included.

    Returns where to look. Never raises for a report or a store: what a run has come to does not depend on its reports.
    A day for which the disk has no room stays owed; a store that refuses reports is alerted.
    """
    owed = await ledger.read(owed_reports)
    if not owed:
        return ()
    try:
        retired = await ledger.read(retired_days, list(owed))  # they would be made of less than before
        days = [date.fromisoformat(day) for day in owed if day not in retired]
        spool = spool_of(root, schedule, dependencies)
        done = await publish_days(project.load_reports(), days, ledger, schedule.timezone, spool)
        made = {day: mark for day, mark in owed.items() if date.fromisoformat(day) not in done.unkept}
        await ledger.write(lambda connection: reports_made(connection, made))
        await alerter.raise_all(alarms_of(done.drained, schedule.reports.spool))
    except Exception as error:  # noqa: BLE001  broken report code, an unreadable spool: told, and the run stands
        logs.get().error("reports could not be made", exc_info=error)
        return ()
    where = str(schedule.reports.to) if not done.drained.left else f"{schedule.reports.spool} (waiting for the store)"
    return (where,) if done.keys else ()


def alarms_of(drained: Drained, spool: str) -> list[Alarm]:
    """An alert when only a person can help, over once all is uploaded. A store that is down helps itself. Pure."""
    if drained.refused:
        left = f"{drained.left} publications of reports wait in {spool}"
        return [Alarm("reports", spool, f"{left}: {drained.error}")]
    done = drained.uploaded and not drained.left
    return [Alarm("reports", spool, "all reports are uploaded", firing=False)] if done else []


async def drain_spool(root: Path, schedule: Schedule, dependencies: Dependencies, alerter: Alerter) -> Drained:
    """Upload what waits; a store that is down stays a line in the log, one that refuses it is alerted."""
    drained = await spool_of(root, schedule, dependencies).drain()
    log = logs.get()
    if drained.error:
        log.warning("reports wait in the spool", left=drained.left, error=drained.error)
    elif drained.uploaded:
        log.info("spooled reports were uploaded", uploaded=drained.uploaded)
    await alerter.raise_all(alarms_of(drained, schedule.reports.spool))
    return drained
