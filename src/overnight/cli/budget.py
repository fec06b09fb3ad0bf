"""`overnight budget`: what may still be spent today, and more of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click
from sqlalchemy import Connection, RowMapping, select

from overnight.budget import day_counter, dollars, job_counter, raise_cap, role_counter, run_counter
from overnight.cli.context import Cli, job_names, pass_cli
from overnight.errors import ConfigError
from overnight.ledger.controls import budget as counters
from overnight.ledger.tables import run
from overnight.schedule.values import money

LARGEST = 1_000_000 * 1_000_000_000  # nano-USD; the sums of a day stay within a 64-bit column
UNUSED = {"extra_nano": 0, "settled_nano": 0, "reserved_nano": 0, "warned_at": None}  # a counter without a row


@click.group("budget", invoke_without_command=True)
@click.pass_context
def budget(ctx: click.Context) -> None:
    """What may be spent today, what is spent, reserved by calls under way, and left."""
    if ctx.invoked_subcommand is None:
        _show(ctx.find_object(Cli) or ctx.fail("no project"))


@budget.command("raise")
@click.argument("amount", metavar="AMOUNT")
@click.option(
    "--job",
    shell_complete=job_names,
    help="Raise what this job may cost today and in its slots of today, not the whole day's budget.",
)
@click.option("--role", help="Raise what this role may cost today, not the whole day's budget.")
@pass_cli
def raise_(cli: Cli, amount: str, job: str | None, role: str | None) -> None:
    """Let today cost AMOUNT more, at once, also for runs that are under way. From tomorrow the file counts again.

    AMOUNT is 5, 0.50 or '$5' (in quotes, or the shell reads a variable).
    """
    more = _amount(amount)
    if job is not None and role is not None:
        raise ConfigError("raise either --job or --role; they are two budgets")
    raised = cli.ledger.writing(lambda connection: _raised(connection, _wanted(cli, connection, job, role), more))
    lines = [f"{name} may now cost {dollars(cap)}" for name, cap in raised.items()]
    document = {"raised_usd": dollars(more)[1:], "caps": {name: dollars(cap)[1:] for name, cap in raised.items()}}
    cli.emit(document, "\n".join(lines))


def _amount(text: str) -> int:
    try:
        more = money(text if text.startswith("$") else f"${text}")
    except ValueError as error:
        raise ConfigError(f"AMOUNT: {text!r} is not an amount in dollars; write 5, 0.50 or '$5'") from error
    if not 0 < more <= LARGEST:
        raise ConfigError(f"AMOUNT: {text!r} is not between $0.000000001 and {dollars(LARGEST)}")
    return more


def _raised(connection: Connection, caps: Mapping[str, int], more: int) -> dict[str, int]:
    return {counter: raise_cap(connection, counter, cap, more) for counter, cap in caps.items()}


def _wanted(cli: Cli, connection: Connection, job: str | None, role: str | None) -> dict[str, int]:
    """The counters to raise, with their caps."""
    if job is not None:
        return _of_job(cli, connection, job)
    if role is not None:
        return _of_role(cli, role)
    return {day_counter(_today(cli)): cli.schedule.budget.per_day}


def _of_job(cli: Cli, connection: Connection, job: str) -> dict[str, int]:
    """Every counter that bounds the job today: its day, and the slots it has run, or else the slot of now."""
    if job not in cli.schedule.jobs:
        raise ConfigError(f"schedule.yaml has no job {job!r}; it has {', '.join(cli.schedule.jobs)}")
    settings, today = cli.schedule.jobs[job], _today(cli)
    minute = cli.clock.now().replace(second=0, microsecond=0)
    slots = _slots(connection, job, today) or [settings.trigger().slot(minute)]
    caps = {job_counter(job, today): settings.budget.per_day}
    caps |= {run_counter(job, slot): settings.budget.per_run for slot in slots}
    return _capped(caps) or _refuse(f"{job} has no budget of its own in schedule.yaml", "--job")


def _of_role(cli: Cli, role: str) -> dict[str, int]:
    if role not in cli.schedule.roles:
        raise ConfigError(f"schedule.yaml has no role {role!r}; it has {', '.join(cli.schedule.roles) or 'none'}")
    cap = cli.schedule.roles[role].budget.per_day
    return _capped({role_counter(role, _today(cli)): cap}) or _refuse(
        f"{role} has no per_day of its own in schedule.yaml (per_task is raised there)", "--role"
    )


def _capped(caps: Mapping[str, int | None]) -> dict[str, int]:
    return {counter: cap for counter, cap in caps.items() if cap is not None}


def _refuse(what: str, option: str) -> NoReturn:
    raise ConfigError(f"{what}; `overnight budget raise` without {option} raises what bounds it, the day's")


def _slots(connection: Connection, job: str, day: str) -> Sequence[str]:
    query = select(run.c.slot).where(run.c.job == job, run.c.day == day).distinct().order_by(run.c.slot)
    return connection.execute(query).scalars().all()


def _show(cli: Cli) -> None:
    day = _today(cli)
    caps = cli.ledger.reading(lambda connection: _in_force(cli, connection, day))
    known: dict[str, Mapping[Any, Any]] = {row["scope"]: row for row in cli.ledger.reading(_rows, list(caps))}
    rows = [_shown(counter, cap, known.get(counter, UNUSED)) for counter, cap in caps.items()]
    width = max(len(row["counter"]) for row in rows)
    lines = [f"{'BUDGET':<{width}}{'CAP':>14}{'SPENT':>14}{'RESERVED':>14}{'LEFT':>14}"]
    lines += [_line(row, width) for row in rows]
    lines.append("every call reserves the most it can cost and gives back what it did not need")
    cli.emit({"day": day, "counters": rows}, "\n".join(lines))


def _in_force(cli: Cli, connection: Connection, day: str) -> dict[str, int]:
    """The counters of today with the caps of schedule.yaml: the day's, of jobs, of roles, of the slots run in it.

    Those of single items (`per_task`) are too many to show.
    """
    jobs, roles = cli.schedule.jobs, cli.schedule.roles
    caps: dict[str, int | None] = {day_counter(day): cli.schedule.budget.per_day}
    caps |= {job_counter(name, day): job.budget.per_day for name, job in jobs.items()}
    caps |= {role_counter(name, day): role.budget.per_day for name, role in roles.items()}
    for name, job in jobs.items():
        caps |= {run_counter(name, slot): job.budget.per_run for slot in _slots(connection, name, day)}
    return _capped(caps)


def _rows(connection: Connection, names: Sequence[str]) -> Sequence[RowMapping]:
    return connection.execute(select(counters).where(counters.c.scope.in_(names))).mappings().all()


def _shown(counter: str, cap: int, row: Mapping[Any, Any]) -> dict[str, Any]:
    extra, settled, reserved = (int(row[name]) for name in ("extra_nano", "settled_nano", "reserved_nano"))
    cap += extra
    left = max(0, cap - settled - reserved)
    money = {"cap": cap, "raised": extra, "settled": settled, "reserved": reserved, "left": left}
    return {"counter": counter, **{name: dollars(nano)[1:] for name, nano in money.items()}} | {
        "warned": row["warned_at"] is not None
    }


def _line(row: dict[str, Any], width: int) -> str:
    amounts = "".join(f"{'$' + row[name]:>14}" for name in ("cap", "settled", "reserved", "left"))
    return f"{row['counter']:<{width}}{amounts}" + ("   warned" if row["warned"] else "")


def _today(cli: Cli) -> str:
    return cli.clock.now().astimezone(cli.schedule.timezone).date().isoformat()
