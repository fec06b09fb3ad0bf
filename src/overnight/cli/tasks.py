"""`overnight tasks`: the queue that agents work through."""

import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from overnight.cli.context import Cli, pass_cli
from overnight.clock import iso
from overnight.errors import ConfigError
from overnight.tasks import NewTask, add, close, import_file, listing


@click.group()
def tasks() -> None:
    """The queue that agents work through at night."""


@tasks.command("add")
@click.argument("title")
@click.option("--role", required=True, help="A role of schedule.yaml.")
@click.option("--body", default="", help="The text to work on; - reads it from standard input.")
@click.option("--priority", default=0, show_default=True, help="Higher goes first.")
@pass_cli
def add_(cli: Cli, title: str, role: str, body: str, priority: int) -> None:
    """Add one task."""
    if role not in cli.schedule.roles:
        raise ConfigError(f"schedule.yaml has no role {role!r}; it has {', '.join(cli.schedule.roles) or 'none'}")
    text = sys.stdin.read() if body == "-" else body
    try:
        new = NewTask(role=role, title=title, body=text, priority=priority)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    now = cli.clock.now()
    added = cli.ledger.writing(lambda connection: add(connection, [new], "command line", now))
    cli.emit({"added": added}, "added" if added else "there is such a task already")


@tasks.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@pass_cli
def import_(cli: Cli, file: Path) -> int:
    """Take the tasks of a JSONL FILE into the queue: {"role", "title", "body", "priority"} a line."""
    found = import_file(cli.ledger, file, cli.clock.now(), cli.schedule.roles)
    for problem in found.problems:
        cli.say(f"not imported: {problem}")
    document = {"added": found.added, "known": found.known, "problems": list(found.problems)}
    cli.emit(document, f"{found.added} added, {found.known} known already, {len(found.problems)} not imported")
    return 3 if found.problems else 0


@tasks.command("list")
@click.option("--state", type=click.Choice(["open", "done", "cancelled"]), help="Only in this state.")
@pass_cli
def list_(cli: Cli, state: str | None) -> None:
    """List the tasks in the order in which they are worked on."""
    rows = cli.ledger.reading(listing, state)
    lines = [f"{row['id']}  {row['state']:<10}{row['role']:<12}{row['title']:.70}" for row in rows]
    cli.emit([_plain(row) for row in rows], "\n".join(lines) or "no tasks")


@tasks.command("show")
@click.argument("task_id", metavar="TASK")
@pass_cli
def show(cli: Cli, task_id: str) -> None:
    """Show one task with its text."""
    row = next((row for row in cli.ledger.reading(listing) if row["id"] == task_id), None)
    if row is None:
        raise ConfigError(f"there is no task {task_id!r}; `overnight tasks list` has them all")
    cli.emit(_plain(row), f"{row['id']}  {row['state']}  {row['role']}\n{row['title']}\n\n{row['body']}")


@tasks.command("cancel")
@click.argument("task_id", metavar="TASK")
@pass_cli
def cancel(cli: Cli, task_id: str) -> None:
    """Take an open task out of the queue."""
    now = cli.clock.now()
    if not cli.ledger.writing(lambda connection: close(connection, task_id, "cancelled", now)):
        raise ConfigError(f"there is no open task {task_id!r}")
    cli.emit({"cancelled": task_id}, f"{task_id} is cancelled")


def _plain(row: Any) -> dict[str, Any]:
    return {name: iso(value) if hasattr(value, "isoformat") else value for name, value in dict(row).items()}
