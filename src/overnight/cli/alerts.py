"""`overnight alerts`: what is wrong now, and quiet for what is known."""

from datetime import datetime, timedelta
from typing import Any

import click

from overnight.alerts.book import every, firing, silence, undelivered
from overnight.alerts.rules import compact_of
from overnight.cli.context import Cli, pass_cli
from overnight.clock import iso
from overnight.errors import ConfigError
from overnight.plurals import counted
from overnight.schedule.problem import did_you_mean
from overnight.schedule.values import duration, positive


@click.group("alerts", invoke_without_command=True)
@click.option("--all", "all_", is_flag=True, help="Also those that are over, or have not lasted long enough.")
@click.pass_context
def alerts(ctx: click.Context, *, all_: bool) -> None:
    """What is wrong now, newest first; each line begins with the alert's key."""
    if ctx.invoked_subcommand is None:
        _show(ctx.find_object(Cli) or ctx.fail("no project"), all_=all_)


@alerts.command("silence")
@click.argument("key")
@click.argument("span", metavar="SPAN")
@pass_cli
def silence_(cli: Cli, key: str, span: str) -> None:
    """Tell nothing of the alert KEY for SPAN (30m, 2h, 1d). What still lasts then is told; its end is told always."""
    try:
        length = positive(duration(span))
    except ValueError as error:
        raise ConfigError(f"SPAN: {error}") from error
    until = cli.clock.now() + length
    _set(cli, key, until)
    cli.emit({"key": key, "silenced_until": iso(until)}, f"{key} is quiet until {iso(until)}")


@alerts.command("unsilence")
@click.argument("key")
@pass_cli
def unsilence(cli: Cli, key: str) -> None:
    """End the silence of the alert KEY."""
    _set(cli, key, None)
    cli.emit({"key": key, "silenced_until": None}, f"{key} is told again")


def _set(cli: Cli, key: str, until: datetime | None) -> None:
    if cli.ledger.writing(lambda connection: silence(connection, key, until)):
        return
    known = [row["key"] for row in cli.ledger.reading(every)]
    hint = did_you_mean(key, known) or "`overnight alerts --all` lists them"
    raise ConfigError(f"there is no alert {key!r}; {hint}")


def _show(cli: Cli, *, all_: bool) -> None:
    rows, now = cli.ledger.reading(every if all_ else firing), cli.clock.now()
    lines = [_line(row, now) for row in rows] or ["nothing is wrong that an alert knows of"]
    lines += [
        f"the channel {row['channel']} has not taken {counted(row['waiting'], 'message')}: {row['error']}"
        for row in cli.ledger.reading(undelivered)
    ]
    cli.emit([_plain(row) for row in rows], "\n".join(lines))


def _line(row: Any, now: datetime) -> str:
    quiet, until = row["silenced_until"], row["last_at"] if row["state"] == "resolved" else now
    minutes = timedelta(minutes=max(0, (until - row["first_at"]) // timedelta(minutes=1)))
    told = f", quiet until {quiet:%Y-%m-%d %H:%M}Z" if quiet is not None and quiet > now else ""
    lasted = f"{compact_of(minutes)} since {row['first_at']:%Y-%m-%d %H:%M}Z" if minutes else "just now"
    return f"{row['key']}  {row['state']}, {lasted}, seen {counted(row['times'], 'time')}{told}\n    {row['message']}"


def _plain(row: Any) -> dict[str, Any]:
    return {name: iso(value) if hasattr(value, "isoformat") else value for name, value in dict(row).items()}
