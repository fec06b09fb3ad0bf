"""A hundred tasks, every twentieth of which is a question to a model."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from overnight import Run, job

ASKED = 20


@dataclass(frozen=True)
class Task:
    """One task."""

    number: int


@dataclass(frozen=True)
class Finding:
    """What a model makes of a task."""

    verdict: str


async def tasks(run: Run) -> AsyncIterator[Task]:
    """The tasks of a night."""
    for n in range(run.params.get("items", 100)):
        yield Task(n)


@job(items=tasks, key=lambda task: f"t_{task.number:04}")
async def agents(task: Task, run: Run) -> str:
    """Ask, or not; there is no fallback."""
    if task.number % ASKED:
        await run.clock.sleep(0.2)
        return "nothing to ask"
    answer = await run.agent("analyst", data={"task": task.number, "night": run.slot}, output=Finding)
    return answer.value.verdict
