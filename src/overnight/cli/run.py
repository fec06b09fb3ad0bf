"""`run`, `retry` and `resume`."""

import asyncio
import dataclasses
import signal
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import click
from sqlalchemy import Connection

from overnight.abandoned import taken_up
from overnight.alerts.telling import due
from overnight.batch import Picked
from overnight.budget import dollars
from overnight.cli.consent import although_paused, ask_for_test, ask_once, refuse_paused
from overnight.cli.context import Cli, echo, job_names, pass_cli
from overnight.cli.found import found_run
from overnight.cli.progress import Progress, told
from overnight.clock import iso
from overnight.closing import too_old
from overnight.errors import ConfigError, Refused
from overnight.ledger.items import Selection, items_of
from overnight.ledger.runs import find_slot, item_of, slot_of
from overnight.leftovers import left_open
from overnight.occurrences import Slot, occurrence_of
from overnight.outcome import EDITION, original
from overnight.plurals import counted
from overnight.ports import channels_of, operator_alerts
from overnight.runner import REHEARSAL, Request, Result, Workplace, current_slot, run_slot
from overnight.sweeps import Rest, left_to_do

EXIT = {"ok": 0, "partial": 3, "failed": 1, "stopped": 1, "cancelled": 1, "interrupted": 130}
AHEAD = timedelta(days=1)  # how far ahead of its time a slot may be run by hand
TROUBLE = ("failed", "retry", "unknown")


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--slot", "--date", "slot", metavar="SLOT", help="Which edition: 2026-11-22, or an instant.")
@click.option("--limit", type=click.IntRange(1), help="At most so many items; the rest stays pending.")
@click.option("--only", multiple=True, metavar="KEY", help="Only this item; may be given several times.")
@click.option("--dry-run", is_flag=True, help="In a slot of its own: mail into var/rehearsal, no model, no reports.")
@click.option("--yes", is_flag=True, help="Mail real people without asking.")
@although_paused
@click.option("--occurrence", hidden=True, help="The occurrence a scheduler has claimed.")
@click.option("--sweep", type=click.Choice(["rest", "deferred"]), hidden=True, help="What a scheduler takes up.")
@click.option("--as", "run_id", default="", hidden=True, help="The id of the run, for who has to know it before.")
@click.option("--retry-of", hidden=True, help="The run whose failed items are taken up again.")
@pass_cli
def run(
    cli: Cli,
    job: str,
    slot: str | None,
    limit: int | None,
    only: tuple[str, ...],
    occurrence: str | None,
    sweep: str | None,
    run_id: str,
    retry_of: str | None,
    *,
    dry_run: bool,
    yes: bool,
    although: bool,
) -> int:
    """Run JOB now, or go on with its slot: what is finished is not repeated.

    When no slot and no items are named, it first goes on with what is left of the job's other slots within max_age.
    """
    kinds = {None: "manual", "rest": "resume", "deferred": "sweep"}
    kind = "dry" if dry_run else kinds[sweep]
    cli.follows = occurrence is not None or sweep is not None
    if slot is not None and sweep is None:
        refuse_slip(cli, job, slot, ahead=dry_run)
    if occurrence is not None:
        row = cli.ledger.reading(occurrence_of, occurrence)
        if row is None:
            raise ConfigError(f"there is no occurrence {occurrence}")
        if row["state"] == "ran":
            raise Refused(f"{job} {row['slot']} is not to be run any more: {row['reason'] or 'somebody has'}")
        slot, kind, run_id = row["slot"], "scheduled", row["run_id"] or ""
    elif not dry_run:
        refuse_paused(cli, job, although=although)
    if retry_of is not None:
        kind = "retry"
    which: Selection = "again" if retry_of is not None else "deferred" if sweep == "deferred" else "due"
    picked = Picked(which, only=frozenset(only), limit=limit)
    request = Request(job, slot, kind, picked, run_id, retry_of, rehearsal=dry_run)
    if kind == "manual" and slot is None and not (only or limit) and not _go_on(cli, job, yes=yes):
        return EXIT["interrupted"]
    named = slot is not None and kind == "manual" and not run_id  # by a person: the page names the slot of now
    old = _too_old(cli, job, str(slot)) if named else ""
    return run_and_tell(cli, request, yes=yes, old=old)


