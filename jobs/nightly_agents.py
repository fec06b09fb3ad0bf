"""Work through the queue of tasks at night: one agent per task, in the role that the task names."""

from dataclasses import dataclass
from typing import Literal

from overnight import Run, job
from overnight.tasks import Task, close, open_tasks


@dataclass(frozen=True)
class Finding:
    """What the agent has to say in the morning; kept in the ledger, shown by `overnight show RUN KEY`."""

    verdict: Literal["done", "needs work", "needs a person"]
    summary: str
    next_step: str


@job(items=open_tasks, key=lambda task: task.id, concurrency=4)
async def nightly_agents(task: Task, run: Run) -> Finding:
    """One task. A task that fails stays open and is tried again the next night."""
    answer = await run.agent(task.role, data={"title": task.title, "body": task.body}, output=Finding)
    now = run.now()
    if not run.rehearsal:
        await run.ledger.write(lambda connection: close(connection, task.id, "done", now))
    return answer.value
