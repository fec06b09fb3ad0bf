"""`settle` and `cancel`: what only a person can decide about an effect or a run."""

import click

from overnight import closing
from overnight.cli.context import Cli, job_names, pass_cli
from overnight.cli.found import found_run


@click.command()
@click.argument("run_id", metavar="RUN|JOB", shell_complete=job_names)
@click.argument("key")
@click.argument("answer", type=click.Choice(["sent", "unsent"]))
@pass_cli
def settle(cli: Cli, run_id: str, key: str, answer: closing.Answer) -> None:
    """Say of the item KEY of RUN's slot whether its mail of unknown fate was sent; what was not is sent next time.

    The same for other effects, also for one that could not be undone: `sent` says that it stands, `unsent` that not.
    """
    row = found_run(cli, run_id)
    settled = closing.settle(cli.ledger, cli.root, row, key, answer, cli.clock.now())
    then = {"sent": "it is not sent again", "unsent": f"the next run sends it: overnight resume {row['id']}"}[answer]
    which = f" ({', '.join(settled)})" if settled else ""
    cli.emit(
        {"job": row["job"], "slot": row["slot"], "key": key, "answer": answer, "effects": settled},
        f"{row['job']}/{row['slot']}/{key}: {answer}{which}; {then}",
    )


@click.command()
@click.argument("run_id", metavar="RUN|JOB", shell_complete=job_names)
@pass_cli
def cancel(cli: Cli, run_id: str) -> None:
    """Ask RUN to end: what is in flight finishes within `drain`, the rest stays pending, and no scheduler goes on."""
    row = found_run(cli, run_id)
    said = closing.cancel(cli.ledger, cli.root, row, cli.clock.now())
    cli.emit({"run_id": row["id"], "job": row["job"], "slot": row["slot"]}, f"{said}: overnight resume {row['id']}")
