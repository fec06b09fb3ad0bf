"""`overnight budget`: what may still be spent today, and more of it."""

from collections.abc import Sequence
from typing import Any

import click
from sqlalchemy import Connection, RowMapping, or_, select

from overnight.budget import day_counter, dollars, job_counter, raise_cap, run_counter
from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError
from overnight.ledger.tables import budget as counters
from overnight.ledger.tables import run
from overnight.schedule.values import money

LARGEST = 1_000_000 * 1_000_000_000  # nano-USD; the sums of a day stay within a 64-bit column


@click.group("budget", invoke_without_command=True)
@click.pass_context
def budget(ctx: click.Context) -> None:
    """What may be spent today, what is spent, reserved by calls under way, and left."""
    if ctx.invoked_subcommand is None:
        _show(ctx.find_object(Cli) or ctx.fail("no project"))


@budget.command("raise")
@click.argument("amount", metavar="AMOUNT")
@click.option("--job", help="Raise what this job's slot of today may cost, instead of the whole day's budget.")
@pass_cli
def raise_(cli: Cli, amount: str, job: str | None) -> None:
    """Let today cost AMOUNT more, at once, also for runs that are under way. From tomorrow the file counts again.

    AMOUNT is 5, 0.50 or '$5' (in quotes, or the shell reads a variable).
    """
    more = _amount(amount)
    raised = _raised_day(cli, more) if job is None else _raised_job(cli, job, more)
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


def _raised_day(cli: Cli, more: int) -> dict[str, int]:
    name, cap = day_counter(_today(cli)), cli.schedule.budget.per_day
    return {name: cli.ledger.writing(lambda connection: raise_cap(connection, name, cap, more))}


def _raised_job(cli: Cli, job: str, more: int) -> dict[str, int]:
    """Raise every counter that bounds the job today: those of the slots it has run, or else of the slot of now."""
    if job not in cli.schedule.jobs:
        raise ConfigError(f"schedule.yaml has no job {job!r}; it has {', '.join(cli.schedule.jobs)}")
    cap = cli.schedule.jobs[job].budget.per_run
    if cap is None:
        raise ConfigError(
            f"{job} has no budget of its own in schedule.yaml, only the day's bounds it: `overnight budget raise` "
            "without --job"
        )
    slot = cli.schedule.jobs[job].trigger().slot(cli.clock.now().replace(second=0, microsecond=0))
    today = _today(cli)

    def write(connection: Connection) -> dict[str, int]:
        slots = _slots(connection, job, today) or [slot]
        return {name: raise_cap(connection, name, cap, more) for name in (run_counter(job, each) for each in slots)}

    return cli.ledger.writing(write)


def _slots(connection: Connection, job: str, day: str) -> Sequence[str]:
    query = select(run.c.slot).where(run.c.job == job, run.c.day == day).distinct().order_by(run.c.slot)
    return connection.execute(query).scalars().all()


def _show(cli: Cli) -> None:
    day = _today(cli)
    rows = [_shown(row) for row in cli.ledger.reading(_of_day, day)]
    if not any(row["counter"] == day_counter(day) for row in rows):
        rows.insert(0, _unused(day_counter(day), cli.schedule.budget.per_day))
    width = max(len(row["counter"]) for row in rows)
    lines = [f"{'BUDGET':<{width}}{'CAP':>14}{'SPENT':>14}{'RESERVED':>14}{'LEFT':>14}"]
    lines += [_line(row, width) for row in rows]
    lines.append("every call reserves the most it can cost and gives back what it did not need")
    cli.emit({"day": day, "counters": rows}, "\n".join(lines))


def _of_day(connection: Connection, day: str) -> Sequence[RowMapping]:
    """The counters of the day: its own, those of jobs, and those of the slots that have run or are running in it."""
    slots = connection.execute(select(run.c.job, run.c.slot).where(run.c.day == day).distinct()).all()
    runs = [run_counter(job, slot) for job, slot in slots]
    jobs = [job_counter(job, day) for job in {job for job, _ in slots}]
    of_day = or_(counters.c.scope == day_counter(day), counters.c.scope.in_([*jobs, *runs]))
    return connection.execute(select(counters).where(of_day).order_by(counters.c.scope)).mappings().all()


def _shown(row: RowMapping) -> dict[str, Any]:
    cap, settled, reserved = (int(row[name]) for name in ("cap_nano", "settled_nano", "reserved_nano"))
    money = {"cap": cap, "settled": settled, "reserved": reserved, "left": max(0, cap - settled - reserved)}
    return {"counter": row["scope"], **{name: dollars(nano)[1:] for name, nano in money.items()}} | {
        "warned": row["warned_at"] is not None
    }


def _line(row: dict[str, Any], width: int) -> str:
    amounts = "".join(f"{'$' + row[name]:>14}" for name in ("cap", "settled", "reserved", "left"))
    return f"{row['counter']:<{width}}{amounts}" + ("   warned" if row["warned"] else "")


def _unused(counter: str, cap: int) -> dict[str, Any]:
    whole = dollars(cap)[1:]
    return {"counter": counter, "cap": whole, "settled": "0.00", "reserved": "0.00", "left": whole, "warned": False}


def _today(cli: Cli) -> str:
    return cli.clock.now().astimezone(cli.schedule.timezone).date().isoformat()
