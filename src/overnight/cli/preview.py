"""`preview`: what a job would mail, as files to look at."""

import click

from overnight.batch import Picked
from overnight.cli.context import Cli, job_names, pass_cli
from overnight.cli.run import EXIT, ran
from overnight.errors import ConfigError
from overnight.ledger.items import items_of
from overnight.mail.outbox import folder_of, write_text
from overnight.runner import Request, Result
from overnight.subscribers import find

FIRST = 2  # recipients, when none is named


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--for", "for_", metavar="KEY", help="Only the mail of this item; of a subscriber, the address will do.")
@click.option("--slot", "--date", "slot", metavar="SLOT", help="Which edition: 2026-11-22, or an instant.")
@click.option("--open", "open_", is_flag=True, help="Open it in a browser.")
@pass_cli
def preview(cli: Cli, job: str, for_: str | None, slot: str | None, *, open_: bool) -> int:
    """Write what JOB would mail to the first two recipients, or to KEY, into var/rehearsal; sends nothing.

    Of each mail there is the message with all its headers (.eml), its text (.txt) and its HTML (.html).
    """
    picked = Picked(limit=FIRST) if for_ is None else Picked(only=frozenset({_key(cli, for_)}))
    result = ran(cli, Request(job, slot, kind="dry", picked=picked, rehearsal=True), yes=True)
    if not result.mails:
        cli.say(f"nothing to show: {_why_nothing(cli, result)}")
        return EXIT[result.status]
    folder = folder_of(cli.root / "var" / "rehearsal", result.job, result.slot)
    pages = []
    for message in sorted(folder.glob("*.eml")):
        files = (message.with_suffix(".html"), write_text(message), message)
        pages.append(next(file for file in files if file.exists()))
        cli.say("Look at " + "\n        ".join(str(file) for file in files if file.exists()))
    if open_:
        click.launch(str(pages[0] if len(pages) == 1 else folder / "index.html"))
    return EXIT[result.status]


def _key(cli: Cli, who: str) -> str:
    """The key of an item: a subscriber's id for an address, anything else as it is. Raises ConfigError."""
    known = find(cli.ledger, who)
    if known is not None and known.status != "active":
        raise ConfigError(f"{who} is {known.status} and gets no mail: name somebody else")
    return who if known is None else known.subscriber.id


def _why_nothing(cli: Cli, result: Result) -> str:
    if result.status != "ok":
        return f"the rehearsal ended as {result.status}"
    reasons = {row["reason"] for row in cli.ledger.reading(items_of, result.job, result.slot, ("skipped",))}
    return "; ".join(f"{reason} for that day" for reason in sorted(reasons)) or "there is nobody to mail, or no mail"
