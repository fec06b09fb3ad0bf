"""The queue of tasks for agents: rows of the ledger, filled by hand, by a file, or by another job."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, RowMapping, select, update

from overnight.clock import Clock, token
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import task

PAGE = 500


@dataclass(frozen=True)
class Task:
    """One piece of work for an agent; title and body are untrusted text."""

    id: str
    role: str
    title: str
    body: str


class NewTask(BaseModel):
    """A task as somebody writes it down. A higher `priority` goes first."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1, max_length=64)
    title: str = Field(min_length=1, max_length=500)
    body: str = Field(default="", max_length=200_000)
    priority: int = Field(default=0, ge=-1000, le=1000)


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file: how many tasks were new, how many were there already, and which lines are wrong."""

    added: int
    known: int
    problems: tuple[str, ...]


class HasTasks(Protocol):
    """What `open_tasks` needs of a run."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def root(self) -> Path: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    def warn(self, topic: str, message: str) -> None: ...


def open_tasks(run: HasTasks) -> Iterator[Task]:
    """The open tasks, highest priority first; new lines of `params.tasks` are taken into the queue before.

    A wrong line is told to the operator and does not keep the others waiting.
    """
    if run.params.get("tasks"):
        path = run.root / str(run.params["tasks"])
        if path.is_file():
            for problem in import_file(run.ledger, path, run.clock.now()).problems:
                run.warn("tasks", problem)
        else:
            run.warn("tasks", f"{path.name}: no such file; tasks of the queue are worked on all the same")
    for row in run.ledger.reading(listing, "open"):
        yield Task(row["id"], row["role"], row["title"], row["body"])


def import_file(ledger: Ledger, path: Path, now: datetime, roles: Collection[str] | None = None) -> Imported:
    """Take the tasks of a JSONL file into the queue; a task that was taken once is not taken again.

    With `roles`, a line that names another role is wrong. Raises ConfigError when the file cannot be read at all.
    """
    good, problems = _parsed(path, roles)
    added = ledger.writing(lambda connection: add(connection, good, path.name, now))
    return Imported(added, len(good) - added, tuple(problems))


def add(connection: Connection, new: Sequence[NewTask], source: str, now: datetime) -> int:
    """Add tasks; the same role, title and body twice is one task. Returns how many were new.

    Each is a millisecond younger than the one before, so that they are worked on in this order.
    """
    times = (now + timedelta(milliseconds=n) for n in count())
    return insert_new(connection, task, [_row(one, source, at) for one, at in zip(new, times, strict=False)])


def listing(connection: Connection, state: str | None = None) -> Sequence[RowMapping]:
    """Tasks in the order in which they are worked on."""
    query = select(task).order_by(task.c.priority.desc(), task.c.created_at, task.c.id)
    if state:
        query = query.where(task.c.state == state)
    return connection.execute(query).mappings().all()


def state_of(connection: Connection, task_id: str) -> str | None:
    """`open`, `done` or `cancelled`; None when there is no such task."""
    return connection.execute(select(task.c.state).where(task.c.id == task_id)).scalar_one_or_none()


def close(connection: Connection, task_id: str, state: str, now: datetime) -> bool:
    """Set an open task to `done` or `cancelled`; False when there is no such open task."""
    changed = update(task).where(task.c.id == task_id, task.c.state == "open").values(state=state, done_at=now)
    return bool(connection.execute(changed).rowcount)


def _parsed(path: Path, roles: Collection[str] | None) -> tuple[list[NewTask], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    good, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            new = NewTask.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "line"
            problems.append(f"{path.name}:{number}: {where}: {first['msg']}")
            continue
        if roles is None or new.role in roles:
            good.append(new)
        else:
            known = ", ".join(roles) or "none"
            problems.append(f"{path.name}:{number}: role: schedule.yaml has no role {new.role!r}; it has {known}")
    return good, problems


def _row(new: NewTask, source: str, now: datetime) -> dict[str, Any]:
    text = json.dumps([new.role, new.title, new.body], ensure_ascii=False)
    return {
        "id": f"t_{token(6)}", "role": new.role, "title": new.title, "body": new.body, "state": "open",
        "priority": new.priority, "source": source, "created_at": now,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
    }  # fmt: skip
