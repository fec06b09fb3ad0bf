"""`overnight subscribers`: who gets the mail."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError
from overnight.subscribers import (
    Change,
    ImportResult,
    Listed,
    add,
    everyone,
    export_csv,
    import_csv,
    unsubscribe,
)

PARTIAL = 3  # exit code: some rows were not imported
SHOWN = 50  # subscribers that `list` prints for people; --json and export have all
_SAID: dict[Change, str] = {
    "added": "added",
    "updated": "updated",
    "unchanged": "is there already",
    "inactive": "unsubscribed or was suppressed: not brought back",
}


@click.group()
def subscribers() -> None:
    """Import, list and remove the people who get the mail."""


@subscribers.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_cli
def import_(cli: Cli, file: Path) -> None:
    """Import FILE, a CSV with the columns email, name, topics.

    Rows that cannot be used are named and the others imported; then the exit code is 3.
    """
    result = import_csv(cli.ledger, file, cli.clock)
    cli.emit(asdict(result), _import_text(file.name, result))
    if result.rejected:
        raise SystemExit(PARTIAL)


@subscribers.command("add")
@click.argument("email")
@click.option("--name", default="", help="Name in the greeting.")
@click.option("--topic", "topics", multiple=True, help="Only these topics; may be given several times.")
@pass_cli
def add_(cli: Cli, email: str, name: str, topics: tuple[str, ...]) -> None:
    """Add one subscriber."""
    change = add(cli.ledger, cli.clock, email, name=name, topics=topics)
    cli.emit({"email": email, "change": change}, f"{email} {_SAID[change]}")


@subscribers.command("list")
@pass_cli
def list_(cli: Cli) -> None:
    """List subscribers and their status."""
    if cli.json:
        cli.emit([_document(listed) for listed in everyone(cli.ledger)], "")
        return
    rows = everyone(cli.ledger)
    lines = [_text(listed) for listed in islice(rows, SHOWN)]
    more = sum(1 for _ in rows)
    if more:
        lines.append(f"… and {more} more: overnight subscribers export")
    cli.emit([], "\n".join(lines) or "no subscribers yet: overnight subscribers import FILE.csv")


@subscribers.command("export")
@click.argument("file", required=False, type=click.Path(dir_okay=False, writable=True, path_type=Path))
@pass_cli
def export(cli: Cli, file: Path | None) -> None:
    """Write all subscribers as CSV to FILE, or to the screen."""
    lines = list(export_csv(cli.ledger))
    if file is None:
        cli.emit({"csv": "".join(lines)}, "".join(lines).rstrip("\n"))
        return
    try:
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    cli.emit({"file": str(file), "subscribers": len(lines) - 1}, f"{len(lines) - 1} subscribers written to {file}")


@subscribers.command("unsubscribe")
@click.argument("who", metavar="EMAIL|ID")
@pass_cli
def unsubscribe_(cli: Cli, who: str) -> None:
    """Unsubscribe one person, by address or id."""
    if not unsubscribe(cli.ledger, cli.clock, who):
        raise ConfigError(f"{who}: nobody is known by this address or id; see overnight subscribers list")
    cli.emit({"who": who, "status": "unsubscribed"}, f"{who} unsubscribed")


def _import_text(name: str, result: ImportResult) -> str:
    counts = f"{result.added} added, {result.updated} updated, {result.unchanged} unchanged"
    lines = [
        f"{name}:{bad.line}: not imported: {bad.column} {bad.value}: {bad.reason}".replace(" :", ":")
        for bad in result.rejected
    ]
    lines += [f"note: {note}" for note in result.notes]
    merged = f", {result.merged} duplicate rows merged" if result.merged else ""
    return "\n".join([*lines, f"{counts}{merged}, {len(result.rejected)} not imported"])


def _document(listed: Listed) -> dict[str, Any]:
    return {**asdict(listed.subscriber), "status": listed.status, "reason": listed.reason}


def _text(listed: Listed) -> str:
    who = listed.subscriber
    status = "" if listed.status == "active" else f"  [{listed.status}]"
    topics = f"  {' '.join(who.topics)}" if who.topics else ""
    return f"{who.id}  {who.email}  {who.name}{topics}{status}"
