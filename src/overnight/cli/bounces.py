"""`overnight bounces`: mail that came back, and mail of people who leave."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from overnight import plurals
from overnight.cli.context import Cli, pass_cli

if TYPE_CHECKING:
    from overnight.alerts import Alarm

_SAID = {
    "hard": "no such mailbox",
    "soft": "mailbox refuses for now",
    "delayed": "only delayed",
    "policy": "our mail as such is refused: check SPF, DKIM, DMARC and the relay",
    "content": "that mail was refused, not the mailbox",
    "left": "unsubscribed",
    "complained": "called it spam: unsubscribed",
    "again": "counted before",
    "unclear": "not understood",
}


@click.command()
@click.argument("path", metavar="PATH|-")
@pass_cli
def bounces(cli: Cli, path: str) -> None:
    """Read returned mail from a maildir, an mbox, or stdin (-): who cannot be reached is not mailed any more.

    Mails that unsubscribe are understood as well, and so are complaints of spam, which mailbox providers pass on. Each
    mail counts once, and none is deleted: what is not understood is put aside. One alert says that our mail as such is
    refused, and one that it is over.
    """
    from overnight.bounces import Reader, count, opened  # noqa: PLC0415
    from overnight.mail.message import configured  # noqa: PLC0415
    from overnight.ports import secret_of  # noqa: PLC0415

    place = opened(path, sys.stdin.buffer, cli.root / "var" / "bounces")
    settings = cli.schedule.mail
    domain = configured("from", settings.sender).domain
    back_to = configured("bounces_to", settings.bounces_to).address if settings.bounces_to else ""
    reader = Reader(secret_of(cli.root, cli.schedule.environ), back_to, domain)
    counted = count(cli.ledger, cli.clock, reader, place)
    total = counted.kinds.total()
    lines = [f"{plurals.counted(total, 'mail')} read"]
    lines += [f"  {counted.kinds[kind]:>6}  {said}" for kind, said in _SAID.items() if counted.kinds[kind]]
    if counted.suppressed:
        lines.append(f"{len(counted.suppressed)} suppressed: overnight subscribers list")
    if counted.kinds["unclear"]:
        lines.append(f"what was not understood is in {place.aside}")
    kinds = {kind: counted.kinds[kind] for kind in _SAID}
    document = {"read": total, **kinds, "suppressed": counted.suppressed, "left_ids": counted.left}
    cli.emit(document, "\n".join(lines))
    if counted.alarm:
        asyncio.run(_tell(cli, counted.alarm))


async def _tell(cli: Cli, alarm: "Alarm") -> None:
    from overnight.ports import operator_alerts  # noqa: PLC0415

    async with operator_alerts(cli.root, cli.schedule, cli.ledger, cli.clock) as alerter:
        await alerter.raise_all([alarm])
