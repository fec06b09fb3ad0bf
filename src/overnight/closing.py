"""What only a person can decide: whether a mail was sent after all, that a run is to end, that old mail goes out.

The command line and the page do the same here.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, update

from overnight.errors import ConfigError, Refused
from overnight.ledger import Ledger
from overnight.ledger.items import TERM, move
from overnight.ledger.runs import close_dead, days_of, effects_of, item_of, latest_run, lease_of, owe_reports
from overnight.ledger.tables import effect, occurrence
from overnight.liveness import HOST, ask_to_end, is_dead
from overnight.triggers import compact

Answer = Literal["sent", "unsent"]
OPEN = ("unknown", "intent")  # states of an effect of which nobody knows what became
STUCK = ("undoing", "stuck")  # and of one that was to be undone, and may still stand


def has_died(connection: Connection, root: Path, of: RowMapping, now: datetime) -> bool:
    """Whether the ledger says `running` of a process that is gone."""
    if of["status"] != "running":
        return False
    held = lease_of(connection, of["job"], of["slot"])
    if held is None or held["run_id"] != of["id"] or held["until"] is None:
        return True
    return is_dead(root, held, now)


def settle(ledger: Ledger, root: Path, of: RowMapping, key: str, answer: Answer, now: datetime) -> list[str]:
    """Say whether the effects of unknown fate of one item of a run's slot have happened; returns their references.

    Raises Refused while a run may yet learn it, ConfigError for an item that is not there or has nothing open.
    """
    last = ledger.reading(latest_run, of["job"], of["slot"]) or of
    if last["status"] == "running" and not ledger.reading(has_died, root, last, now):
        raise _may_yet_learn(last["id"])

    def unless_one_has_begun(connection: Connection) -> list[str]:
        newest: Any = latest_run(connection, of["job"], of["slot"])
        if newest["status"] == "running" and newest["id"] != last["id"]:
            raise _may_yet_learn(newest["id"])
        return settle_item(connection, of, key, answer, now)

    return ledger.writing(unless_one_has_begun)


def _may_yet_learn(run_id: str) -> Refused:
    return Refused(f"{run_id} is running and may yet learn it; wait for it, or `overnight cancel {run_id}`")


def settle_item(connection: Connection, of: RowMapping, key: str, answer: Answer, now: datetime) -> list[str]:
    """Close the open effects of one item and move the item with its slot's counts; returns the effects' references.

    Both in this one transaction. An item can be unknown without them: its job's own code has said so, or its effect was
    settled by a process that had been stopped. Raises ConfigError for an item that is not there or has nothing open.
    """
    found = item_of(connection, of["job"], of["slot"], key)
    if found is None:
        raise ConfigError(f"{of['job']} {of['slot']} has no item {key!r}; `overnight show {of['id']}` lists them")
    unsettled = effects_of(connection, of["job"], of["slot"], OPEN + STUCK, key=key)
    lost = found["state"] == "unknown"
    if not unsettled and not lost:
        raise ConfigError(f"nothing of {of['job']}/{of['slot']}/{key} is unknown: overnight show {of['id']} {key}")
    for one in unsettled:
        values: dict[str, Any] = {"state": "done" if answer == "sent" else "failed", "done_at": now}
        if one["state"] in OPEN:  # what stands keeps its value
            values["detail"] = f"settled by hand: {answer}" if one["kind"] == "mail" else None
        connection.execute(update(effect).where(effect.c.id == one["id"]).values(**values))
    # An item whose turn is still to come finds the effect settled; one that failed downstream stays failed.
    if lost or (found["state"] != "pending" and any(one["state"] in OPEN for one in unsettled)):
        _move(connection, found, answer, now)
    owe_reports(connection, days_of(connection, of["job"], of["slot"]))
    return [one["ref"] if one["kind"] == "mail" else one["name"] for one in unsettled]


def _move(connection: Connection, found: RowMapping, answer: Answer, now: datetime) -> None:
    later = {"next_at": now, "expires_at": now + TERM} if answer == "unsent" else {"next_at": None, "expires_at": None}
    cleared = {"reason": f"settled by hand: {answer}", "error_class": None, "error_code": None, "error": None}
    move(connection, found, "ok" if answer == "sent" else "retry", **cleared, **later)


def too_old(what: str, due: datetime, max_age: timedelta, now: datetime) -> str:
    """That no scheduler would run this slot, due then, any more, in words; empty while one would."""
    if now - due <= max_age:
        return ""
    ago = compact(int((now - due).total_seconds()) // 60 * 60)
    return f"{what} was due {ago} ago, longer than its max_age ({compact(int(max_age.total_seconds()))})"


def cancel(ledger: Ledger, root: Path, of: RowMapping, now: datetime) -> str:
    """Ask a run to end, or close one whose process is gone; says which. No scheduler goes on with its slot.

    Raises Refused for one that is over, or is run by another machine.
    """
    if of["status"] != "running":
        raise Refused(f"{of['id']} is over, it ended as {of['status']}; there is nothing to cancel")
    if ledger.reading(has_died, root, of, now):
        ledger.writing(lambda connection: _close_dead(connection, of, now))
        return f"the process of {of['id']} was gone; the run is now marked interrupted"
    held = ledger.reading(lease_of, of["job"], of["slot"])
    assert held is not None, "what runs and is alive has a lease"  # noqa: S101
    if held["host"] != HOST:
        raise Refused(f"{of['id']} runs on {held['host']}: give the command there")
    ledger.writing(lambda connection: _give_up(connection, of))
    pid = ask_to_end(root, job=of["job"], slot=of["slot"], host=held["host"])
    return f"asked process {pid} to end; to go on later" if pid else "it had not begun and will not; to run it later"


def _give_up(connection: Connection, of: RowMapping) -> None:
    """Close the slot's occurrence, or a scheduler would take the run up again within a minute."""
    claimed = (occurrence.c.job == of["job"], occurrence.c.slot == of["slot"], occurrence.c.state == "claimed")
    connection.execute(update(occurrence).where(*claimed).values(state="ran", reason="cancelled by hand"))


def _close_dead(connection: Connection, of: RowMapping, now: datetime) -> None:
    _give_up(connection, of)
    close_dead(connection, of["id"], now)
