"""`settle` and `cancel`: what only a person can decide about an effect or a run."""

from datetime import datetime, timedelta
from typing import Any, Literal

import click
from sqlalchemy import Connection, update

from overnight.cli.context import Cli, pass_cli
from overnight.cli.found import found_run, has_died
from overnight.errors import ConfigError, Refused
from overnight.ledger.rollups import entered, left
from overnight.ledger.runs import KILLED, effects_of, item_of, latest_run, lease_of
from overnight.ledger.tables import effect, item, lease, occurrence, run, slot
from overnight.liveness import HOST, ask_to_end

Answer = Literal["sent", "unsent"]
OPEN = ("unknown", "intent")  # states of an effect of which nobody knows what became
STUCK = ("undoing", "stuck")  # and of one that was to be undone, and may still stand
TERM = timedelta(days=1)  # how long a mail that was not sent is tried again


@click.command()
@click.argument("run_id", metavar="RUN|JOB")
@click.argument("key")
@click.argument("answer", type=click.Choice(["sent", "unsent"]))
@pass_cli
def settle(cli: Cli, run_id: str, key: str, answer: Answer) -> None:
    """Say of the item KEY of RUN's slot whether its mail of unknown fate was sent; what was not is sent next time.

    The same for other effects, also for one that could not be undone: `sent` says that it stands, `unsent` that not.
    """
    row, now = found_run(cli, run_id), cli.clock.now()
    last: Any = cli.ledger.reading(latest_run, row["job"], row["slot"])
    if last["status"] == "running" and not has_died(cli, last):
        raise Refused(f"{last['id']} is running and may yet learn it; wait for it, or `overnight cancel {last['id']}`")
    settled = cli.ledger.writing(lambda connection: settle_item(connection, row, key, answer, now))
    then = {"sent": "it is not sent again", "unsent": f"the next run sends it: overnight resume {row['id']}"}[answer]
    cli.emit(
        {"job": row["job"], "slot": row["slot"], "key": key, "answer": answer, "effects": settled},
        f"{row['job']}/{row['slot']}/{key}: {answer} ({', '.join(settled)}); {then}",
    )


def settle_item(connection: Connection, of: Any, key: str, answer: Answer, now: datetime) -> list[str]:
    """Close the open effects of one item and move the item with its slot's counts; returns the effects' references.

    Both in this one transaction. Raises ConfigError for an item that is not there or has nothing open.
    """
    found = item_of(connection, of["job"], of["slot"], key)
    if found is None:
        raise ConfigError(f"{of['job']} {of['slot']} has no item {key!r}; `overnight show {of['id']}` lists them")
    unsettled = [e for e in effects_of(connection, of["job"], of["slot"], OPEN + STUCK) if e["key"] == key]
    if not unsettled:
        raise ConfigError(f"nothing of {of['job']}/{of['slot']}/{key} is unknown: overnight show {of['id']} {key}")
    for one in unsettled:
        values: dict[str, Any] = {"state": "done" if answer == "sent" else "failed", "done_at": now}
        if one["state"] in OPEN:  # what stands keeps its value
            values["detail"] = f"settled by hand: {answer}" if one["kind"] == "mail" else None
        connection.execute(update(effect).where(effect.c.id == one["id"]).values(**values))
    # An item whose turn is still to come finds the effect settled; one that failed downstream stays failed.
    if found["state"] != "pending" and any(one["state"] in OPEN for one in unsettled):
        _move(connection, found, answer, now)
    return [one["ref"] or one["name"] for one in unsettled]


def _move(connection: Connection, found: Any, answer: Answer, now: datetime) -> None:
    becomes = "ok" if answer == "sent" else "retry"
    later = {"next_at": now, "expires_at": now + TERM} if answer == "unsent" else {"next_at": None, "expires_at": None}
    cleared = {"reason": f"settled by hand: {answer}", "error_class": None, "error_code": None, "error": None}
    mine = (item.c.job == found["job"], item.c.slot == found["slot"], item.c.key == found["key"])
    left(connection, *mine)
    connection.execute(update(item).where(*mine).values(state=becomes, **cleared, **later))
    entered(connection, *mine)
    if found["state"] != becomes:
        moved = {found["state"]: slot.c[found["state"]] - 1, becomes: slot.c[becomes] + 1}
        of_slot = (slot.c.job == found["job"], slot.c.slot == found["slot"])
        connection.execute(update(slot).where(*of_slot).values(**moved))


@click.command()
@click.argument("run_id", metavar="RUN|JOB")
@pass_cli
def cancel(cli: Cli, run_id: str) -> None:
    """Ask RUN to end: what is in flight finishes within `drain`, the rest stays pending, and no scheduler goes on."""
    row = found_run(cli, run_id)
    if row["status"] != "running":
        raise Refused(f"{row['id']} is over, it ended as {row['status']}; there is nothing to cancel")
    if has_died(cli, row):
        now = cli.clock.now()
        cli.ledger.writing(lambda connection: _close_dead(connection, row, now))
        said = f"the process of {row['id']} was gone; the run is now marked interrupted"
    else:
        said = _ask(cli, row)
    cli.emit({"run_id": row["id"], "job": row["job"], "slot": row["slot"]}, f"{said}: overnight resume {row['id']}")


def _ask(cli: Cli, row: Any) -> str:
    held: Any = cli.ledger.reading(lease_of, row["job"], row["slot"])
    if held["host"] != HOST:
        raise Refused(f"{row['id']} runs on {held['host']}: give the command there")
    cli.ledger.writing(lambda connection: _give_up(connection, row))
    pid = ask_to_end(cli.root, job=row["job"], slot=row["slot"], host=held["host"])
    return f"asked process {pid} to end; to go on later" if pid else "it had not begun and will not; to run it later"


def _give_up(connection: Connection, of: Any) -> None:
    """Close the slot's occurrence, or a scheduler would take the run up again within a minute."""
    claimed = (occurrence.c.job == of["job"], occurrence.c.slot == of["slot"], occurrence.c.state == "claimed")
    connection.execute(update(occurrence).where(*claimed).values(state="ran", reason="cancelled by hand"))


def _close_dead(connection: Connection, of: Any, now: datetime) -> None:
    _give_up(connection, of)
    still = (run.c.id == of["id"], run.c.status == "running")
    connection.execute(update(run).where(*still).values(status=KILLED[0], reason=KILLED[1], ended_at=now))
    connection.execute(update(lease).where(lease.c.run_id == of["id"]).values(until=None))
