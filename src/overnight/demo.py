"""A night in a minute: the three jobs of a new project, on a model that is none, with nothing leaving this machine."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from overnight import logs, scaffold
from overnight.budget import dollars
from overnight.clock import SystemClock
from overnight.errors import ConfigError
from overnight.fake_model import serve
from overnight.ledger import Ledger
from overnight.redact import Redactor
from overnight.runner import Request, Result, Workplace, run_slot
from overnight.schedule import Schedule, load
from overnight.subscribers import import_csv

SLOT = "2026-11-22"  # the day for which the stories of the demo were written
JOBS = ("nightly_agents", "daily_email", "metrics_digest")
BOUNCING = "bounce@example.net"
FAULTS = ({"match": {"contains": "unanswerable"}, "fault": {"kind": "refusal"}},)
MARKER = ".overnight-demo"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo has made."""

    folder: Path
    results: tuple[Result, ...]
    mails: int
    billed_nano: int


def prepare(folder: Path) -> None:
    """Write a fresh demo project. Raises ConfigError rather than touch a folder that is none."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise ConfigError(f"{folder} is there and was not made by a demo: name another folder")
        shutil.rmtree(folder)
    scaffold.write_project(folder)
    (folder / MARKER).touch()
    outbox = folder / "var" / "outbox"
    outbox.mkdir(parents=True)
    (outbox / ".bounces").write_text(f"{BOUNCING}\n", encoding="utf-8")


async def show(folder: Path, say: Say) -> Shown:
    """Run the three jobs in the demo project, against a fake model of its own."""
    async with serve(faults=FAULTS) as model:
        schedule = load(folder / "schedule.yaml", _environment(model.url))
        ledger = Ledger.open(schedule.ledger, root=folder)
        try:
            work = _workplace(folder, schedule, ledger)
            _subscribe(work, say)
            results = [await _run(work, job, say) for job in JOBS]
            bill = model.bill()
        finally:
            await asyncio.to_thread(ledger.close)
    mails = len(list((folder / "var" / "outbox").rglob("*.eml")))
    return Shown(folder, tuple(results), mails, sum(int(entry["cost_nano"]) for entry in bill))


def _environment(model_url: str) -> dict[str, str]:
    """Only what the demo itself needs: whatever keys and relays this machine knows stay out of it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TZ", "LOG_LEVEL") if name in os.environ}
    return kept | {"ANTHROPIC_BASE_URL": model_url, "ANTHROPIC_API_KEY": "demo-key-of-no-worth"}


def _workplace(folder: Path, schedule: Schedule, ledger: Ledger) -> Workplace:
    redactor = Redactor(schedule.secrets)
    log = folder / "var" / "log" / "overnight.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    logs.configure(level="info", shown="critical", stream=sys.stderr, redactor=redactor, file=log)
    return Workplace(folder, schedule, ledger, SystemClock(), redactor)


def _subscribe(work: Workplace, say: Say) -> None:
    found = import_csv(work.ledger, work.root / "content" / "subscribers.csv", work.clock)
    say(f"subscribers     {found.added} imported, {len(found.rejected)} refused")
    for row in found.rejected:
        say(f"                  content/subscribers.csv:{row.line}: {row.reason}")


async def _run(work: Workplace, job: str, say: Say) -> Result:
    troubles: list[str] = []

    def listen(outcome: object) -> None:
        if getattr(outcome, "state", "") not in ("ok", "skipped"):
            troubles.append(f"                  {outcome.key}  {outcome.state}: {outcome.error}")  # type: ignore[attr-defined]

    result = await run_slot(work, Request(job, SLOT, on_outcome=listen))
    counts = ", ".join(f"{n} {state}" for state, n in result.items.items() if n and state != "total")
    say(f"{job:<16}{result.status}: {counts}  ({result.duration_s:.1f} s, {dollars(result.cost_nano)})")
    for line in troubles:
        say(line)
    return result
