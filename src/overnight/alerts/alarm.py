"""What is wrong, as one line each: found by a run in itself, or by the rules (`rules`) in the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from overnight.errors import Stop
from overnight.outcome import Outcome, Scope
from overnight.plurals import counted

MOST_NAMED = 3  # failures named in one message; the rest is counted


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is wrong, or with `firing=False` is not wrong any more. `rule` and `scope` identify it.

    It is told once it has been wrong for the length of `hold`.
    """

    rule: str
    scope: str
    message: str
    firing: bool = True
    hold: timedelta = timedelta(0)

    @property
    def key(self) -> str:
        """`rule:scope`."""
        return f"{self.rule}:{self.scope}"


def of_run(
    scope: Scope,
    bugs: Sequence[Outcome],
    stopped: Stop | None,
    notices: Mapping[str, Sequence[str]],
    model_notices: Sequence[str],
    budget_notices: Sequence[str] = (),
) -> list[Alarm]:
    """What a run has to tell: bugs, why it stopped, what its job warned of, fallbacks, budgets running out. Pure."""
    where = f"{scope.job} {scope.slot} ({scope.run_id})"
    found: list[Alarm] = []
    if stopped is not None:
        found.append(Alarm("stopped", scope.job, f"{where} stopped: {stopped}"))
    if bugs:
        named = "; ".join(f"{bug.key}: {bug.error}" for bug in bugs[:MOST_NAMED])
        found.append(Alarm("bug", scope.job, f"{where}: {counted(len(bugs), 'item')} met a bug in the job: {named}"))
    if model_notices:
        found.append(Alarm("model", scope.job, f"{where}: a fallback stood in for the model: {_some(model_notices)}"))
    topics = {**notices, "budget": [*notices.get("budget", ()), *budget_notices]}
    found.extend(Alarm(topic, scope.job, f"{where}: {_some(told)}") for topic, told in topics.items() if told)
    return found


def _some(messages: Sequence[str]) -> str:
    shown = "; ".join(dict.fromkeys(messages[:MOST_NAMED]))
    return shown if len(messages) <= MOST_NAMED else f"{shown}; and {len(messages) - MOST_NAMED} more"
