"""Work through the queue of tasks at night: one agent per task, in the role that the task names, with its tools."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from overnight import Answer, Downstream, Permanent, Run, Skip, Stop, job
from overnight.context import Context
from overnight.dependency import dependencies
from overnight.errors import Invalid, OvernightError
from overnight.tasks import Task, attempted, close, failed, open_tasks, state_of


@dataclass(frozen=True)
class Finding:
    """What the agent has to say in the morning; kept with the task, shown by `overnight tasks show TASK`."""

    verdict: Literal["done", "needs work", "needs a person"]
    summary: str
    next_step: str


async def work(run: Run) -> AsyncIterator[Task]:
    """The open tasks; issues with the label of `params.issues` are taken into the queue before."""
    if run.params.get("issues") and not run.rehearsal:
        await take_issues(run)
    for task in open_tasks(run):
        yield task


async def take_issues(run: Run) -> None:
    """New issues become tasks. GitHub that is away keeps nobody from the tasks that are there."""
    from overnight.tools.issues import Source, import_issues  # noqa: PLC0415  only where there are issues

    try:
        source = Source.model_validate(run.params["issues"])
        found = await import_issues(source, run.ledger, dependencies(), run.clock)
        run.log.info("issues were taken into the queue", added=found.added, known=found.known)
    except (OvernightError, ValueError) as error:
        run.warn("issues", f"no issues were taken into the queue: {error}")


@job(items=work, key=lambda task: task.id, concurrency=4)
async def nightly_agents(task: Task, run: Run) -> Finding:
    """One task. A task that fails stays open, says why, and is tried again the next night."""
    state = "open" if run.rehearsal else await run.ledger.read(state_of, task.id)
    if state == "done":  # by this very item, which a crash has cut off before it could say so, or in another night
        return await run.steps.seen("finding", by_another)
    if state != "open":  # somebody took it back
        raise Skip(state or "gone")
    try:
        answer = await attempt(task, run)
    except OvernightError as error:
        await note(task, run, str(error.__cause__ or error) if isinstance(error, Skip) else str(error))  # which budget
        if isinstance(error, Permanent | Invalid | Skip) and run.steps.taken:  # it would be done again the next night
            raise Downstream(f"{error}; what it had done is undone", code=error.code) from error
        raise

    async def said() -> Finding:
        return answer.value

    now, result = run.now(), json.dumps(asdict(answer.value), ensure_ascii=False)
    if not run.rehearsal:
        await run.steps.seen("finding", said)
        await run.ledger.write(lambda connection: close(connection, task.id, "done", now, result))
    return answer.value


async def by_another() -> Finding:
    """A task that this item has no finding of: it is not paid for twice."""
    raise Skip("done already")


async def attempt(task: Task, run: Run) -> Answer[Finding]:
    """The agent's answer. Raises Permanent for a role that is not there or has no prompt: its tasks stop no others."""
    if not run.rehearsal:
        await run.ledger.write(lambda connection: attempted(connection, task.id))

    async def chosen() -> Context:
        most = int(run.params.get("context_tokens", 2_000))
        return await run.context(f"{task.title}\n{task.body}", task.documents, most)

    # The agent may write into what it reads; after a crash it has to be the same question all the same.
    context = await run.steps.seen("context", chosen) if task.documents else None
    try:
        return await run.agent(task.role, data=material(task), output=Finding, context=context)
    except Stop as error:
        if error.code not in ("unknown_role", "template"):
            raise
        if error.code == "template" and str(error) not in run.notices.get("roles", ()):
            run.warn("roles", str(error))
        raise Permanent(str(error), code="no_role") from error


def material(task: Task) -> dict[str, Any]:
    """What the agent gets to read of a task; of an issue also where it is."""
    said: dict[str, Any] = {"title": task.title, "body": task.body}
    repo, _, number = task.ref.partition("#")
    return said | {"repo": repo, "number": int(number)} if number.isdecimal() else said


async def note(task: Task, run: Run, why: str) -> None:
    """Say with the task why it was not done."""
    if not run.rehearsal:
        await run.ledger.write(lambda connection: failed(connection, task.id, run.redact(why)))
