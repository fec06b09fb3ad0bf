"""`backup`, `restore`, `vacuum` and `rebuild`: taking care of the ledger."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from overnight import recount, retention
from overnight.backup import Pausing, back_up
from overnight.backup import restore as put_back
from overnight.cli.context import Cli, pass_cli
from overnight.cli.found import refuse_runs
from overnight.ledger import file_of
from overnight.plurals import counted


@click.command()
@click.argument("path", required=False, type=click.Path(file_okay=False, path_type=Path))
@pass_cli
def backup(cli: Cli, path: Path | None) -> None:
    """Copy the ledger and the secret into a new folder in PATH (var/backups), while everything runs."""
    made = back_up(cli.ledger, cli.root, path or cli.ledger.faults.file.parent / "backups", cli.clock.now())
    document = {"path": str(made.folder), "bytes": made.size, "secret": made.secret}
    has = "ledger and secret" if made.secret else "ledger; there is no var/secret"
    lines = [f"{made.folder}: {has}, {size(made.size)}", f"to go back to it: overnight restore {made.folder}"]
    cli.emit(document, "\n".join(lines))


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@pass_cli
def restore(cli: Cli, path: Path) -> None:
    """Put the backup PATH in the place of the ledger, which is kept beside it. Refused while anything has it open."""
    real = not cli.schedule.mail.transport.startswith("outbox:")
    jobs = {name: cli.schedule.job_hash(name) for name in cli.schedule.jobs}
    pausing = Pausing(jobs, cli.clock.now()) if real else None
    done = put_back(path, file_of(cli.schedule.ledger, cli.root), cli.root, pausing)
    paused = list(done.paused)
    cli.ledger.check()
    lines = [f"{done.file} is again as it was in {path}; its newest run started {done.latest or 'never'}"]
    lines += [f"what was there is kept as {kept}" for kept in done.kept]
    lines.append("what was recorded later is lost: runs and reports of that time, what it cost, who unsubscribed in it")
    if paused:
        lines.append(
            f"mail that a relay took in that time would be sent again, so these are paused: {', '.join(paused)}"
        )
        lines.append(
            "look at the relay's log; then for each: overnight resume-job JOB (what was missed is not made up for)"
        )
    elif not real:
        lines.append("mail is not sent twice: the outbox knows what it has")
    document = {"ledger": str(done.file), "from": str(path), "latest_run": done.latest}
    cli.emit(document | {"kept": [str(kept) for kept in done.kept], "paused": paused}, "\n".join(lines))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@pass_cli
def vacuum(cli: Cli, *, dry_run: bool) -> None:
    """Delete what is older than its retention, and shrink the ledger's file.

    The first is done once a day by itself; the second needs the file for itself, so it is refused while a run goes on.
    """
    terms = {name: job.retention for name, job in cli.schedule.jobs.items()}
    if dry_run:
        would = cli.ledger.reading(retention.preview, terms, cli.clock.now())
        cli.emit({"deleted": asdict(would), "dry_run": True}, f"would delete {_told(would)}")
        return
    refuse_runs(cli)
    before = cli.ledger.size()
    deleted = asyncio.run(retention.retire(cli.ledger, terms))
    cli.ledger.shrink()
    won = before - cli.ledger.size()
    lines = [f"deleted {_told(deleted)}", f"{size(max(0, won))} won: the ledger has {size(cli.ledger.size())} now"]
    cli.emit({"deleted": asdict(deleted), "bytes_won": won, "dry_run": False}, "\n".join(lines))


def _told(deleted: retention.Deleted) -> str:
    """`3 slots, 300 items`, or `nothing`."""
    return (
        ", ".join(counted(n, name.removesuffix("s"), name) for name, n in asdict(deleted).items() if n)
        or "nothing: all of it is younger than its retention"
    )


@click.command()
@pass_cli
def rebuild(cli: Cli) -> None:
    """Compute counts of slots and runs, histograms and budgets anew from the rows they count, and say what differed."""
    found = recount.rebuild(cli.ledger)
    lines = [f"{one.what}: was {one.was}, is {one.now}" for one in found]
    cli.emit({"differences": [asdict(one) for one in found]}, "\n".join(lines) or "every counter was right")


def size(count: int) -> str:
    """Bytes for people: `812.4 kB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
