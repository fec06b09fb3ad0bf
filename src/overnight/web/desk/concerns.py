"""What needs somebody, and what he can do about it: one line each, the gravest first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from sqlalchemy import RowMapping

from overnight.alerts.book import firing, undelivered
from overnight.ledger.flow import Held, held
from overnight.plurals import counted
from overnight.runner import Workplace
from overnight.storage import waiting
from overnight.web.desk import queries
from overnight.web.desk.figures import had

RECENT = timedelta(days=2)  # how long a run that ended badly asks for somebody
SAID_ELSEWHERE = ("unknown", "breaker", "spool")  # rules whose lines here say more


@dataclass(frozen=True, slots=True)
class Concern:
    """One line: `verb` posts to `action`, or leads to `link`; `detail` keeps its line breaks."""

    kind: str
    text: str
    detail: str = ""
    verb: str = ""
    action: str = ""
    key: str = ""
    link: str = ""
    link_text: str = ""


async def concerns(work: Workplace, problem: str | None) -> list[Concern] | None:
    """All of them; None when the ledger says nothing."""
    now = work.clock.now()
    parts = [
        None
        if (rows := await had(work, queries.troubled, now - RECENT)) is None
        else [_run(work, row) for row in rows],
        None if (found := await had(work, queries.unknown_effects)) is None else [_unknown(row) for row in found],
        None if (alerts := await had(work, firing)) is None else [_alert(row, now) for row in alerts],
        None if (down := await had(work, held, now)) is None else [_breaker(one) for one in down if one.down],
        None if (left := await had(work, undelivered)) is None else [_channel(row) for row in left],
        None if (paused := await had(work, queries.pauses)) is None else [_paused(*one) for one in paused.items()],
    ]
    known = [part for part in parts if part is not None]
    if not known:
        return None if problem is None else _file(problem)
    lines = [one for part in known for one in part]
    explained = [one for one in lines if one.kind != "alert" or one.key.partition(":")[0] not in SAID_ELSEWHERE]
    return [*_file(problem), *explained, *_spool(work)]


def _file(problem: str | None) -> list[Concern]:
    if problem is None:
        return []
    text = "schedule.yaml is broken; the one before stays in force"
    return [Concern("schedule", text, problem, link="/schedule", link_text="The schedule")]


def _run(work: Workplace, one: queries.Troubled) -> Concern:
    counts = {"failed": one.failed, "to be tried again": one.retry, "unknown": one.unknown}
    told = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n) or one.reason or "no reason given"
    text = f"{one.job} {one.slot} {one.status}: {told}"
    link = f"/runs/{one.run_id}"
    if one.status == "running":
        return Concern("run", text, link=link, link_text="Watch it")
    if one.job not in work.schedule.jobs:  # nobody can go on with it here
        return Concern("run", text, link=link, link_text="What failed")
    verb = "Retry failed" if one.failed or one.retry else "Go on"
    return Concern("run", text, verb=verb, action=f"{link}/retry", link=link, link_text="What failed")


def _unknown(row: RowMapping) -> Concern:
    some = counted(row["n"], "mail or step", "mails or steps")
    text = f"{row['job']} {row['slot']}: nobody knows what became of {some}"
    link = f"/runs/{row['run_id']}/item?{urlencode({'key': row['key']})}"
    return Concern("unknown", text, link=link, link_text="Say what became of it")


def _alert(row: RowMapping, now: datetime) -> Concern:
    told = Concern("alert", row["message"], key=str(row["key"]), link="/alerts", link_text="Alerts")
    if row["silenced_until"] is not None and row["silenced_until"] > now:
        return told
    return replace(told, verb="Quiet for 8 hours", action="/alerts/silence")


def _breaker(one: Held) -> Concern:
    text = f"{one}: it fails and is left alone until then; items wait for it"
    return Concern("breaker", text, link="/api/health", link_text="All checks")


def _channel(row: RowMapping) -> Concern:
    text = f"the channel {row['channel']} has not taken {counted(row['waiting'], 'message')} to operators"
    return Concern("channel", text, str(row["error"] or ""), link="/alerts", link_text="Alerts")


def _paused(job: str, reason: str) -> Concern:
    return Concern("paused", f"{job} is paused: {reason}", verb="Resume", action=f"/jobs/{quote(job)}/resume")


def _spool(work: Workplace) -> Sequence[Concern]:
    try:
        left = len(waiting(work.root / work.schedule.reports.spool))
    except OSError:
        return []
    some = counted(left, "publication")
    text = f"{some} of reports not yet in {work.schedule.reports.to}; overnight doctor says why"
    return [Concern("spool", text, link="/api/health", link_text="All checks")] if left else []
