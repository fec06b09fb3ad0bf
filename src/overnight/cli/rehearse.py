"""`rehearse`: a test send."""

import click

from overnight.batch import Picked
from overnight.cli.context import Cli, job_names, pass_cli
from overnight.cli.run import refuse_slip, run_and_tell
from overnight.errors import ConfigError
from overnight.runner import Request
from overnight.subscribers import forms


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--to", "to", multiple=True, required=True, metavar="ADDRESS", help="Who gets it; may be given again.")
@click.option("--slot", "--date", "slot", metavar="SLOT", help="Which edition: 2026-11-22, or an instant.")
@click.option("--yes", is_flag=True, help="Send through a relay without asking.")
@pass_cli
def rehearse(cli: Cli, job: str, to: tuple[str, ...], slot: str | None, *, yes: bool) -> int:
    """Send what JOB would mail to ADDRESS and to nobody else, by the transport of schedule.yaml.

    The subject is marked as a test, and the link to unsubscribe does nothing. An edition that was composed already is
    the one that is sent; else it is composed without a model. Nothing of it counts: no report, no alert, no story is
    marked as seen.
    """
    for address in to:
        if not forms(address):
            raise ConfigError(f"--to {address}: this is no e-mail address")
    if slot is not None:
        refuse_slip(cli, job, slot, ahead=True)
    addresses = tuple(dict.fromkeys(to))
    request = Request(job, slot, kind="dry", picked=Picked(limit=len(addresses)), rehearsal=True, to=addresses)
    return run_and_tell(cli, request, yes=yes)
