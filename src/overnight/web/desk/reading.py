"""The pages to look at."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy import Connection, RowMapping

from overnight import __version__
from overnight.alerts.book import every, undelivered
from overnight.closing import OPEN, STUCK
from overnight.errors import ConfigError
from overnight.health import Examiner
from overnight.ledger.runs import find_slot, item_of
from overnight.ledger.toolcalls import tool_calls_of
from overnight.logbook import Event, latest
from overnight.outcome import STATES, RunStatus
from overnight.ports import REHEARSAL_OUTBOX
from overnight.runner import REHEARSAL, Workplace
from overnight.web.desk import queries
from overnight.web.desk.coming import coming
from overnight.web.desk.concerns import concerns
from overnight.web.desk.doing import Doing
from overnight.web.desk.drawing import columns, series
from overnight.web.desk.figures import DAYS, drawing_of, had, job_rows, numbers, runs_of, status_of
from overnight.web.desk.gate import FRAME_HEADERS, Caller
from overnight.web.desk.letters import LetterShown, kept_at, opened
from overnight.web.desk.pages import Pages
from overnight.web.desk.settings import counting

FIRES, NEXT = 20, 5  # of all jobs, of one
LONGEST_TEXT = 20_000  # characters of an answer, a payload or a result that are shown
LINES = 40  # of the log that are shown
PARTS = ("html", "text", "headers")


@dataclass(frozen=True, slots=True)
class Reading:
    """The handlers; `problem` is what is wrong with schedule.yaml as it is now."""

    current: Callable[[], Workplace]
    examiner: Examiner
    problem: Callable[[], str | None]
    pages: Pages
    doing: Doing

    async def overview(self, caller: Caller) -> web.StreamResponse:
        """Is all well, and what is to be done."""
        work = self.current()
        report, five, rows, lines = await asyncio.gather(
            self.examiner.report(), numbers(work), job_rows(work), concerns(work, self.problem())
        )
        known = await had(work, queries.jobs_known)
        values = {
            "status": report.status,
            "reasons": [
                f"{name}: {one.output}"
                for name, one in report.findings.items()
                if one.status == report.status != "healthy"
            ],
            "numbers": five,
            "jobs": rows,
            "concerns": lines,
            "former": [job for job in known or [] if job not in work.schedule.jobs],
            "at": report.at,
            "version": __version__,
        }
        return self.pages.response("overview", caller, values, active="/")

    async def runs(self, caller: Caller) -> web.StreamResponse:
        """The runs, the newest first."""
        work, asked = self.current(), caller.request.query
        job, status, before = (asked.get(name, "")[:200] for name in ("job", "status", "before"))
        found = await had(work, _runs, work, job, status, before)
        jobs = await had(work, queries.jobs_known)
        chosen = {"job": job, "status": status}
        older = found[queries.PAGE - 1][0]["id"] if found and len(found) > queries.PAGE else ""
        values = {
            "runs": None if found is None else found[: queries.PAGE],
            "jobs": sorted({*(jobs or []), *work.schedule.jobs}),
            "statuses": get_args(RunStatus),
            "chosen": chosen,
            "older": urlencode({**chosen, "before": older}) if older else "",
            "begins": not before,
        }
        return self.pages.response("runs", caller, values, active="/runs")

    async def job(self, caller: Caller) -> web.StreamResponse:
        """One job: its last runs, when it runs next, and its settings; also of one that schedule.yaml has no longer."""
        work, name = self.current(), caller.request.match_info["job"]
        now, settings = work.clock.now(), work.schedule.jobs.get(name)
        runs = await had(work, runs_of, work, name, now)
        if settings is None and name not in (await had(work, queries.jobs_known) or [name]):
            work.schedule.job(name)  # says which jobs there are
        paused = await had(work, queries.pauses) or {}
        drawn, told = drawing_of(runs, now, settings.zone if settings else work.schedule.timezone)
        values = {
            "name": name,
            "job": settings,
            "runs": None if runs is None else runs[::-1],
            "ticks": drawn,
            "told": told,
            "paused": paused.get(name),
            "fires": coming(work.schedule, paused, now, NEXT, only=name),
            "settings": counting(settings) if settings else [],
        }
        return self.pages.response("job", caller, values)

    async def run(self, caller: Caller) -> web.StreamResponse:
        """One run: how far it is, what failed, what it cost."""
        work, run_id = self.current(), caller.request.match_info["run"]
        row = await work.ledger.read(queries.run_of, run_id)
        if row is None:
            return self._begun(caller, run_id)
        asked = caller.request.query
        of = await had(work, find_slot, row["job"], row["slot"])
        which = asked.get("items", "")
        if which not in ("trouble", "all"):
            which = "trouble" if of is None or any(of[state] for state in ("failed", "retry", "unknown")) else "all"
        after, code = asked.get("after", "")[:300], asked.get("code")
        found = await had(work, _items, row, which, after, code)
        status = await work.ledger.read(status_of, work, row, work.clock.now())
        page = list(found or [])[: queries.PAGE]
        more = bool(found) and len(found or []) > queries.PAGE
        last = {"after": page[-1]["key" if which == "trouble" else "seq"]} if more else {}
        values = {
            "run": row,
            "status": status,
            "slot": of,
            "total": None if of is None else sum(of[state] for state in STATES),
            "done": None if of is None else queries.progress_of(of),
            "states": STATES,
            "failures": await had(work, queries.failures, row["job"], row["slot"]),
            "costs": await had(work, queries.costs_of_slot, row["job"], row["slot"]),
            "which": which,
            "code": code,
            "items": None if found is None else page,
            "after": after,
            "more": urlencode({"items": which, **({} if code is None else {"code": code}), **last}) if more else "",
            "lines": await self._tail(run_id),
            "known": row["job"] in work.schedule.jobs and REHEARSAL not in row["slot"],
        }
        return self.pages.response("run", caller, values, active="/runs")

    async def item(self, caller: Caller) -> web.StreamResponse:
        """One item with everything known of it."""
        work, key = self.current(), caller.request.query.get("key", "")
        row, item = await self._item(caller, key)
        of = (row["job"], row["slot"], key)
        effects = await had(work, queries.effects_of_item, *of)
        settled = [one for one in effects or [] if one["state"] in OPEN + STUCK]
        mails = [
            one for one in effects or [] if one["kind"] == "mail" and one["state"] in ("done", "intent", "unknown")
        ]
        values = {
            "run": row,
            "item": item,
            "longest": LONGEST_TEXT,
            "calls": await had(work, queries.calls_with_text, *of, LONGEST_TEXT),
            "tools": await had(work, tool_calls_of, *of),
            "effects": effects,
            "open": settled,
            "mails": [(one, await self._letter(row, str(one["ref"]))) for one in mails[:5]],
            "keeps": self._transport(row).startswith("outbox:"),
            "part": caller.request.query.get("part", "html"),
            "parts": PARTS,
        }
        return self.pages.response("item", caller, values, active="/runs")

    async def mail(self, caller: Caller) -> web.StreamResponse:
        """The HTML of a mail, for a frame that runs nothing of it."""
        asked, work = caller.request.query, self.current()
        row, _ = await self._item(caller, key := asked.get("key", ""))
        found = await work.ledger.read(queries.mail_of, row["job"], row["slot"], key, asked.get("ref", ""))
        letter = None if found is None else await self._letter(row, str(found["ref"]))
        if letter is None or letter.html is None:
            raise ConfigError("there is no such mail, or it has no HTML")
        html = self.pages.cleaned(letter.html)
        return web.Response(text=html, content_type="text/html", headers=FRAME_HEADERS)

    async def costs(self, caller: Caller) -> web.StreamResponse:
        """What the last fortnight has cost, by job, model and role."""
        work = self.current()
        days = queries.days_to(work.clock.now().astimezone(work.schedule.timezone).date(), DAYS)
        by_day = await had(work, queries.costs, days)
        caps = await had(work, queries.caps, days) or {}
        cap = work.schedule.budget.per_day
        rows = [] if by_day is None else [by_day.get(day.isoformat(), {}) for day in days]
        totals: dict[str, int] = {}
        for row in rows:
            for job, nano in row.items():
                totals[job] = totals.get(job, 0) + nano
        of = series(totals)
        values = {
            "had": by_day is not None,
            "days": [(day, row, caps.get(day.isoformat())) for day, row in zip(days, rows, strict=False)],
            "chart": columns([f"{day:%a} {day.day}" for day in days[: len(rows)]], rows, of, cap),
            "series": of,
            "totals": totals,
            "cap": cap,
            "sum": sum(totals.values()),
            "models": await had(work, queries.costs_by_model, days),
        }
        return self.pages.response("costs", caller, values, active="/costs")

    async def schedule(self, caller: Caller) -> web.StreamResponse:
        """What runs when, and what is wrong with the file."""
        work = self.current()
        paused = await had(work, queries.pauses) or {}
        values = {
            "problem": self.problem(),
            "file": work.config.name,
            "fires": coming(work.schedule, paused, work.clock.now(), FIRES),
            "jobs": work.schedule.jobs,
            "paused": paused,
        }
        return self.pages.response("schedule", caller, values, active="/schedule")

    async def alerts(self, caller: Caller) -> web.StreamResponse:
        """What is wrong, what was, and what is kept quiet."""
        work = self.current()
        order = {"firing": 0, "pending": 1, "resolved": 2}
        found = await had(work, every)
        values = {
            "alerts": None if found is None else sorted(found, key=lambda row: order.get(row["state"], 3))[:200],
            "undelivered": await had(work, undelivered),
            "now": work.clock.now(),
        }
        return self.pages.response("alerts", caller, values, active="/alerts")

    def _begun(self, caller: Caller, run_id: str) -> web.StreamResponse:
        """A run that was asked for here, and has not opened, or never will."""
        begun = self.doing.begun.get(run_id)
        if begun is None:
            raise ConfigError(f"there is no run {run_id!r}")
        over = begun.process.done()
        code = None if not over or begun.process.cancelled() or begun.process.exception() else begun.process.result()
        values = {"run_id": run_id, "begun": begun, "over": over, "code": code}
        return self.pages.response("begun", caller, values, active="/runs")

    async def _item(self, caller: Caller, key: str) -> tuple[RowMapping, RowMapping]:
        work, run_id = self.current(), caller.request.match_info["run"]
        row = await work.ledger.read(queries.run_of, run_id)
        item = None if row is None else await work.ledger.read(item_of, row["job"], row["slot"], key)
        if row is None or item is None:
            raise ConfigError(f"the run {run_id} has no item {key[:300]!r}; items older than `retention` are deleted")
        return row, item

    def _transport(self, row: RowMapping) -> str:
        return REHEARSAL_OUTBOX if REHEARSAL in row["slot"] else self.current().schedule.mail.transport

    async def _letter(self, row: RowMapping, ref: str) -> LetterShown | None:
        file = kept_at(self.current().root, self._transport(row), row["job"], row["slot"], ref)
        return None if file is None else await asyncio.to_thread(opened, file)

    async def _tail(self, run_id: str) -> list[Event] | None:
        try:
            return await asyncio.to_thread(latest, self.current().root, run_id, LINES)
        except OSError:
            return None


def _runs(connection: Connection, work: Workplace, job: str, status: str, before: str) -> list[tuple[RowMapping, str]]:
    rows, now = queries.runs_before(connection, job, status, before), work.clock.now()
    return [(row, status_of(connection, work, row, now)) for row in rows]


def _items(connection: Connection, row: RowMapping, which: str, after: str, code: str | None) -> Sequence[RowMapping]:
    if which == "trouble":
        return queries.troubled_items(connection, row["job"], row["slot"], after, code)
    place = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else -1
    return queries.planned_items(connection, row["job"], row["slot"], place)
