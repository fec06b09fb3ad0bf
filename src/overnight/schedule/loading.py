"""From the file to a Schedule, or to the list of everything that is wrong with it."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from overnight.schedule.check import cross_check
from overnight.schedule.environment import environment, interpolate, refuse_literal_secrets, secret_values
from overnight.schedule.explain import explain
from overnight.schedule.model import Schedule
from overnight.schedule.role import check_roles
from overnight.schedule.source import Path_, Source, parse, read

Finding = tuple[Path_, str, str]


def load(path: Path, environ: Mapping[str, str] | None = None) -> Schedule:
    """Read a schedule and the `.env` beside it; `environ` (default: the process environment) wins over `.env`.

    ScheduleErrors, with every problem at its place, when the file cannot be used.
    """
    name = _shown(path)
    text = read(path, name)
    return loads(text, environment(path.parent, environ), name, path.parent)


def loads(text: str, environ: Mapping[str, str], name: str = "schedule.yaml", root: Path = Path()) -> Schedule:
    """Read the schedule of a project at `root` from text with exactly these variables.

    ScheduleErrors when it cannot be used.
    """
    secrets = secret_values(environ)
    source = Source(name, text, secrets=set(secrets))
    parse(source)
    refuse_literal_secrets(source)
    interpolate(source, environ)
    source.data = {key: value for key, value in source.data.items() if not key.startswith("x-")}
    cross_check(source)
    try:
        schedule = Schedule.model_validate(source.data)
    except ValidationError as error:
        explain(source, error, Schedule)
    else:
        check_roles(source, schedule.roles, schedule.jobs, root)
    source.stop_if_wrong()
    return schedule.completed(environ, secrets, text)


def refuse(path: Path, findings: Iterable[Finding], secrets: Collection[str]) -> None:
    """Raise ScheduleErrors for what others have found wrong with a valid schedule: where, what, what to do about it."""
    name = _shown(path)
    source = Source(name, read(path, name), secrets=set(secrets))
    parse(source)
    for where, message, hint in findings:
        source.report(source.value_at(where), where, message, hint)
    source.stop_if_wrong()


def _shown(path: Path) -> str:
    """Name the file the way the operator sees it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
