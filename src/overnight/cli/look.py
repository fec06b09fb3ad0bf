"""`runs` and `show`: what happened."""

from typing import Any, get_args
from zoneinfo import ZoneInfo

import click

from overnight.budget import dollars
from overnight.cli.context import Cli, job_names, one_line, pass_cli
from overnight.cli.found import found_run, has_died
from overnight.cli.progress import told, with_code
from overnight.clock import iso
from overnight.errors import ConfigError
from overnight.ledger.calls import calls_of, replies_of, shared_calls_of
from overnight.ledger.items import items_of
from overnight.ledger.runs import effects_of, item_of, recent_runs, slot_of
from overnight.ledger.toolcalls import tool_calls_of
from overnight.leftovers import undone
from overnight.outcome import RunStatus
from overnight.wire import words

MOST = 50  # finished items listed without --all; troubled ones are always listed


@click.command()
@click.option("--job", shell_complete=job_names, help="Only this job's.")
@click.option("--status", type=click.Choice(get_args(RunStatus)), help="Only with this status.")
@click.option("-n", "limit", default=20, show_default=True, type=click.IntRange(1))
@pass_cli
def runs(cli: Cli, job: str | None, status: str | None, limit: int) -> None:
    """The newest runs."""
    rows = cli.ledger.reading(lambda connection: recent_runs(connection, job=job, status=status, limit=limit))
    died = {row["id"] for row in rows if has_died(cli, row)}
    lines = [f"{'RUN':<25}{'STARTED':<18}{'JOB':<18}{'SLOT':<19}{'KIND':<10}{'STATUS':<13}{'TOOK':>8}  ITEMS"]
    lines += [_line(row, cli.schedule.timezone, died=row["id"] in died) for row in rows]
    lines += [_hint(run_id) for run_id in sorted(died)]
    left = {row["id"]: n for row in rows if (n := cli.ledger.reading(undone, row))}
    lines += [_left_line(row, left[row["id"]]) for row in rows if row["id"] in left]
    none = "no such run" if job or status else "no runs yet: overnight run JOB"
    more = {id_: {"alive": False} for id_ in died} | {id_: {"undone": n} for id_, n in left.items()}
    document = [_plain(row) | more.get(row["id"], {}) for row in rows]
    cli.emit(document, "\n".join(lines) if rows else none)


@click.command()
@click.argument("run_id", metavar="RUN|JOB", shell_complete=job_names)
@click.argument("key", required=False)
@click.option("--all", "all_", is_flag=True, help="Also list every finished item.")
@pass_cli
def show(cli: Cli, run_id: str, key: str | None, *, all_: bool) -> None:
    """A RUN (or the latest of a JOB) with the items of its slot, or one item with everything known of it."""
    run = found_run(cli, run_id)
    if key is not None:
        _show_item(cli, run, key)
        return
    slot = cli.ledger.reading(slot_of, run["job"], run["slot"])
    items = cli.ledger.reading(items_of, run["job"], run["slot"])
    effects = cli.ledger.reading(effects_of, run["job"], run["slot"], ("unknown", "intent"))
    shared = cli.ledger.reading(shared_calls_of, run["job"], run["slot"])
    died = has_died(cli, run)
    status = "died" if died else run["status"]
    lines = [
        f"{run['id']}  {run['job']} {run['slot']}  {run['kind']}  {status}  {dollars(run['cost_nano'])}",
        f"  started {iso(run['started_at'])}, ended {_text(run['ended_at'] or '—')} on {run['worker_id']}",
        f"  this run: {told(run, 'nothing')}",
        f"  the slot: {told(slot, 'no items')}",
    ]
    if died:
        lines.append(_hint(run["id"]))
    if run["reason"]:
        lines.append(f"  reason: {run['reason']}")
    troubled = [row for row in items if row["state"] not in ("ok", "skipped")]
    fine = [row for row in items if row["state"] in ("ok", "skipped")]
    shown = troubled + (fine if all_ else fine[:MOST])
    lines += [f"{_call_line(call)}  for {call['key']}" for call in shared]
    lines += [_item_line(row) for row in shown]
    if len(shown) < len(items):
        lines.append(f"  … and {len(items) - len(shown)} more: --all")
    lines += [f"  UNKNOWN  {e['key']}  {e['name']} {e['ref']}: may have been sent" for e in effects]
    stuck = cli.ledger.reading(effects_of, run["job"], run["slot"], ("undoing", "stuck"))
    lines += [f"  STUCK    {e['key']}  {e['name']} {e['detail']}: could not be undone" for e in stuck]
    if stuck:
        lines.append(f"  undo them by hand, then: overnight settle {run['id']} KEY unsent")
    if slot["unknown"] or any(e["state"] == "unknown" for e in effects):
        lines.append(f"  look them up in the relay's log, then: overnight settle {run['id']} KEY sent|unsent")
    told_run = _plain(run) | ({"alive": False} if died else {})
    document = {"run": told_run, "slot": _plain(slot), "items": [_plain(row) for row in items]}
    document |= {"shared_calls": [_plain(c) for c in shared], "unknown_effects": [_plain(e) for e in effects]}
    document["stuck_effects"] = [_plain(e) for e in stuck]
    cli.emit(document, "\n".join(lines))


