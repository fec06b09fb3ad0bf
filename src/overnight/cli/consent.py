"""Asking before people get mail, and refusing what somebody has paused."""

import sys

import click

from overnight.cli.context import Cli, echo
from overnight.errors import Refused
from overnight.ledger.runs import paused
from overnight.mail.consent import is_confirmed, keep

although_paused = click.option("--although-paused", "although", is_flag=True, help="Also while the job is paused.")


def refuse_paused(cli: Cli, job: str, *, although: bool) -> None:
    """Refuse to run by hand, or by cron, what somebody has paused: whoever did had a reason. Raises Refused."""
    reason = cli.ledger.reading(paused, job)
    if reason is not None and not although:
        ways = f"overnight resume-job {job} ends that, --although-paused runs it this once"
        raise Refused(f"{job} is paused: {reason}; {ways}")


def ask_once(cli: Cli, place: str, old: str = "", *, yes: bool) -> None:
    """Ask once per relay before people get mail, and each time before they get `old` mail. Raises Refused."""
    known = cli.ledger.reading(is_confirmed, place)
    if old and not yes:
        ask(f"{old}; this would mail it to people now, through {place}", place)
    elif not known and not yes:
        ask(f"this would mail people through {place} for the first time", place)
    if not known:
        cli.ledger.writing(lambda connection: keep(connection, place, cli.clock.now()))


def ask_if_possible(cli: Cli, *, yes: bool) -> None:
    """Ask at the start of a scheduler; where nobody can answer, its first mail to people stops the run instead."""
    from overnight.ports import mailer_of  # noqa: PLC0415  only schedulers ask here

    post = mailer_of(cli.root, cli.schedule, cli.ledger, cli.clock)
    if post.real and (yes or sys.stdin.isatty()):
        ask_once(cli, post.place, yes=yes)
    elif post.real and not cli.ledger.reading(is_confirmed, post.place):
        echo(f"nobody is mailed through {post.place} before that is confirmed: say --yes once", err=True)


def ask_for_test(cli: Cli, place: str, to: tuple[str, ...], *, yes: bool) -> None:
    """Ask before a test goes through a relay that nobody has confirmed; it confirms nothing. Raises Refused."""
    if not yes and not cli.ledger.reading(is_confirmed, place):
        ask(f"this would send a test through {place} to {', '.join(to)}", place)


def ask(what: str, place: str) -> None:
    """Ask a person whether that is meant. Raises Refused when it is not, or nobody is there to say so."""
    if not sys.stdin.isatty():
        raise Refused(f"{what}; say --yes if that is meant")
    if not click.confirm(f"{what}. Go on?", err=True):
        raise Refused(f"not confirmed: nothing was sent through {place}")
