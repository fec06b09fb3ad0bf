"""`serve` and `tick`."""

import asyncio

import click

from overnight.cli.context import Cli, pass_cli
from overnight.service import serve as serve_forever
from overnight.service import tick as look_once


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8650, show_default=True, type=click.IntRange(0, 65535))
@pass_cli
def serve(cli: Cli, host: str, port: int) -> None:
    """Run what is due, each run in a process of its own, until SIGTERM; `/api/health` tells how it is."""
    work = cli.workplace
    cli.say(f"serving {len(cli.schedule.jobs)} jobs of {cli.path}; http://{host}:{port}/api/health; stop with Ctrl-C")
    asyncio.run(serve_forever(work, host, port))


@click.command()
@pass_cli
def tick(cli: Cli) -> int:
    """Run what is due, what was left and what is spooled, once; for cron or a systemd timer."""
    codes = asyncio.run(look_once(cli.workplace))
    worst = max((code for code in codes if code), default=0) if set(codes) - {0} else 0
    cli.emit({"runs": len(codes), "exit_codes": codes}, f"{len(codes)} runs" if codes else "nothing was due")
    return worst
