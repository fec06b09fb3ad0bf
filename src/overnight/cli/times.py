"""`validate`, `schema`, `next`, `pause` and `resume-job`: the schedule and its times."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from overnight.cli.context import Cli, job_names, pass_cli
from overnight.clock import iso
from overnight.errors import ConfigError
from overnight.outcome import STATES
from overnight.plurals import counted

if TYPE_CHECKING:
    from overnight.occurrences import Decision
    from overnight.schedule import JobSettings


@click.command()
@click.option("--jobs/--no-jobs", "with_jobs", default=True, help="Also import the jobs' code.", show_default=True)
@pass_cli
def validate(cli: Cli, *, with_jobs: bool) -> None:
    """Check schedule.yaml, the prompts, and that each job's code can be imported; say everything that is wrong."""
    from overnight.catalogue import ending, unpriced  # noqa: PLC0415
    from overnight.schedule import refuse  # noqa: PLC0415
    from overnight.storage.address import half_a_pair, keys_out_of_sight  # noqa: PLC0415

    schedule, now = cli.schedule, cli.clock.now()
    to, environ = schedule.reports.to, schedule.environ
    refuse(cli.path, [*unpriced(schedule, now), *half_a_pair(to, environ)], schedule.secrets)
    if with_jobs:
        _check_code(cli)
    warnings = [*schedule.warnings, *ending(schedule, now.date()), *keys_out_of_sight(to, environ, Path.home())]
    warnings += _without_prompt(cli)
    for warning in warnings:
        cli.say(f"warning: {warning}")
    jobs = {name: settings.trigger().describe() for name, settings in schedule.jobs.items()}
    lines = [f"{cli.path.name} is valid: {counted(len(jobs), 'job')}"]
    lines += [f"  {name}: {when}" for name, when in jobs.items()]
    cli.emit({"valid": True, "jobs": jobs, "warnings": warnings}, "\n".join(lines))


def _without_prompt(cli: Cli) -> list[str]:
    """What is wrong with the prompts of roles: nobody needs those of a role that is never asked, so it is a warning."""
    from overnight.errors import Stop  # noqa: PLC0415
    from overnight.ports import roles_of  # noqa: PLC0415
    from overnight.roles import Roles  # noqa: PLC0415

    known, wrong = Roles(cli.root, roles_of(cli.schedule)), []
    for name in cli.schedule.roles:
        try:
            known.system(name)
        except Stop as error:
            wrong.append(f"roles.{name}: {error}")
    return wrong


def _check_code(cli: Cli) -> None:
    from overnight import project  # noqa: PLC0415  the jobs' imports are the price of this check
    from overnight.ports import granted_to  # noqa: PLC0415

    project.attach(cli.root)
    problems = []
    for name, settings in cli.schedule.jobs.items():
        try:
            project.load_job(name, settings.target).codec()
        except ConfigError as error:
            problems.append(str(error))
    for name, role in cli.schedule.roles.items():
        try:
            granted_to(role)
        except ConfigError as error:
            problems.append(f"roles.{name}.{error}")
    if problems:
        raise ConfigError("\n".join(problems))


@click.command()
@pass_cli
def schema(cli: Cli) -> None:  # noqa: ARG001  as every command
    """Print the JSON Schema of schedule.yaml, for editors."""
    from overnight.schedule import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@click.command("next")
@click.argument("job", required=False, shell_complete=job_names)
@click.option("-n", "--count", default=1, show_default=True, type=click.IntRange(1, 5000), help="Times of each job.")
@click.option("--from", "start", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]), help="UTC.")
@pass_cli
def next_(cli: Cli, job: str | None, count: int, start: datetime | None) -> None:
    """When each job, or JOB, runs next; days of a clock change are marked."""
    after = start.replace(tzinfo=UTC) if start else cli.clock.now()
    if job is not None and job not in cli.schedule.jobs:
        raise ConfigError(f"schedule.yaml has no job {job!r}; it has {', '.join(cli.schedule.jobs)}")
    jobs = {name: s for name, s in cli.schedule.jobs.items() if job in (None, name)}
    paused = _paused(cli)
    rows = [row for name, settings in jobs.items() for row in _times(name, settings, after, count, paused.get(name))]
    rows.sort(key=lambda row: row["scheduled_for"] or "~")
    last = _last_runs(cli) if start is None else {}
    cli.emit(rows, _table(rows, jobs, last, after))


