"""`report` and `costs`: the reports of a day, and what was spent."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import click
from sqlalchemy import Connection, and_, func, select

from overnight.cells import Table, dollars
from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError, OvernightError
from overnight.ledger.rollups import spend
from overnight.ledger.tables import slot
from overnight.report import Day, Report

NAMES = {"job": spend.c.job, "model": spend.c.model, "role": spend.c.role, "day": spend.c.budget_day}
TOTALS = ("calls", "input_tokens", "output_tokens", "cost_nano", "naive_nano", "wasted_nano")

SHOWN = 20  # rows of a report on a terminal
DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--date", "day", type=DATE, help="A report day.  [default: today in the project's zone]")
@click.option("--since", type=DATE, help="All days from this one on.")
@click.option("--csv", "name", metavar="NAME", help="Only this report, as the CSV that is published.")
@click.option("--md", "markdown", is_flag=True, help="As Markdown tables.")
@pass_cli
def report(cli: Cli, day: datetime | None, since: datetime | None, name: str | None, *, markdown: bool) -> None:
    """The reports of a day, made now from the ledger."""
    days = _days(cli, day, since)
    if name is not None:
        if markdown or cli.json:
            raise click.UsageError("--csv prints the file as it is published: leave --md and --json out")
        _print_csv(_named(cli, name), days)
        return
    found, broken = _reports(cli)
    tables: dict[str, list[dict[str, str]]] = {}
    for one in found:
        try:
            tables[one.name] = [row for each in days for row in _made(one, each).readable()]
        except ConfigError as error:
            broken[one.name] = error
    _show(cli, tables, markdown=markdown)
    for why in broken.values():
        cli.say(str(why))
    if broken:
        raise click.exceptions.Exit(1)


def _show(cli: Cli, tables: Mapping[str, Sequence[Mapping[str, str]]], *, markdown: bool) -> None:
    if cli.json:
        cli.emit(tables, "")
        return
    for title, rows in tables.items():
        click.echo(_markdown(title, rows) if markdown else _table(title, rows[:SHOWN]))
        if len(rows) > SHOWN and not markdown:
            click.echo(f"  and {len(rows) - SHOWN:,} more: overnight report --csv {title}\n")


@click.command()
@click.option("--by", type=click.Choice(list(NAMES)), default="job", show_default=True)
@click.option("--since", type=DATE, help="Only from this budget day on.")
@pass_cli
def costs(cli: Cli, by: Literal["job", "model", "role", "day"], since: datetime | None) -> None:
    """What was spent, rehearsals left out."""
    rows = cli.ledger.reading(_spent, by, since.date().isoformat() if since else "")
    total = {by: "total"} | {name: sum(row[name] for row in rows) for name in TOTALS}
    shown = [_priced(row) for row in [*rows, total]]
    cli.emit(
        {"by": by, "rows": shown[:-1], "total": shown[-1]}, _table("costs", shown) if rows else "nothing spent yet"
    )


def _days(cli: Cli, day: datetime | None, since: datetime | None) -> list[Day]:
    zone = cli.schedule.timezone
    last = day.date() if day else cli.clock.now().astimezone(zone).date()
    first = since.date() if since else last
    if first > last:
        raise ConfigError(f"--since {first} is after {last}")
    span = range(first.toordinal(), last.toordinal() + 1)
    return [Day(date.fromordinal(number), cli.ledger) for number in span]


def _reports(cli: Cli) -> tuple[list[Report], dict[str, ConfigError]]:
    """All that can be loaded, and why the others cannot."""
    from overnight import project  # noqa: PLC0415  pandas is behind the project's reports

    project.attach(cli.root)
    return project.load_reports()


def _named(cli: Cli, name: str) -> Report:
    reports, broken = _reports(cli)
    if name in broken:
        raise broken[name]
    found = {one.name: one for one in reports}
    if name not in found:
        raise ConfigError(f"there is no report {name!r}; this project has {', '.join(found) or 'none'}")
    return found[name]


def _made(one: Report, day: Day) -> Table:
    """Make the table of a day. What fails here is the project's own function: raises ConfigError, which names it."""
    try:
        return one.table(day)
    except OvernightError:
        raise
    except Exception as error:
        said = f"the report {one.name} of {day.date} cannot be made: {type(error).__name__}: {error}"
        raise ConfigError(f"{said}; correct {one.fn.__module__.replace('.', '/')}.py") from error


def _print_csv(one: Report, days: Sequence[Day]) -> None:
    """One header, then the rows of all days: the bytes that are published, for a single day."""
    contents = [_made(one, day).csv() for day in days]
    bodies = [content.partition(b"\n")[2] for content in contents[1:]]
    click.echo(b"".join([contents[0], *bodies]), nl=False)


def _spent(connection: Connection, by: str, since: str) -> list[dict[str, Any]]:
    query = (
        select(NAMES[by].label(by), *(func.sum(spend.c[name]).label(name) for name in TOTALS))
        .outerjoin(slot, and_(slot.c.job == spend.c.job, slot.c.slot == spend.c.slot))
        .where(func.coalesce(slot.c.rehearsal, False).is_(False), spend.c.budget_day >= since)
        .group_by(NAMES[by])
        .order_by(NAMES[by])
    )
    rows = connection.execute(query).mappings()
    return [{name: value if name == by else int(value) for name, value in row.items()} for row in rows]


def _priced(row: Mapping[str, Any]) -> dict[str, Any]:
    """Money in dollars: `cost_nano` becomes `cost_usd`."""
    money = {name: name.removesuffix("nano") + "usd" for name in TOTALS if name.endswith("_nano")}
    return {money.get(name, name): dollars(value) if name in money else value for name, value in row.items()}


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for the terminal; one block a row where the terminal is too narrow for all columns."""
    from rich.console import Console  # noqa: PLC0415  70 ms that --json and --csv do not need
    from rich.table import Table as Grid  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not rows:
        return f"{title}: nothing\n"
    used = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    table = Grid(box=None, pad_edge=False)
    for name in used:
        number = all(str(row[name]).replace(".", "").isdecimal() for row in rows if row[name] not in ("", None))
        table.add_column(name, no_wrap=True, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(str(row[name])) for name in used))
    console = Console()
    needed = sum(2 + max(len(name), *(len(str(row[name])) for row in rows)) for name in used)
    if needed > console.width:
        return f"{title}\n" + "\n".join(_block(row, used) for row in rows)
    with console.capture() as captured:
        console.print(table)
    return f"{title}\n{captured.get()}"


def _block(row: Mapping[str, Any], names: Sequence[str]) -> str:
    width = max(map(len, names))
    return "".join(f"  {name:<{width}}  {row[name]}\n" for name in names if row[name] not in ("", None))


def _markdown(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"## {title}\n\nnothing\n"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    body = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
    return f"## {title}\n\n{body}\n"
