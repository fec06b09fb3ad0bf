"""Which run is meant, and whether its process still lives."""

from typing import Any

from sqlalchemy import Connection

from overnight import closing
from overnight.cli.context import Cli
from overnight.errors import ConfigError, Refused
from overnight.ledger.runs import latest_run, runs_like, under_way

LISTED = 3  # candidates named when the beginning of an id fits several


def found_run(cli: Cli, name: str) -> Any:
    """The run of an id, of the beginning of one, or the latest of a job, rehearsals aside. Raises ConfigError."""
    if not name.startswith("r_") or name in cli.schedule.jobs:
        row = cli.ledger.reading(latest_run, name)
    else:
        rows = cli.ledger.reading(runs_like, name, LISTED + 1)
        if len(rows) > 1:
            raise ConfigError(f"{name} is the beginning of several runs; say which: {_candidates(rows)}")
        row = rows[0] if rows else None
    if row is None:
        raise ConfigError(f"there is no run {name!r}; `overnight runs` lists them")
    return row


def _candidates(rows: Any) -> str:
    named = ", ".join(f"{row['id']} ({row['job']} {row['slot']})" for row in rows[:LISTED])
    return named + (", …" if len(rows) > LISTED else "")


def has_died(cli: Cli, run: Any) -> bool:
    """Whether the ledger says `running` of a process that is gone."""
    return cli.ledger.reading(closing.has_died, cli.root, run, cli.clock.now())


def refuse_runs(cli: Cli) -> None:
    """Raise Refused while any run goes on."""
    cli.ledger.reading(runs_refused, cli)


def runs_refused(connection: Connection, cli: Cli) -> None:
    """The same within a transaction, in which none can begin."""
    now = cli.clock.now()
    going = [row["id"] for row in under_way(connection) if not closing.has_died(connection, cli.root, row, now)]
    if going:
        raise Refused(f"{', '.join(going)} is going on and needs the ledger: wait for it, and give the command again")


def status_of(cli: Cli, run: Any) -> str:
    """The run's status as people should see it: `died` for one whose process is gone."""
    return "died" if has_died(cli, run) else str(run["status"])
