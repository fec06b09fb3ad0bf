"""What the pytest plugin runs a batch on: the production parts, around a script and an outbox."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from overnight import logs
from overnight.agent import Agent
from overnight.batch import Batch, Picked
from overnight.budget import Budgets, Caps
from overnight.clock import Clock
from overnight.dependency import Dependencies
from overnight.effects import Effects
from overnight.jobs import Job, Options
from overnight.ledger import Ledger
from overnight.ledger.runs import Opening, open_run, previous_slot
from overnight.mail import Mailer, MailSettings
from overnight.model import Models
from overnight.outcome import Outcome, Scope
from overnight.roles import Role, Roles
from overnight.run import Run

ZONE = ZoneInfo("UTC")
SENDER = "The Bench <bench@example.org>"
MODEL = "claude-haiku-5-5"


class Place(Protocol):
    """The bench as this module needs it."""

    @property
    def folder(self) -> Path: ...
    @property
    def slot(self) -> str: ...
    @property
    def bouncing(self) -> set[str]: ...
    @property
    def script(self) -> Models: ...
    @property
    def clock(self) -> Clock: ...


class _AnyRole(dict[str, Role]):
    """Every role there is a prompt for, on the cheapest model."""

    def __missing__(self, name: str) -> Role:
        return Role(name, models=(MODEL,), max_tokens=1024)

    def __contains__(self, name: object) -> bool:
        return True


async def run_batch(
    place: Place, job: Job[Any, Any], items: Sequence[Any], params: Mapping[str, Any]
) -> dict[str, Outcome]:
    """Run a batch to its end; returns the outcomes by key. Raises the Stop of a run that could not go on, and bugs."""
    ledger = Ledger.open("sqlite:///var/bench.db", root=place.folder, clock=place.clock)
    mailer = _mailer(place, ledger)
    try:
        return await _run(
            place, ledger, mailer, dataclasses.replace(job, items=lambda _: items) if items else job, params
        )
    finally:
        await mailer.close()
        ledger.close()


async def _run(
    place: Place, ledger: Ledger, mailer: Mailer, job: Job[Any, Any], params: Mapping[str, Any]
) -> dict[str, Outcome]:
    now = place.clock.now()
    scope = await ledger.write(
        lambda connection: open_run(connection, _opening(job.name, place.slot, now), now, locked=True)
    )
    outcomes: dict[str, Outcome] = {}
    batch = Batch(
        job=job,
        run=await _job_run(place, ledger, mailer, scope, now, params),
        options=Options().override(job.options),
        expires_at=now + timedelta(days=1),
        on_outcome=lambda outcome: outcomes.update({outcome.key: outcome}),
    )
    await batch.plan()
    await batch.work(Picked("again"))
    if batch.stopped is not None:
        raise batch.stopped
    for bug in batch.errors:
        raise bug
    return outcomes


async def _job_run(
    place: Place, ledger: Ledger, mailer: Mailer, scope: Scope, now: datetime, params: Mapping[str, Any]
) -> Run:
    api = Dependencies({}, place.clock).of("anthropic")
    roles = Roles(place.folder, _AnyRole())
    budgets = Budgets(ledger, place.clock, ZONE, Caps())
    return Run(
        scope=scope,
        scheduled_for=now,
        params=params,
        root=place.folder,
        zone=ZONE,
        clock=place.clock,
        ledger=ledger,
        asks=Agent(ledger, place.script, roles, budgets, api, place.clock),
        post=mailer,
        log=logs.get(),
        spool=place.folder / "var" / "spool",
        previous=await ledger.read(previous_slot, scope.job, now),
    )


def _mailer(place: Place, ledger: Ledger) -> Mailer:
    outbox = place.folder / "var" / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    (outbox / ".bounces").write_text("\n".join(sorted(place.bouncing)), encoding="utf-8")
    return Mailer.open(
        MailSettings("outbox:var/outbox", SENDER, "unsubscribe@example.org"),
        root=place.folder,
        secret=b"bench",
        effects=Effects(ledger, place.clock),
        ledger=ledger,
        clock=place.clock,
        zone=ZONE,
    )


def _opening(job: str, slot: str, now: datetime) -> Opening:
    day = now.date().isoformat()
    return Opening(job, slot, "manual", now, day, day, "bench", 0, "bench", "bench")
