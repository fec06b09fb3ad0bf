"""`redo`: a corrected edition."""

import sys

import click

from overnight import project
from overnight.cli.consent import although_paused, refuse_paused
from overnight.cli.context import Cli, job_names, pass_cli
from overnight.cli.run import run_and_tell
from overnight.editions import Edition, next_edition, supersede
from overnight.errors import Refused
from overnight.plurals import counted
from overnight.runner import Request


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option(
    "--slot", "--date", "slot", metavar="SLOT", required=True, help="Which edition: 2026-11-22, or an instant."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@although_paused
@pass_cli
def redo(cli: Cli, job: str, slot: str, *, yes: bool, although: bool) -> int:
    """Make JOB's SLOT once more, as a corrected edition: composed anew, paid anew, and sent to everybody again.

    It runs in a slot of its own (2026-11-22.2); who has not got the edition before will not get that any more.
    """
    settings = cli.schedule.job(job)
    refuse_paused(cli, job, although=although)
    project.attach(cli.root)
    project.load_job(job, settings.target)  # a job that cannot be loaded supersedes nothing
    edition = cli.ledger.reading(next_edition, job, slot, cli.clock.now())
    _confirm(job, edition, yes=yes)
    left = cli.ledger.writing(lambda connection: supersede(connection, job, edition, cli.clock.now()))
    if left:
        cli.say(f"skipped of {job} {edition.before}: {counted(left, 'item')} not done")
    return run_and_tell(cli, Request(job, edition.name), yes=True)


def _confirm(job: str, edition: Edition, *, yes: bool) -> None:
    mails = counted(edition.mails, "mail")
    sent = f"{job} {edition.before} has sent {mails}; {edition.name} would send all again, corrected"
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{sent}; say --yes if that is meant")
    if not click.confirm(f"{sent}. Go on?", err=True):
        raise Refused("not confirmed: nothing was sent")
