"""`overnight tasks`: the queue that agents work through."""

import json
import sys
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import click
from pydantic import ValidationError

from overnight.cli.context import Cli, one_line, pass_cli
from overnight.clock import iso
from overnight.context import look_for
from overnight.errors import ConfigError, Permanent
from overnight.plurals import counted
from overnight.tasks import Imported, NewTask, add, close, id_of, import_file, listing


@click.group()
def tasks() -> None:
    """The queue that agents work through at night."""


@tasks.command("add")
@click.argument("title")
@click.option("--role", required=True, help="A role of schedule.yaml.")
@click.option("--body", default="", help="The text to work on; - reads it from standard input.")
@click.option("--priority", default=0, show_default=True, help="Higher goes first.")
@click.option(
    "--document", "documents", multiple=True, help="A file or folder of the project to look into; repeatable."
)
@pass_cli
def add_(cli: Cli, title: str, role: str, body: str, priority: int, documents: tuple[str, ...]) -> None:
    """Add one task."""
    _require_role(cli, role)
    _require_documents(cli, documents)
    text = sys.stdin.read() if body == "-" else body
    try:
        new = NewTask(role=role, title=title, body=text, priority=priority, documents=list(documents))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    now = cli.clock.now()
    added = cli.ledger.writing(lambda connection: add(connection, [new], "command line", now))
    task = cli.ledger.reading(id_of, new)
    cli.emit({"added": added, "task": task}, f"{task} added" if added else f"there is such a task already: {task}")


@tasks.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@click.option("--issues", metavar="OWNER/NAME", help="Take the open issues of this repository on GitHub instead.")
@click.option("--label", help="Only issues with this label; with --issues.")
@click.option("--role", help="The role that works on them; with --issues.")
@pass_cli
def import_(cli: Cli, file: Path | None, issues: str | None, label: str | None, role: str | None) -> int:
    """Take tasks into the queue: of a JSONL or YAML FILE ({role, title, body, priority, documents} each), or issues."""
    if (file is None) == (issues is None):
        raise click.UsageError("name a FILE, or a repository by --issues")
    if file is not None and (label or role):
        raise click.UsageError("--label and --role go with --issues; in a FILE each task names its role")
    if file is not None:
        found = import_file(cli.ledger, file, cli.clock.now(), cli.schedule.roles, partial(look_for, cli.root))
    else:
        found = _from_github(cli, issues or "", label or "", role or "")
    for problem in found.problems:
        cli.say(f"not imported: {problem}")
    document = {"added": found.added, "known": found.known, "problems": list(found.problems)}
    cli.emit(document, f"{found.added} added, {found.known} known already, {len(found.problems)} not imported")
    return 3 if found.problems else 0


def _from_github(cli: Cli, repo: str, label: str, role: str) -> Imported:
    import asyncio  # noqa: PLC0415  only here

    from overnight.ports import open_dependencies  # noqa: PLC0415
    from overnight.tools.issues import Source, import_issues  # noqa: PLC0415

    _require_role(cli, role)
    known = cli.schedule.environ
    token, url = known.get("GITHUB_TOKEN", ""), known.get("GITHUB_API_URL", "")
    try:
        source = Source(repo=repo, label=label, role=role, token=token, url=url)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--{first['loc'][0]}: {first['msg']}") from error

    async def take() -> Imported:
        async with open_dependencies(cli.schedule, cli.ledger, cli.clock) as sides:
            return await import_issues(source, cli.ledger, sides, cli.clock)

    return asyncio.run(take())


def _require_documents(cli: Cli, documents: tuple[str, ...]) -> None:
    """What could not be read in the night is said now."""
    try:
        look_for(cli.root, documents)
    except Permanent as error:
        raise ConfigError(f"--document: {error}") from error


def _require_role(cli: Cli, role: str) -> None:
    if role not in cli.schedule.roles:
        raise ConfigError(f"schedule.yaml has no role {role!r}; it has {', '.join(cli.schedule.roles) or 'none'}")


@tasks.command("list")
@click.option("--state", type=click.Choice(["open", "done", "cancelled"]), help="Only in this state.")
@pass_cli
def list_(cli: Cli, state: str | None) -> None:
    """List the tasks in the order in which they are worked on."""
    rows = cli.ledger.reading(listing, state)
    lines = [_line(row) for row in rows]
    cli.emit([_plain(row) for row in rows], "\n".join(lines) or "no tasks")


@tasks.command("show")
@click.argument("task_id", metavar="TASK")
@pass_cli
def show(cli: Cli, task_id: str) -> None:
    """Show one task with its text."""
    row = next((row for row in cli.ledger.reading(listing) if row["id"] == task_id), None)
    if row is None:
        raise ConfigError(f"there is no task {task_id!r}; `overnight tasks list` has them all")
    cli.emit(_plain(row), "\n".join(_page(row)))


def _page(row: Any) -> list[str]:
    lines = [
        f"{row['id']}  {row['state']}  {one_line(row['role'])}  {counted(row['attempts'], 'attempt')}",
        one_line(row["title"]),
    ]
    lines += [f"about {one_line(row['ref'])}"] if row["ref"] else []
    lines += [f"documents {one_line(', '.join(json.loads(row['documents'])))}"] if row["documents"] else []
    lines += ["", indent(row["body"], "  ")] if row["body"] else []  # so that no body looks like a result
    if row["result"]:
        lines += ["", *(f"{name}: {one_line(str(value))}" for name, value in json.loads(row["result"]).items())]
    if row["error"]:
        lines += ["", f"the latest attempt failed: {one_line(row['error'])}"]
    return lines


@tasks.command("cancel")
@click.argument("task_id", metavar="TASK")
@pass_cli
def cancel(cli: Cli, task_id: str) -> None:
    """Take an open task out of the queue."""
    now = cli.clock.now()
    if not cli.ledger.writing(lambda connection: close(connection, task_id, "cancelled", now)):
        raise ConfigError(f"there is no open task {task_id!r}")
    cli.emit({"cancelled": task_id}, f"{task_id} is cancelled")


def _line(row: Any) -> str:
    tried = f"  ({counted(row['attempts'], 'attempt')})" if row["attempts"] else ""
    why = f"  {one_line(row['error']):.100}" if row["error"] else ""
    return f"{row['id']}  {row['state']:<10}{one_line(row['role']):<12}{one_line(row['title']):.70}{tried}{why}"


def _plain(row: Any) -> dict[str, Any]:
    return {name: iso(value) if hasattr(value, "isoformat") else value for name, value in dict(row).items()}
