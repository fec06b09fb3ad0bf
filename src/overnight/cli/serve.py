"""`serve` and `tick`."""

import asyncio
from collections.abc import Sequence

import click

from overnight.cli.consent import ask_if_possible
from overnight.cli.context import Cli, pass_cli
from overnight.plurals import counted
from overnight.service import require_loopback
from overnight.service import serve as serve_forever
from overnight.service import tick as look_once

WORST_FIRST = (1, 130, 4, 3, 0)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8650, show_default=True, type=click.IntRange(0, 65535))
@click.option("--yes", is_flag=True, help="Mail people through a relay that nobody has confirmed yet.")
@pass_cli
def serve(cli: Cli, host: str, port: int, *, yes: bool) -> None:
    """Run what is due, each run in a process of its own, until SIGTERM; its address shows a page for operators."""
    from overnight.catalogue import unpriced  # noqa: PLC0415
    from overnight.ports import tell_ending  # noqa: PLC0415
    from overnight.schedule import refuse  # noqa: PLC0415
    from overnight.storage.address import half_a_pair  # noqa: PLC0415

    require_loopback(host, cli.schedule.environ)  # before anything is said
    findings = [*unpriced(cli.schedule, cli.clock.now()), *half_a_pair(cli.schedule.reports.to, cli.schedule.environ)]
    refuse(cli.path, findings, cli.schedule.secrets)
    work = cli.workplace
    ask_if_possible(cli, yes=yes)
    tell_ending(cli.schedule, cli.clock)
    jobs = counted(len(cli.schedule.jobs), "job")
    cli.say(f"serving {jobs} of {cli.path}; stop with Ctrl-C")  # the log tells the address
    asyncio.run(serve_forever(work, host, port, cli.start_logs))


@click.command()
@click.option("--yes", is_flag=True, help="Mail people through a relay that nobody has confirmed yet.")
@pass_cli
def tick(cli: Cli, *, yes: bool) -> int:
    """Run what is due, what was left and what is spooled, once; for cron or a systemd timer."""
    ask_if_possible(cli, yes=yes)
    codes = asyncio.run(look_once(cli.workplace))
    cli.emit({"runs": len(codes), "exit_codes": codes}, counted(len(codes), "run") if codes else "nothing was due")
    return worst(codes)


def worst(codes: Sequence[int]) -> int:
    """The exit code of several runs: failed, interrupted, refused, partial, ok. A killed one (negative) has failed."""
    plain = {code if code in WORST_FIRST else 1 for code in codes}
    return next((code for code in WORST_FIRST if code in plain), 0)
