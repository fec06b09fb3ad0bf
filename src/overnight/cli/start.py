"""`init`, `demo` and `fake-model`."""

import asyncio
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import click

from overnight.cli.context import Cli, pass_cli

PATHS = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=PATHS, metavar="DIR")
@pass_cli
def init(cli: Cli, folder: Path) -> None:
    """Write a new project into DIR: schedule.yaml, jobs, templates, a test, sample content."""
    from overnight.scaffold import write_project  # noqa: PLC0415

    written = write_project(folder)
    steps = f"""{folder}: {len(written)} files. Next:
  cd {folder}
  overnight run hello                                       the smallest job
  overnight subscribers import content/subscribers.csv      who gets the mail (a sample, with one bad line)
  overnight run daily_email --date 2026-11-22               the sample's digest, into var/outbox
  overnight next                                            what runs when; edit schedule.yaml
  pytest                                                    the tests of its jobs, after `pip install pytest`"""
    cli.emit({"folder": str(folder), "files": [str(path.relative_to(folder)) for path in written]}, steps)


@click.command()
@click.argument("folder", type=PATHS, metavar="[DIR]", default=Path("overnight-demo"))
@pass_cli
def demo(cli: Cli, folder: Path) -> None:
    """Run the three jobs in DIR (default ./overnight-demo) on sham subscribers and a sham model."""
    from overnight.budget import dollars  # noqa: PLC0415
    from overnight.demo import SLOT, prepare, show  # noqa: PLC0415

    prepare(folder)
    cli.say(f"A night of {SLOT}, on this machine alone: no account, no key, no mail leaves it.\n")
    shown = asyncio.run(show(folder.absolute(), cli.say))
    runs = {result.job: result.run_id for result in shown.results}
    command = "overnight" if shutil.which("overnight") else os.path.relpath(sys.argv[0])
    text = f"""
{shown.mails} mails were written, and {dollars(shown.billed_nano)} would have been billed. One address bounced and gets
no more mail, one task was refused by the model; everything else went on, and both are named:

  {command} --config {folder} show {runs["daily_email"]}
  {command} --config {folder} subscribers list --status suppressed
  {command} --config {folder} show {runs["nightly_agents"]}
  {command} --config {folder} roles                      who may do what

Look at:
  {folder}/var/outbox/index.html                 the mails
  {folder}/var/reports/latest/                   the reports: cost, success rate, runs, items, errors
  {folder}/var/log/overnight.jsonl               the log, a line for each task
  {folder}/schedule.yaml                         what runs when; yours begins with `{command} init DIR`"""
    document = {"folder": str(folder), "mails": shown.mails, "runs": [result.run_id for result in shown.results]}
    cli.emit(document, text)


@click.command("fake-model")
@click.option("--port", default=8651, show_default=True, type=click.IntRange(0, 65535))
@click.option("--faults", type=PATHS, help="A YAML or JSON list of faults.")
@click.option("--bill", type=PATHS, help="Keep the bill in this file, a line for each event.")
@pass_cli
def fake_model(cli: Cli, port: int, faults: Path | None, bill: Path | None) -> None:  # noqa: ARG001
    """Serve the Messages API on this machine; set ANTHROPIC_BASE_URL to the address it prints."""
    from overnight.fake_model import run_forever  # noqa: PLC0415

    run_forever(port, faults, partial(print, flush=True), bill_file=bill)