def _go_on(cli: Cli, job: str, *, yes: bool) -> bool:
    """First go on with what is left of JOB's other slots, as a scheduler would; False when we are asked to end."""
    now = cli.clock.now()
    own = current_slot(cli.schedule.job(job), now)
    if not cli.ledger.reading(_anything_left, job, own, now):
        return True
    for rest in asyncio.run(_left(cli.workplace, (job, own))):
        kind, which = _SWEEPS[rest.what]
        echo(f"{job} {rest.slot}: first what is left of it ({rest.what})", err=True)
        try:
            result, summary = _performed(cli, Request(job, rest.slot, kind, Picked(which)), yes=yes)
        except Refused as error:  # somebody else has taken it up
            echo(f"{job} {rest.slot}: {error}", err=True)
            continue
        echo(summary, err=True)
        if result.status == "interrupted":
            return False
    return True


_SWEEPS: dict[str, tuple[str, Selection]] = {"rest": ("resume", "due"), "deferred": ("sweep", "deferred")}


def _anything_left(connection: Connection, job: str, own: str, now: datetime) -> bool:
    """Whether there may be something to do, or to tell, about slots other than our own."""
    held, stopped, deferred = left_open(connection, now)
    slots = {(row["job"], row["slot"]) for row in held}.union(stopped, deferred)
    return any(of[0] == job and of[1] != own for of in slots) or bool(taken_up(connection, now))


async def _left(work: Workplace, own: Slot) -> list[Rest]:
    now = work.clock.now()
    found = await left_to_do(work, now, {own}, own[0])
    if await due(work.ledger, work.clock, channels_of(work.schedule)):  # before our own run says what is over
        async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
            await alerter.tell()
    return found


@click.command()
@click.argument("run_id", metavar="RUN|JOB", shell_complete=job_names)
@click.option("--only", multiple=True, metavar="KEY", help="Only this item; may be given several times.")
@click.option("--yes", is_flag=True, help="Mail real people without asking.")
@although_paused
@pass_cli
def retry(cli: Cli, run_id: str, only: tuple[str, ...], *, yes: bool, although: bool) -> int:
    """Run the items of RUN's slot that failed, are deferred or were not started; nothing that is done."""
    return _again(cli, run_id, "retry", Picked("again", only=frozenset(only)), yes=yes, although=although)


@click.command()
@click.argument("run_id", metavar="RUN|JOB", shell_complete=job_names)
@click.option("--yes", is_flag=True, help="Mail real people without asking.")
@although_paused
@pass_cli
def resume(cli: Cli, run_id: str, *, yes: bool, although: bool) -> int:
    """Continue RUN's slot: items that were not started, and deferred ones whose time has come."""
    return _again(cli, run_id, "resume", Picked(), yes=yes, although=although)


def refuse_slip(cli: Cli, job: str, slot: str, *, ahead: bool) -> None:
    """Refuse a slot that looks mistyped: it would be run, and mailed, like any other. Raises ConfigError."""
    if REHEARSAL in slot:
        raise ConfigError(f"{job}: --slot {slot} is a rehearsal's: say --dry-run, or retry it by the id of its run")
    if EDITION in slot and cli.ledger.reading(find_slot, job, slot) is None:
        raise ConfigError(f"{job}: there is no edition {slot}; a new one is made by: overnight redo {job} --slot SLOT")
    try:
        due = cli.schedule.job(job).trigger().scheduled_for(original(slot))
    except ValueError:
        return  # told where the slot is parsed
    if not ahead and due > cli.clock.now() + AHEAD:
        raise ConfigError(f"{job}: --slot {slot} is not due before {iso(due)}; is that the date meant? See --dry-run")


def _too_old(cli: Cli, job: str, slot: str) -> str:
    """That no scheduler would run this slot any more, in words; empty while one would."""
    settings = cli.schedule.job(job)
    try:
        due = settings.trigger().scheduled_for(original(slot))
    except ValueError:
        return ""  # told where the slot is parsed
    return too_old(f"{job} {slot}", due, settings.max_age, cli.clock.now())


def _again(cli: Cli, name: str, kind: str, picked: Picked, *, yes: bool, although: bool) -> int:
    row = found_run(cli, name)
    rehearsal = REHEARSAL in row["slot"]
    if not rehearsal:
        refuse_paused(cli, row["job"], although=although)
    request = Request(row["job"], row["slot"], kind=kind, picked=picked, retry_of=row["id"], rehearsal=rehearsal)
    return run_and_tell(cli, request, yes=yes, old=_too_old(cli, row["job"], row["slot"]))


def run_and_tell(cli: Cli, request: Request, *, yes: bool, old: str = "") -> int:
    """Run it and tell, and ask first when people would get `old` mail; returns the exit code."""
    return EXIT[ran(cli, request, yes=yes, old=old).status]


