"""When reports are made and sent: after each run, and whenever a day is owed or something waits in the spool."""

from datetime import date
from pathlib import Path

from overnight import logs, project
from overnight.ledger import Ledger
from overnight.ledger.runs import owed_reports, reports_made
from overnight.report import publish as publish_days
from overnight.schedule import Schedule
from overnight.storage import Drained, Spool, open_store, waiting


def spool_of(root: Path, schedule: Schedule) -> Spool:
    """The project's spool, on its way to `reports.to`."""
    return Spool(root / schedule.reports.spool, open_store(schedule.reports.to, root, schedule.environ))


async def publish(root: Path, schedule: Schedule, ledger: Ledger) -> tuple[str, ...]:
    """Make the reports of all days that are owed, those of a process that died before it came to it included.

    Returns where to look. Never raises for a report or a store: what a run has come to does not depend on its reports.
    A day for which the disk has no room stays owed.
    """
    owed = await ledger.read(owed_reports)
    if not owed:
        return ()
    try:
        days = [date.fromisoformat(day) for day in owed]
        done = await publish_days(project.load_reports(), days, ledger, schedule.timezone, spool_of(root, schedule))
        made = {day: mark for day, mark in owed.items() if date.fromisoformat(day) not in done.unkept}
        await ledger.write(lambda connection: reports_made(connection, made))
    except Exception as error:  # noqa: BLE001  broken report code, an unreadable spool: told, and the run stands
        logs.get().error("reports could not be made", exc_info=error)
        return ()
    where = str(schedule.reports.to) if not done.drained.left else f"{schedule.reports.spool} (waiting for the store)"
    return (where,) if done.keys else ()


async def drain_spool(root: Path, schedule: Schedule) -> Drained:
    """Upload what waits; a store that is down stays a line in the log."""
    if not waiting(root / schedule.reports.spool):
        return Drained(0, 0)
    drained = await spool_of(root, schedule).drain()
    log = logs.get()
    if drained.error:
        log.warning("reports wait in the spool", left=drained.left, error=drained.error)
    elif drained.uploaded:
        log.info("spooled reports were uploaded", uploaded=drained.uploaded)
    return drained
