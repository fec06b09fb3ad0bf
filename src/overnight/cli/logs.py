"""`overnight logs TASK|RUN`: what the log says of one task or run, in the order in which it happened."""

import time
from typing import Any

import click

from overnight import logbook
from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError

LOOK = 0.5  # seconds between two looks at a growing file


@click.command()
@click.argument("task", metavar="TASK|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@pass_cli
def logs(cli: Cli, task: str, *, follow: bool) -> None:
    """What the log says of TASK: its id (job/slot/key), or its key alone; `job/slot` shows all items of a slot.

    With the id of a RUN: everything that run has said.
    """
    if not logbook.files(cli.root):
        raise ConfigError(f"{cli.root / logbook.FOLDER} has no log yet: overnight run JOB writes one")
    found = list(logbook.events(cli.root, task))
    if cli.json and not follow:
        cli.emit([event.fields for event in found], "")
        return
    for event in found:
        cli.say(_line(event, cli.schedule.timezone))
    if not found and not follow:
        cli.say(f"the log says nothing of {task}")
    if follow:
        for event in logbook.coming(cli.root, task, lambda: time.sleep(LOOK)):  # noqa: TID251  a person waits here
            cli.say(_line(event, cli.schedule.timezone))


def _line(event: logbook.Event, zone: Any) -> str:
    at = f"{event.at.astimezone(zone):%m-%d %H:%M:%S}" if event.at else str(event.fields.get("timestamp", ""))
    level = "" if event.level == "info" else f"{event.level}: "
    return f"{at}  {level}{event.message}  {event.more('task_id')}".rstrip()