def ran(cli: Cli, request: Request, *, yes: bool, old: str = "") -> Result:
    """Run it and tell; `old` says why its mail may be stale.

    Raises ConfigError when a key of `--only` is none of the slot's items.
    """
    began = cli.clock.now()
    result, summary = _performed(cli, request, yes=yes, old=old)
    missing = [key for key in request.picked.only if cli.ledger.reading(item_of, result.job, result.slot, key) is None]
    if missing and result.status in ("ok", "partial", "failed"):  # else the plan may not be complete
        if result.items["total"]:
            echo(summary, err=True)
        keys = ", ".join(sorted(missing))
        raise ConfigError(f"{result.job} {result.slot} has no item {keys}: overnight show {result.run_id} --all")
    cli.emit(_document(cli, result), summary + _frozen(cli, result, began))
    return result


def heed_interrupts() -> None:
    """Let SIGINT end us also in a shell's background, where it is ignored: `cancel` and `overlap: replace` send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _performed(cli: Cli, request: Request, *, yes: bool, old: str = "") -> tuple[Result, str]:
    """Run it; what it came to, and that in words."""
    progress = Progress(quiet=cli.quiet)
    wired = dataclasses.replace(
        request,
        confirm=lambda place: _asked(cli, request, place, old, yes=yes),
        on_total=progress.total,
        on_outcome=progress.outcome,
    )
    heed_interrupts()
    progress.start(f"{request.job} {request.slot or ''}")  # before the logs, which are then printed above the bar
    try:
        result = asyncio.run(run_slot(cli.workplace, wired))
    finally:
        progress.end()
    return result, _summary(result, progress.reasons)


def _frozen(cli: Cli, result: Result, began: datetime) -> str:
    """That newer items are for another slot, where there was nothing to do: who has just added some looks for them."""
    planned = cli.ledger.reading(slot_of, result.job, result.slot)["planned_at"]
    if result.items["total"] or result.status != "ok" or planned is None or planned >= began:
        return ""
    if cli.ledger.reading(item_of, result.job, result.slot, result.slot) is not None:
        return ""  # a job without `items=`: its one item is the slot
    at = cli.schedule.job(result.job).trigger().local(planned)
    another = f"overnight run {result.job} --slot SLOT"
    return f"\n  the items of this slot were read on {at:%Y-%m-%d at %H:%M %Z}; newer ones are for another: {another}"


def _asked(cli: Cli, request: Request, place: str, old: str, *, yes: bool) -> None:
    """Ask before people get mail. A scheduler's run asks nobody: its first mail is refused until somebody confirmed."""
    if request.to:
        ask_for_test(cli, place, request.to, yes=yes)
    elif not cli.follows:
        ask_once(cli, place, old, yes=yes)


def _document(cli: Cli, result: Result) -> dict[str, Any]:
    troubled = cli.ledger.reading(items_of, result.job, result.slot, TROUBLE)
    names = ("key", "error_class", "error_code")
    errors = [{n: row[n] for n in names} | {"message": row["error"] or row["reason"]} for row in troubled[:100]]
    return {
        "run_id": result.run_id,
        "job": result.job,
        "slot": result.slot,
        "status": result.status,
        "reason": result.reason,
        "items": result.items,
        "cost_usd": dollars(result.cost_nano).removeprefix("$"),
        "duration_s": result.duration_s,
        "errors": errors,
        "reports": list(result.reports),
    }


def _summary(result: Result, reasons: Mapping[str, int]) -> str:
    took = f"in {result.duration_s:.1f} s, {dollars(result.cost_nano)}"
    done = told(result.items, "nothing to do" if result.status == "ok" else "nothing was done")
    lines = [f"{result.job} {result.slot}  {result.status}: {done}  {took}   ({result.run_id})"]
    if result.reason:
        lines.append(f"  stopped because {result.reason}")
    lines.extend(f"  skipped: {reason} ({n})" for reason, n in reasons.items())
    left = {state: n for state, n in result.slot_items.items() if n and state in ("pending", *TROUBLE)}
    if left:
        words = ", ".join(f"{n} {state}" for state, n in left.items())
        again = "" if REHEARSAL in result.slot else f" · overnight retry {result.run_id}"
        lines.append(f"  the slot still has {words}: overnight show {result.run_id}{again}")
        if REHEARSAL in result.slot and left.get("retry"):
            lines.append("  nobody comes back to what a rehearsal has deferred: rehearse once more")
    if result.fallbacks:
        lines.append(f"  answers that came from a fallback, not from the model: {result.fallbacks}")
    if result.mails:
        lines.append(f"  {counted(result.mails, 'mail')} through {result.place}")
    lines.extend(f"  reports: {place}" for place in result.reports)
    return "\n".join(lines)
