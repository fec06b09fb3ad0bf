"""`overnight logs TASK|RUN`: what the log says of one task or run, in the order in which it happened."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError

OWN = ("timestamp", "level", "message", "task_id", "run_id", "worker_id")  # fields that are shown by themselves, or not
LOOK = 0.5  # seconds between two looks at a growing file


@click.command()
@click.argument("task", metavar="TASK|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@pass_cli
def logs(cli: Cli, task: str, *, follow: bool) -> None:
    """What the log says of TASK: its id (job/slot/key), or its key alone; `job/slot` shows all items of a slot.

    With the id of a RUN: everything that run has said.
    """
    folder = cli.root / "var" / "log"
    files = sorted(folder.glob("overnight.jsonl*"), key=_age)
    if not files:
        raise ConfigError(f"{folder} has no log yet: overnight run JOB writes one")
    found = [event for file in files for event in _of_file(file, task)]
    if cli.json and not follow:
        cli.emit(found, "")
        return
    for event in found:
        cli.say(_line(event, cli.schedule.timezone))
    if not found and not follow:
        cli.say(f"the log says nothing of {task}")
    if follow:
        _follow(cli, folder / "overnight.jsonl", task)


def _age(file: Path) -> tuple[int, str]:
    """The oldest first: overnight.jsonl.2, overnight.jsonl.1, overnight.jsonl."""
    number = file.suffix.removeprefix(".")
    return (-int(number), "") if number.isdecimal() else (1, file.name)


def _of_file(file: Path, task: str) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from filter(None, (_event(line, task) for line in lines))


def _event(line: str, task: str) -> dict[str, Any] | None:
    if task not in line:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    id_ = str(event.get("task_id", ""))
    mine = id_ == task or id_.endswith(f"/{task}") or id_.startswith(f"{task}/")
    return event if mine or event.get("run_id") == task else None


def _follow(cli: Cli, file: Path, task: str) -> None:
    """Show new lines as they come; a file that was turned over, or cut to nothing, is opened anew."""
    stream: TextIO = file.open(encoding="utf-8", errors="replace")
    stream.seek(0, 2)
    line, size = "", 0
    while True:
        line += stream.readline()
        if line.endswith("\n"):
            if event := _event(line, task):
                cli.say(_line(event, cli.schedule.timezone))
            line = ""
            continue
        time.sleep(LOOK)  # noqa: TID251  a person waits here, no job
        known, size = size, os.fstat(stream.fileno()).st_size
        if size < known or (file.exists() and file.stat().st_ino != os.fstat(stream.fileno()).st_ino):
            stream.close()
            stream, line, size = file.open(encoding="utf-8", errors="replace"), "", 0


def _line(event: dict[str, Any], zone: Any) -> str:
    at = str(event.get("timestamp", ""))
    with suppress(ValueError):
        at = f"{datetime.fromisoformat(at).astimezone(zone):%m-%d %H:%M:%S}"
    level = "" if event.get("level") == "info" else f"{event.get('level')}: "
    more = "  ".join(f"{name}={_value(value)}" for name, value in event.items() if name not in OWN)
    return f"{at}  {level}{event.get('message', '')}  {more}".rstrip()


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if " " not in text else json.dumps(text, ensure_ascii=False)
