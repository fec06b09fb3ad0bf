"""What came of a run, for the command line, `--json` and the heartbeat."""

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, bindparam, select

from overnight.budget import dollars
from overnight.ledger.runs import mails_of, slot_of
from overnight.ledger.tables import run
from overnight.outcome import RunStatus, Scope


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. `items` are the counts of what this run worked on, `slot_items` what the slot has come to."""

    run_id: str
    job: str
    slot: str
    status: RunStatus
    items: dict[str, int]
    slot_items: dict[str, int]
    cost_nano: int
    duration_s: float
    reason: str | None = None
    reports: tuple[str, ...] = ()
    mails: int = 0
    place: str = ""
    fallbacks: int = 0


def pulse_of(result: Result) -> tuple[bool, str] | None:
    """What a heartbeat is told of a run: whether it is well, and a summary; None of one that goes on later.

    A partial run is well: its failures are counted by the alert on the success rate.
    """
    if result.status in ("interrupted", "cancelled"):
        return None
    counts = ", ".join(f"{n} {name}" for name, n in result.items.items())
    lines = [f"{result.job} {result.slot} {result.run_id}: {result.status}", counts]
    lines += [f"{dollars(result.cost_nano)} in {result.duration_s:.1f} s", result.reason or ""]
    return result.status in ("ok", "partial"), "\n".join(lines).strip()


def come_to(connection: Connection, scope: Scope) -> tuple[RowMapping, int, int]:
    """The slot, what the run has cost (nano-USD), and how many mails it has handed over."""
    cost = connection.execute(_COST, {"id": scope.run_id}).scalar_one()
    return slot_of(connection, scope.job, scope.slot), cost, mails_of(connection, scope)


_COST = select(run.c.cost_nano).where(run.c.id == bindparam("id"))
