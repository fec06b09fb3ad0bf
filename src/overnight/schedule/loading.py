"""From the file to a Schedule, or to the list of everything that is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from overnight.schedule.check import cross_check
from overnight.schedule.environment import environment, interpolate, refuse_literal_secrets, secret_values
from overnight.schedule.explain import explain
from overnight.schedule.model import Schedule
from overnight.schedule.source import Source, parse, read


def load(path: Path, environ: Mapping[str, str] | None = None) -> Schedule:
    """Read a schedule and the `.env` beside it; `environ` (default: the process environment) wins over `.env`.

    ScheduleErrors, with every problem at its place, when the file cannot be used.
    """
    name = _shown(path)
    text = read(path, name)
    return loads(text, environment(path.parent, environ), name)


def loads(text: str, environ: Mapping[str, str], name: str = "schedule.yaml") -> Schedule:
    """Read a schedule from text with exactly these variables; ScheduleErrors when it cannot be used."""
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
    source.stop_if_wrong()
    return schedule.completed(environ, secrets)


def _shown(path: Path) -> str:
    """Name the file the way the operator sees it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