def _times(name: str, settings: "JobSettings", after: datetime, count: int, paused: str | None) -> list[dict[str, Any]]:
    if paused is not None or not settings.enabled:
        note = f"paused: {paused}" if paused is not None else "not enabled"
        return [{"job": name, "scheduled_for": None, "local": None, "slot": None, "note": note}]
    trigger = settings.trigger()
    rows: list[dict[str, Any]] = []
    at = trigger.next(after)
    while at is not None and len(rows) < count:
        local = trigger.local(at)
        rows.append(
            {
                "job": name,
                "scheduled_for": iso(at),
                "local": f"{local:%a %Y-%m-%d %H:%M %Z}",
                "slot": trigger.slot(at),
                "note": trigger.note(at),
            }
        )
        at = trigger.next(at)
    return rows


def _table(rows: list[dict[str, Any]], jobs: dict[str, "JobSettings"], last: dict[str, Any], after: datetime) -> str:
    ran = {name: _ran(last[name], jobs[name]) if last.get(name) else "—" for name in jobs}
    width = max([34, *map(len, ran.values())]) + 2
    lines = [f"{'NEXT':<26}{'LEFT':>8}  {'LAST':<{width}}{'JOB':<18}SCHEDULE"]
    for row in rows:
        left = _left(datetime.fromisoformat(row["scheduled_for"]) - after) if row["scheduled_for"] else "—"
        note = f"   ({row['note']})" if row["note"] else ""
        when = jobs[row["job"]].trigger().describe()
        lines.append(f"{row['local'] or '—':<26}{left:>8}  {ran[row['job']]:<{width}}{row['job']:<18}{when}{note}")
    return "\n".join(lines)


def _ran(last: tuple[Any, str, Any], settings: "JobSettings") -> str:
    """When, in the zone of NEXT, and what the slot has come to."""
    run, status, slot = last
    started = settings.trigger().local(run["started_at"])
    return f"{started:%a %m-%d %H:%M %Z} {status}, {slot['ok']} of {sum(slot[state] for state in STATES)} ok"


def _left(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    return f"{days}d {hours}h" if days else f"{hours}h {minutes % 60}m" if hours else f"{minutes}m"


def _paused(cli: Cli) -> dict[str, str]:
    from overnight.ledger.runs import paused  # noqa: PLC0415

    found = {name: cli.ledger.reading(paused, name) for name in cli.schedule.jobs}
    return {name: reason for name, reason in found.items() if reason is not None}


def _last_runs(cli: Cli) -> dict[str, tuple[Any, str, Any]]:
    """Of each job the last run that worked on something, else the last; its status, and its slot."""
    from overnight.cli.found import status_of  # noqa: PLC0415
    from overnight.ledger.runs import latest_run, slot_of  # noqa: PLC0415

    def last(connection: Any, name: str) -> Any:
        return latest_run(connection, name, worked=True) or latest_run(connection, name)

    runs = {name: row for name in cli.schedule.jobs if (row := cli.ledger.reading(last, name)) is not None}
    return {
        name: (row, status_of(cli, row), cli.ledger.reading(slot_of, name, row["slot"])) for name, row in runs.items()
    }


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--reason", default="", help="Why; it is shown wherever the job is missed.")
@pass_cli
def pause(cli: Cli, job: str, reason: str) -> None:
    """Let JOB's occurrences pass until `resume-job`; kept in the ledger, not in the file.

    `run`, `retry`, `resume` and `redo` of it are refused as well, with exit code 4; rehearsals are not.
    """
    _set_pause(cli, job, cli.clock.now(), reason or "no reason given")
    cli.emit({"job": job, "paused": True}, f"{job} is paused; `overnight resume-job {job}` ends it")


@click.command("resume-job")
@click.argument("job", shell_complete=job_names)
@pass_cli
def resume_job(cli: Cli, job: str) -> None:
    """End JOB's pause. What it missed meanwhile is not made up for."""
    passed = _set_pause(cli, job, None, None)
    if passed is None:
        cli.emit({"job": job, "paused": False, "passed": []}, f"{job} was not paused; nothing was changed")
        return
    slots = [decision.slot for decision in passed if decision.job == job]
    text = f"{job} runs again as scheduled" + (f"; not run meanwhile: {', '.join(slots[-5:])}" if slots else "")
    cli.emit({"job": job, "paused": False, "passed": slots}, text)


def _set_pause(cli: Cli, job: str, at: datetime | None, reason: str | None) -> "list[Decision] | None":
    """What is not run is noted, and told; None when there was no pause to end."""
    from overnight.missed import tell  # noqa: PLC0415
    from overnight.occurrences import pause_listed  # noqa: PLC0415

    if job not in cli.schedule.jobs:
        raise ConfigError(f"schedule.yaml has no job {job!r}; it has {', '.join(cli.schedule.jobs)}")
    now, listed = cli.clock.now(), cli.schedule.listed()
    passed = cli.ledger.writing(lambda connection: pause_listed(connection, listed, job, at, reason, now))
    if passed:
        asyncio.run(tell(cli.workplace, passed))
    return passed