def _show_item(cli: Cli, run: Any, key: str) -> None:
    item = cli.ledger.reading(item_of, run["job"], run["slot"], key)
    if item is None:
        raise ConfigError(f"{run['job']} {run['slot']} has no item {key!r}; `overnight show {run['id']}` lists them")
    calls = cli.ledger.reading(calls_of, run["job"], run["slot"], key)
    replies = cli.ledger.reading(replies_of, run["job"], run["slot"], key)
    said = {c["id"]: words(replies[c["id"]], c["stop_reason"] or "") for c in calls if c["id"] in replies}
    talked = cli.ledger.reading(tool_calls_of, run["job"], run["slot"], key)
    effects = cli.ledger.reading(lambda connection: effects_of(connection, run["job"], run["slot"], key=key))
    names = ("state", "reason", "error_class", "error_code", "error", "attempts", "next_at", "expires_at", "result")
    lines = [f"{run['job']}/{run['slot']}/{key}"]
    lines += [f"  {name + ':':<13}{_text(item[name])}" for name in names if item[name] not in (None, "", 0)]
    lines.append(f"  {'cost:':<13}{dollars(item['cost_nano'])}")
    story = [(call["started_at"], _call_line(call) + _said_line(said.get(call["id"]))) for call in calls]
    story += [(call["at"], _tool_line(call)) for call in talked]
    lines += [line for _, line in sorted(story, key=lambda each: each[0])]
    lines += [f"  {e['kind']}  {e['name']} {e['state']}  {e['ref']}  {one_line(e['detail']):.200}" for e in effects]
    document = {"item": _plain(item), "effects": [_plain(e) for e in effects]}
    document["calls"] = [_plain(c) | {"said": said.get(c["id"])} for c in calls]
    document["tools"] = [_plain(call) for call in talked]
    clean = cli.redactor
    cli.emit(clean.value(document), clean.text("\n".join(lines)))


def _tool_line(call: Any) -> str:
    said, given = (one_line(call[name]) for name in ("result", "arguments"))
    return f"  tool  {call['tool']} {call['verdict']}  {given:.200}\n          {said:.200}"


def _said_line(said: str | None) -> str:
    return f"\n          {one_line(said):.400}" if said else ""


def _call_line(call: Any) -> str:
    return (
        f"  call  {call['role']} {call['model']} {call['status']}  {call['input_tokens']} in, {call['output_tokens']} "
        f"out, {dollars(call['cost_nano'])}, {call['duration_ms']} ms  {call['request_id'] or ''}"
    )


def _hint(run_id: str) -> str:
    return f"  the process of {run_id} is gone; to go on with its slot: overnight resume {run_id}"


def _left_line(row: Any, n: int) -> str:
    return f"  {row['job']} {row['slot']}: nobody takes up by himself what is left ({n}): overnight resume {row['id']}"


def _line(row: Any, zone: ZoneInfo, *, died: bool) -> str:
    started, status = row["started_at"].astimezone(zone), "died" if died else row["status"]
    took = f"{(row['ended_at'] - row['started_at']).total_seconds():.1f} s" if row["ended_at"] else "—"
    return (
        f"{row['id']:<25}{started:%Y-%m-%d %H:%M}  {row['job']:<18}{row['slot']:<19}{row['kind']:<10}"
        f"{status:<13}{took:>8}  "
        f"{told(row, 'nothing')}, {dollars(row['cost_nano'])}"
    )


def _item_line(row: dict[str, Any]) -> str:
    what = row["error"] or row["reason"] or (row["result"] or "")[:100]
    when = f" (again {row['next_at']:%H:%M}Z)" if row["next_at"] and row["state"] == "retry" else ""
    return f"  {row['state']:<8} {row['key']}  {with_code(row['error_code'], what)}{when}"


def _plain(row: Any) -> dict[str, Any]:
    return {name: _text(value) if hasattr(value, "isoformat") else value for name, value in dict(row).items()}


def _text(value: Any) -> str:
    return iso(value) if hasattr(value, "isoformat") else str(value)
