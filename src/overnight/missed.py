"""Telling of occurrences that are not run: a line in the log, and an alert for one that was missed."""

from collections.abc import Sequence

from overnight import logs
from overnight.alerts import Alarm
from overnight.occurrences import Decision
from overnight.runner import Workplace


async def tell(work: Workplace, decisions: Sequence[Decision]) -> None:
    """Log what became of each; what was missed is told by the end of the round, or by who looks next."""
    for one in decisions:
        logs.get().warning("occurrence not run", job=one.job, slot=one.slot, status=one.action, reason=one.reason)
    await work.note([_alarm(one) for one in decisions if one.action == "missed"])


def _alarm(of: Decision) -> Alarm:
    remedy = f"overnight run {of.job} --slot {of.slot}"
    return Alarm("missed", of.job, f"{of.job} of {of.slot} was not run: {of.reason}; {remedy}")
