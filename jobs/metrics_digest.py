"""Tell the operators each morning what the nights have cost and achieved since the last such mail."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256

from overnight import Run, job
from overnight.metrics import Figures, JobFigures, figures, last_edition
from overnight.storage import waiting

TARGET = 0.95  # below it a job is named in the mail; `alerts.success_rate` in schedule.yaml decides on alerts
NONE = "n/a"


@dataclass(frozen=True)
class Row:
    """One job as the mail shows it."""

    job: str
    done: str
    rate: str
    per_hour: str
    backlog: str
    p95: str
    below: bool


@dataclass(frozen=True)
class Digest:
    """The mail in words; `troubles` is empty on a good morning, `until` (ISO 8601) is where the next one begins."""

    period: str
    until: str
    verdict: str
    troubles: list[str]
    facts: list[tuple[str, str, str]]
    jobs: list[Row] | None
    errors: list[tuple[str, str, str]] | None


def operators(run: Run) -> Sequence[str]:
    """The addresses in `params.to`: a list, or a single one."""
    to: str | list[str] = run.params.get("to", [])
    return [to] if isinstance(to, str) else to


def opaque(address: str) -> str:
    """The key of an item: keys stand in logs and reports, where no address belongs."""
    return f"o_{sha256(address.encode()).hexdigest()[:12]}"


@job(items=operators, key=opaque)
async def metrics_digest(address: str, run: Run) -> str:
    """One operator; all of them get the same figures."""
    return await run.mail.send(address, "metrics_digest", digest=await run.once(digest))


async def digest(run: Run) -> Digest:
    """The figures since the last edition that somebody got, or of the last 24 hours for the first one."""
    until = run.now()
    spool = run.root / str(run.params.get("spool", "var/spool"))
    since = await last_until(run) or until - timedelta(hours=24)
    found = await figures(run.ledger, since, until, run.zone, without=run.run_id, spooled=len(waiting(spool)))
    begin, end = since.astimezone(run.zone), until.astimezone(run.zone)
    return told(found, f"{begin:%a %d %b %H:%M} to {end:%a %d %b %H:%M}")


async def last_until(run: Run) -> datetime | None:
    """Where the last edition that was sent ended, so that a morning without one is made up for by the next."""
    value = await run.ledger.read(last_edition, run.job, run.scheduled_for, digest.__name__)
    until = json.loads(value).get("until") if value else None
    return datetime.fromisoformat(until) if until else None


def told(found: Figures, period: str) -> Digest:
    """The figures in words."""
    troubles = _troubles(found)
    items = found.items or {}
    return Digest(
        period=period,
        until=found.until.isoformat(),
        verdict=_verdict(found, troubles),
        troubles=troubles,
        facts=[
            ("Success rate", _percent(found.success_rate), f"{_whole(items.get('ok'))} ok, target {_percent(TARGET)}"),
            ("Cost", _money(found.cost_nano), f"{_money(found.wasted_nano)} of it on items that failed"),
            ("Budget today", _money(found.day_cost_nano), f"of {_money(found.budget_nano)}"),
            ("Throughput", _whole(found.tasks_per_hour), f"tasks an hour, backlog {_whole(found.backlog)}"),
            ("Duration p95", _time(found.p95_ms), f"median {_time(found.p50_ms)}"),
            ("Runs", _whole(sum(found.runs.values()) if found.runs is not None else None), _statuses(found.runs)),
            ("Retries pending", _whole(items.get("retry")), f"unknown effects {_whole(found.unknown_effects)}"),
            ("Reports in the spool", _whole(found.spooled), "waiting for upload"),
        ],
        jobs=None if found.jobs is None else [_row(one) for one in found.jobs],
        errors=None if found.errors is None else [(e.job, e.code, str(e.count)) for e in found.errors],
    )


def _verdict(found: Figures, troubles: list[str]) -> str:
    state = "Needs a look" if troubles else "All well"
    if found.items is not None and not sum(found.items.values()):
        return f"{state}: nothing was to be done"
    return f"{state}: {_percent(found.success_rate)} succeeded, {_money(found.cost_nano)} spent"


def _troubles(found: Figures) -> list[str]:
    """What a person should look at, and where."""
    items, runs = found.items or {}, found.runs or {}
    low = [one.job for one in found.jobs or () if one.success_rate is not None and one.success_rate < TARGET]
    dead = sum(runs.get(status, 0) for status in ("failed", "interrupted", "stopped"))
    missing = [name for name in ("items", "runs", "cost_nano", "errors") if getattr(found, name) is None]
    said = [
        (len(low), f"below the target of {_percent(TARGET)}: {', '.join(low)}"),
        (
            items.get("failed", 0),
            f"{_of(items.get('failed', 0), 'item')} failed: overnight show RUN, then overnight retry RUN",
        ),
        (
            found.unknown_effects,
            f"{_of(found.unknown_effects or 0, 'mail')} may or may not have gone out: overnight show RUN",
        ),
        (dead, f"{_of(dead, 'run')} did not end well: overnight runs"),
        (found.spooled, f"{_of(found.spooled or 0, 'report')} not uploaded yet: overnight doctor"),
        (len(missing), f"not to be had from the ledger: {', '.join(missing)}"),
    ]
    return [text for n, text in said if n]


def _row(one: JobFigures) -> Row:
    return Row(
        job=one.job,
        done=f"{one.items['ok']:,} of {sum(one.items.values()):,}",
        rate=_percent(one.success_rate),
        per_hour=_whole(one.per_hour),
        backlog=_whole(one.backlog),
        p95=_time(one.p95_ms),
        below=one.success_rate is not None and one.success_rate < TARGET,
    )


def _statuses(runs: dict[str, int] | None) -> str:
    return NONE if runs is None else ", ".join(f"{n} {status}" for status, n in sorted(runs.items())) or "none"


def _of(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _percent(rate: float | None) -> str:
    """Rounded down, so that 100 % means all."""
    return NONE if rate is None else f"{int(rate * 1000) / 10:g} %"


def _money(nano: int | None) -> str:
    if nano is None:
        return NONE
    usd = Decimal(nano).scaleb(-9)
    if 0 < usd < Decimal("0.0001"):
        return "< $0.0001"
    return f"${usd:,.2f}" if usd >= 1 or not nano else f"${usd:.4f}"


def _whole(number: float | None) -> str:
    return NONE if number is None else f"{number:,.0f}"


def _time(ms: int | None) -> str:
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{ms} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{ms // 60_000} min {ms // 1000 % 60} s"
