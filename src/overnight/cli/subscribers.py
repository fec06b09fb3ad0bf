"""`overnight subscribers`: who gets the mail."""

import sys
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from overnight.cli.context import Cli, pass_cli
from overnight.clock import iso
from overnight.errors import ConfigError, Refused
from overnight.plurals import counted
from overnight.subscribers import (
    Change,
    ImportResult,
    Listed,
    Status,
    add,
    everyone,
    export_csv,
    find,
    import_csv,
    unsubscribe,
)
from overnight.subscriptions import outsiders, reactivate, suppress_by_hand

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
@click.option("--status", type=click.Choice(["active", "unsubscribed", "suppressed"]), help="Only these.")
@pass_cli
def list_(cli: Cli, status: Status | None) -> None:
    """List subscribers and their status: since when, and why."""
    rows = chain(everyone(cli.ledger, status), outsiders(cli.ledger, status))
    if cli.json:
        cli.emit([_document(listed) for listed in rows], "")
        return
    lines = [_text(listed) for listed in islice(rows, SHOWN)]
    more = sum(1 for _ in rows)
    if more:
        lines.append(f"… and {more} more: overnight subscribers export")
    nobody = f"nobody is {status}" if status else "no subscribers yet: overnight subscribers import FILE.csv"
    cli.emit([], "\n".join(lines) or nobody)


@subscribers.command("show")
@click.argument("who", metavar="EMAIL|ID")
@pass_cli
def show(cli: Cli, who: str) -> None:
    """Show one subscriber, by address or id."""
    listed = _found(cli, who)
    cli.emit(_document(listed), _text(listed))


@subscribers.command("suppress")
@click.argument("who", metavar="EMAIL|ID")
@click.option("--reason", default="by hand", show_default=True, help="Why; it is shown with the subscriber.")
@pass_cli
def suppress(cli: Cli, who: str, reason: str) -> None:
    """Send one subscriber nothing more, as after a bounce, until that is undone by `reactivate`."""
    found = find(cli.ledger, who)
    known = found.subscriber.id if found else who  # a job's own reader, who stands nowhere yet
    cli.ledger.writing(lambda connection: suppress_by_hand(connection, known, reason, cli.clock.now()))
    listed = _found(cli, who)
    cli.emit(_document(listed), _text(listed))


@subscribers.command("reactivate")
@click.argument("who", metavar="EMAIL|ID")
@pass_cli
def reactivate_(cli: Cli, who: str) -> None:
    """Send mail again to one who was suppressed; who has unsubscribed has to sign up again."""
    known = _found(cli, who).subscriber.id
    cli.ledger.writing(lambda connection: reactivate(connection, known, cli.clock.now()))
    listed = find(cli.ledger, known)
    if listed is None:  # of a job's own readers, those who are mailed stand nowhere
        cli.emit({"id": known, "status": None}, f"{known} gets mail again, if a job brings it")
        return
    cli.emit(_document(listed), _text(listed))


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
    unsubscribe(cli.ledger, cli.clock, _found(cli, who).subscriber.id)
    cli.emit({"who": who, "status": "unsubscribed"}, f"{who} unsubscribed")


@subscribers.command("forget")
@click.argument("who", metavar="EMAIL|ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_cli
def forget_(cli: Cli, who: str, *, yes: bool) -> int:
    """Erase a person for ever: from the ledger and its backups, from mail files, logs and reports on this machine.

    A keyed hash of the address stays, so that no import brings the person back.
    """
    from overnight.cli.found import refuse_runs, runs_refused  # noqa: PLC0415
    from overnight.erasure import files_of, find_person, forget  # noqa: PLC0415

    known = find_person(cli.ledger, who)
    if known is None:
        raise ConfigError(f"{who}: nobody is known by this address or id; see overnight subscribers list")
    refuse_runs(cli)
    _confirm(known.id, yes=yes)
    outbox, reports = cli.schedule.mail.transport.removeprefix("outbox:"), cli.schedule.reports
    file = cli.ledger.faults.file
    files = partial(files_of, cli.root, file, outbox=outbox, reports=reports.to, spool=reports.spool)
    done = forget(cli.ledger, known, files, lambda connection: runs_refused(connection, cli))
    lines = [f"{counted(n, 'row')} of {table}" for table, n in sorted(done.rows.items()) if n]
    lines += [f"{path}: {what}" for path, what in done.files.items()]
    lines += [f"NOT ERASED {what}" for what in done.left]
    document = {"id": known.id, "rows": dict(done.rows), "files": done.files, "not_erased": done.left}
    cli.emit(document, "\n".join([f"{known.id} is forgotten:", *(f"  {line}" for line in lines)]))
    return PARTIAL if done.left else 0


def _found(cli: Cli, who: str) -> Listed:
    """Somebody by address or id. Raises ConfigError."""
    listed = find(cli.ledger, who)
    if listed is None:
        raise ConfigError(f"{who}: nobody is known by this address or id; see overnight subscribers list")
    return listed


def _confirm(id_: str, *, yes: bool) -> None:
    """Ask whether that is meant. Raises Refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"this erases {id_} for ever; say --yes if that is meant")
    if not click.confirm(f"This erases {id_} for ever. Go on?", err=True):
        raise Refused("not confirmed: nobody is forgotten")


def _import_text(name: str, result: ImportResult) -> str:
    counts = f"{result.added} added, {result.updated} updated, {result.unchanged} unchanged"
    lines = [
        f"{name}:{bad.line}: not imported: {bad.column} {bad.value}: {bad.reason}".replace(" :", ":")
        for bad in result.rejected
    ]
    lines += [f"note: {note}" for note in result.notes]
    merged = f", {counted(result.merged, 'duplicate row')} merged" if result.merged else ""
    return "\n".join([*lines, f"{counts}{merged}, {len(result.rejected)} not imported"])


def _document(listed: Listed) -> dict[str, Any]:
    changed = iso(listed.changed_at)
    return {**asdict(listed.subscriber), "status": listed.status, "reason": listed.reason, "changed_at": changed}


def _text(listed: Listed) -> str:
    who = listed.subscriber
    why = f": {listed.reason}" if listed.reason else ""
    status = "" if listed.status == "active" else f"  [{listed.status} {iso(listed.changed_at)[:10]}{why}]"
    topics = f"  {' '.join(who.topics)}" if who.topics else ""
    return f"{who.id}  {who.email or '(a reader of a job)'}  {who.name}{topics}{status}"
