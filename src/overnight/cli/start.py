"""`init`, `demo`, `doctor` and `fake-model`."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from overnight.storage import Store

from overnight.cli.context import Cli, pass_cli
from overnight.errors import ConfigError, OvernightError

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
  overnight subscribers import content/subscribers.csv      who gets the mail (this is a sample)
  overnight run daily_email --date 2026-11-22               the sample's digest, into var/outbox
  overnight next                                            what runs when; edit schedule.yaml"""
    cli.emit({"folder": str(folder), "files": [str(path.relative_to(folder)) for path in written]}, steps)


@click.command()
@click.argument("folder", type=PATHS, metavar="DIR", default=Path("overnight-demo"))
@pass_cli
def demo(cli: Cli, folder: Path) -> None:
    """Run the three jobs in DIR (default ./overnight-demo) on sham subscribers and a sham model."""
    from overnight.budget import dollars  # noqa: PLC0415
    from overnight.demo import SLOT, prepare, show  # noqa: PLC0415

    prepare(folder)
    cli.say(f"A night of {SLOT}, on this machine alone: no account, no key, no mail leaves it.\n")
    shown = asyncio.run(show(folder.absolute(), cli.say))
    sent = next(result for result in shown.results if result.job == "daily_email")
    command = "overnight" if shutil.which("overnight") else os.path.relpath(sys.argv[0])
    text = f"""
{shown.mails} mails were written, and {dollars(shown.billed_nano)} would have been billed. One address bounced and one
task was refused by the model; everything else went on, and both are named, kept and ready for a retry:

  {command} --config {folder} show {sent.run_id}
  {command} --config {folder} retry {sent.run_id}

Look at:
  {folder}/var/outbox/index.html                 the mails
  {folder}/var/reports/latest/                   the reports: cost, success rate, runs, errors
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


@click.command()
@pass_cli
def doctor(cli: Cli) -> int:
    """Check this machine and this project; each line says what to do."""
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        "schedule.yaml": lambda: f"{len(cli.schedule.jobs)} jobs in {cli.path}",
        "ledger": lambda: f"opened {cli.ledger.engine.url.render_as_string(hide_password=True)}",
        "jobs": partial(_jobs, cli),
        "disk": partial(_disk, cli),
        "mail": partial(_mail, cli),
        "reports": partial(_reports, cli),
        "model": partial(_model, cli),
        "breakers": partial(_breakers, cli),
    }
    rows = [(name, *_checked(check)) for name, check in checks.items()]
    lines = [f"{'ok  ' if good else 'FAIL'}  {name:<14} {text}" for name, good, text in rows]
    cli.emit([{"check": name, "ok": good, "message": text} for name, good, text in rows], "\n".join(lines))
    return 0 if all(good for _, good, _ in rows) else 1


def _checked(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except (OvernightError, OSError) as error:
        return False, Cli.latest_redactor().text(str(error))


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _jobs(cli: Cli) -> str:
    from overnight import project  # noqa: PLC0415

    project.attach(cli.root)
    for name, settings in cli.schedule.jobs.items():
        project.load_job(name, settings.target).codec()
    return "all can be imported"


def _disk(cli: Cli) -> str:
    free = shutil.disk_usage(cli.root).free // 1024**2
    if free < 200:
        raise OSError(f"only {free} MB free below {cli.root}: the ledger stops runs when it cannot write")
    return f"{free} MB free"


def _mail(cli: Cli) -> str:
    from urllib.parse import urlsplit  # noqa: PLC0415

    transport = cli.schedule.mail.transport
    if transport.startswith("outbox:"):
        return f"{transport}: nothing is mailed; set MAIL_URL to a relay to send for real"
    url = urlsplit(transport)
    port = url.port or (465 if url.scheme == "smtps" else 587)
    try:
        socket.create_connection((url.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise OSError(f"{url.hostname}:{port} cannot be reached ({error}); check MAIL_URL and the firewall") from error
    return f"{url.hostname}:{port} answers"


def _reports(cli: Cli) -> str:
    from overnight.dependency import Dependencies  # noqa: PLC0415
    from overnight.storage import open_store, waiting  # noqa: PLC0415

    # Asked whatever the runs have met: who calls the doctor wants to know how it is now.
    store = open_store(cli.schedule.reports.to, cli.root, cli.schedule.environ, Dependencies({}, cli.clock))
    echo, traits = asyncio.run(_echo(store))
    if echo != b"ok\n":
        raise OSError(f"{store.describe()} did not give back what was written")
    waits = waiting(cli.root / cli.schedule.reports.spool)
    left = [f"{len(waits)} publications wait in {cli.schedule.reports.spool}"] if waits else []
    return ", ".join([f"{store.describe()} can be written and read", *traits, *left])


def _breakers(cli: Cli) -> str:
    from overnight.ledger.flow import held  # noqa: PLC0415

    found = cli.ledger.reading(held, cli.clock.now())
    told = ", ".join(map(str, found))
    if any(one.down for one in found):
        raise OSError(f"{told}: too many requests have failed; runs ask again by themselves then")
    return told or "none is open"


async def _echo(store: "Store") -> "tuple[bytes | None, Sequence[str]]":
    await store.put(".overnight-doctor", b"ok\n")
    return await store.get(".overnight-doctor"), await store.traits()


def _model(cli: Cli) -> str:
    if not cli.schedule.environ.get("ANTHROPIC_API_KEY"):
        return "no ANTHROPIC_API_KEY: questions go to their fallback, or fail; put the key into .env"
    return asyncio.run(_listed(cli))


async def _listed(cli: Cli) -> str:
    """Ask the API what it knows of the models of the roles, which costs nothing."""
    from overnight.catalogue import models_of, refused, retiring  # noqa: PLC0415
    from overnight.model import Model  # noqa: PLC0415

    model = Model.open(cli.schedule.environ, clock=cli.clock, deadline=10)
    try:
        listed = {name: await model.listed(name) for name in models_of(cli.schedule)}
    finally:
        await model.close()
    if wrong := list(refused(cli.schedule, listed)):
        raise ConfigError("; ".join(wrong))
    soon = retiring(cli.schedule, listed, cli.clock.now().date())
    return "; ".join([f"the API takes the key and knows all {len(listed)} models of the roles", *soon])
