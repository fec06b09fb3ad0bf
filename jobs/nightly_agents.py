"""Work through the queue of tasks at night: one agent per task, in the role that the task names."""

from dataclasses import dataclass
from typing import Literal

from overnight import Answer, Permanent, Run, Skip, Stop, job
from overnight.tasks import Task, close, open_tasks, state_of


@dataclass(frozen=True)
class Finding:
    """What the agent has to say in the morning; kept in the ledger, shown by `overnight show RUN KEY`."""

    verdict: Literal["done", "needs work", "needs a person"]
    summary: str
    next_step: str


@job(items=open_tasks, key=lambda task: task.id, concurrency=4)
async def nightly_agents(task: Task, run: Run) -> Finding:
    """One task. A task that fails stays open and is tried again the next night."""
    state = await run.ledger.read(state_of, task.id)
    if state != "open":  # another night was quicker, or somebody took it back: it is not paid for twice
        raise Skip("done already" if state == "done" else state or "gone")
    answer = await ask(task, run)
    now = run.now()
    if not run.rehearsal:
        await run.ledger.write(lambda connection: close(connection, task.id, "done", now))
    return answer.value


async def ask(task: Task, run: Run) -> Answer[Finding]:
    """The agent's answer. Raises Permanent for a role that schedule.yaml lacks: one such task stops no other."""
    try:
        return await run.agent(task.role, data={"title": task.title, "body": task.body}, output=Finding)
    except Stop as error:
        if error.code != "unknown_role":
            raise
        raise Permanent(str(error), code="no_role") from error
