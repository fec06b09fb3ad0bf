"""The queue of tasks for agents: rows of the ledger, filled by hand, by a file, or by another job."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, RowMapping, select, update

from overnight.clock import Clock, token
from overnight.errors import ConfigError, Permanent
from overnight.ledger import Ledger
from overnight.ledger.statements import insert_new
from overnight.ledger.tables import task

LARGEST_YAML = 2_000_000  # characters; aliases can make much of little


@dataclass(frozen=True)
class Task:
    """One piece of work for an agent; title, body and documents are untrusted.

    `documents` are paths in the project, `ref` is what it is about elsewhere, such as `acme/site#7`.
    """

    id: str
    role: str
    title: str
    body: str
    documents: tuple[str, ...] = ()
    ref: str = ""


class NewTask(BaseModel):
    """A task as somebody writes it down. A higher `priority` goes first; `documents` are files to look into."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1, max_length=64)
    title: str = Field(min_length=1, max_length=500)
    body: str = Field(default="", max_length=200_000)
    priority: int = Field(default=0, ge=-1000, le=1000)
    documents: list[str] = Field(default_factory=list, max_length=50)
    ref: str = Field(default="", max_length=255)


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
    @property
    def rehearsal(self) -> bool: ...
    def warn(self, topic: str, message: str) -> None: ...


def open_tasks(run: HasTasks) -> Iterator[Task]:
    """The open tasks, highest priority first; new lines of `params.tasks` are taken into the queue before.

    A wrong line is told to the operator and does not keep the others waiting. A rehearsal leaves the queue as it is: it
    has the new lines beside it, each with the same id every time.
    """
    queued: list[Mapping[str, Any]] = [*_from_file(run)]
    queued.extend(dict(row) for row in run.ledger.reading(listing, "open"))
    for row in sorted(queued, key=lambda row: (-row["priority"], row["created_at"])):
        documents = tuple(json.loads(row["documents"] or "[]"))
        yield Task(row["id"], row["role"], row["title"], row["body"], documents, row["ref"] or "")


def _from_file(run: HasTasks) -> Sequence[Mapping[str, Any]]:
    """Take in the new tasks of `params.tasks`; returns those that only a rehearsal knows of."""
    if not run.params.get("tasks"):
        return ()
    path = run.root / str(run.params["tasks"])
    if not path.is_file():
        run.warn("tasks", f"{path.name}: no such file; tasks of the queue are worked on all the same")
        return ()
    good, problems = _parsed(path)
    for problem in problems:
        run.warn("tasks", problem)
    now = run.clock.now()
    if run.rehearsal:
        return run.ledger.reading(_unknown, good, path.name, now)
    run.ledger.writing(lambda connection: add(connection, good, path.name, now))
    return ()


def import_file(
    ledger: Ledger,
    path: Path,
    now: datetime,
    roles: Collection[str] | None = None,
    look_for: Callable[[Sequence[str]], None] | None = None,
) -> Imported:
    """Take the tasks of a JSONL or YAML file into the queue; a task that was taken once is not taken again.

    With `roles`, a line that names another role is wrong; so is one whose documents make `look_for` raise Permanent.
    Raises ConfigError when the file cannot be read at all.
    """
    good, problems = _parsed(path, roles, look_for)
    added = ledger.writing(lambda connection: add(connection, good, path.name, now))
    return Imported(added, len(good) - added, tuple(problems))


def add(connection: Connection, new: Sequence[NewTask], source: str, now: datetime) -> int:
    """Add tasks; the same role, title and body, or the same role and `ref`, is one task. Returns how many were new.

    Each is a millisecond younger than the one before, so that they are worked on in this order.
    """
    return insert_new(connection, task, _rows(new, source, now))


def _rows(new: Sequence[NewTask], source: str, now: datetime) -> list[dict[str, Any]]:
    times = (now + timedelta(milliseconds=n) for n in count())
    return [_row(one, source, at) for one, at in zip(new, times, strict=False)]


def _unknown(connection: Connection, new: Sequence[NewTask], source: str, now: datetime) -> list[dict[str, Any]]:
    """What `add` would add."""
    found = {row["digest"]: row for row in reversed(_rows(new, source, now))}  # of equal lines the first
    known = set(connection.scalars(select(task.c.digest)))
    return [row | {"id": f"t_{digest[:12]}"} for digest, row in found.items() if digest not in known]


def listing(connection: Connection, state: str | None = None) -> Sequence[RowMapping]:
    """Tasks in the order in which they are worked on."""
    query = select(task).order_by(task.c.priority.desc(), task.c.created_at, task.c.id)
    if state:
        query = query.where(task.c.state == state)
    return connection.execute(query).mappings().all()


def state_of(connection: Connection, task_id: str) -> str | None:
    """`open`, `done` or `cancelled`; None when there is no such task."""
    return connection.execute(select(task.c.state).where(task.c.id == task_id)).scalar_one_or_none()


def close(connection: Connection, task_id: str, state: str, now: datetime, result: str | None = None) -> bool:
    """Set an open task to `done` or `cancelled`; False when there is no such open task. `result` is JSON."""
    values = {"state": state, "done_at": now, "result": result, "error": None}
    changed = update(task).where(task.c.id == task_id, task.c.state == "open").values(**values)
    return bool(connection.execute(changed).rowcount)


def withdraw(connection: Connection, task_id: str, source: str, now: datetime) -> bool:
    """Cancel an open task, if it is from this source; False when it is not."""
    mine = (task.c.id == task_id, task.c.source == source, task.c.state == "open")
    return bool(connection.execute(update(task).where(*mine).values(state="cancelled", done_at=now)).rowcount)


def attempted(connection: Connection, task_id: str) -> None:
    """Count an attempt at a task."""
    connection.execute(update(task).where(task.c.id == task_id).values(attempts=task.c.attempts + 1))


def failed(connection: Connection, task_id: str, why: str) -> None:
    """Note why the latest attempt has failed; the task stays open."""
    connection.execute(update(task).where(task.c.id == task_id, task.c.state == "open").values(error=why))


def id_of(connection: Connection, new: NewTask) -> str | None:
    """The id of a task that is there already; None when it is not."""
    return connection.execute(select(task.c.id).where(task.c.digest == _digest(new))).scalar_one_or_none()


def _parsed(
    path: Path, roles: Collection[str] | None = None, look_for: Callable[[Sequence[str]], None] | None = None
) -> tuple[list[NewTask], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    good, problems = [], []
    for number, read in _yaml(path, text) if path.suffix in (".yaml", ".yml") else _lines(text):
        try:
            new = read()
            if look_for is not None:
                look_for(new.documents)
        except Permanent as error:
            problems.append(f"{path.name}:{number}: documents: {error}")
            continue
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


def _lines(text: str) -> Iterator[tuple[int, Callable[[], NewTask]]]:
    """Each line of a JSONL file that is not empty, with its number."""
    for number, line in enumerate(text.split("\n"), 1):  # JSON has line separators of other kinds in its texts
        if line.strip():
            yield number, partial(NewTask.model_validate_json, line)


def _yaml(path: Path, text: str) -> Iterator[tuple[int, Callable[[], NewTask]]]:
    """Each entry of a YAML list, with its line. Raises ConfigError for what is no list."""
    from ruamel.yaml import YAML  # noqa: PLC0415  late: most lists are JSONL
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    if len(text) > LARGEST_YAML:
        raise ConfigError(f"{path}: has {len(text)} characters, at most {LARGEST_YAML} are read; write JSONL instead")
    try:
        entries: Any = YAML(typ="rt", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"{path}: is no YAML: {error}") from error
    where: Any = getattr(entries, "lc", None)  # lists of ruamel know their lines
    if where is None or not isinstance(entries, list):
        raise ConfigError(f"{path}: is no list of tasks; write - {{role: …, title: …}}")
    for place, entry in enumerate(entries):
        line = where.item(place)[0] + 1
        yield line, partial(NewTask.model_validate, dict(entry) if isinstance(entry, dict) else entry)


def _digest(new: NewTask) -> str:
    told = [new.role, new.ref] if new.ref else [new.role, new.title, new.body]
    text = json.dumps(told, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _row(new: NewTask, source: str, now: datetime) -> dict[str, Any]:
    return {
        "id": f"t_{token(6)}", "role": new.role, "title": new.title, "body": new.body, "state": "open",
        "priority": new.priority, "source": source, "created_at": now,
        "digest": _digest(new), "documents": json.dumps(new.documents) if new.documents else None,
        "ref": new.ref or None,
    }  # fmt: skip
