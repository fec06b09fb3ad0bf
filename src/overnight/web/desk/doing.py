"""What a person can do at the page: the same as on the command line, by the same functions.

A run is never made in this process: the dispatcher starts it as a process of its own, under an id that is known before,
so that the browser can be sent to its page at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from urllib.parse import quote, urlencode

from aiohttp import web
from sqlalchemy import Connection, RowMapping

from overnight import closing, logs
from overnight.alerts.book import every, silence
from overnight.errors import ConfigError, Refused
from overnight.ledger.runs import latest_run, new_run_id, paused
from overnight.mail.consent import is_confirmed
from overnight.missed import tell
from overnight.occurrences import pause_listed
from overnight.ports import mailer_of
from overnight.runner import REHEARSAL, Workplace, current_slot
from overnight.schedule.values import duration, positive
from overnight.web.desk import queries
from overnight.web.desk.gate import Caller

KEPT = 50  # runs that were started here, and of which the page knows how they began


class Starter(Protocol):
    """Who starts runs: the dispatcher of this process."""

    def start(self, job: str, slot: str, *arguments: str) -> "asyncio.Task[int]": ...


class Nobody:
    """Starts nothing: a page without a scheduler."""

    def start(self, job: str, slot: str, *_arguments: str) -> "asyncio.Task[int]":
        """Refuse."""
        raise Refused(f"nobody starts {job} {slot} here: overnight run {job}")


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was asked for here, and its process."""

    job: str
    slot: str
    process: "asyncio.Task[int]"


@dataclass(frozen=True, slots=True)
class Doing:
    """The handlers of what changes something; each answers with the page to look at next."""

    current: Callable[[], Workplace]
    starter: Starter
    begun: dict[str, Begun] = field(default_factory=dict)
    deciding: asyncio.Lock = field(default_factory=asyncio.Lock)  # two clicks at once are one run

    async def run_now(self, caller: Caller) -> web.StreamResponse:
        """Run the slot of now, or go on with it."""
        work, job = self.current(), caller.request.match_info["job"]
        slot = current_slot(work.schedule.job(job), work.clock.now())
        return await self._started(job, slot, f"overnight run {job}")

    async def retry(self, caller: Caller) -> web.StreamResponse:
        """Take up what failed, is deferred or was not started."""
        of = await self._run(caller)
        if REHEARSAL in of["slot"]:
            raise Refused(f"{of['id']} was a rehearsal: overnight retry {of['id']}")
        work, remedy = self.current(), f"overnight retry {of['id']}"
        max_age = work.schedule.job(of["job"]).max_age
        old = closing.too_old(f"{of['job']} {of['slot']}", of["scheduled_for"], max_age, work.clock.now())
        return await self._started(of["job"], of["slot"], remedy, "--retry-of", of["id"], old=old)

    async def cancel(self, caller: Caller) -> web.StreamResponse:
        """Ask the run to end."""
        of, work = await self._run(caller), self.current()
        await asyncio.to_thread(closing.cancel, work.ledger, work.root, of, work.clock.now())
        return _see(f"/runs/{of['id']}")

    async def settle(self, caller: Caller) -> web.StreamResponse:
        """Say whether a mail or step of unknown fate has happened."""
        of, work, key = await self._run(caller), self.current(), _text(caller, "key")
        answer = _text(caller, "answer")
        if answer not in ("sent", "unsent"):
            raise Refused("say whether it was sent, or unsent")
        sent: closing.Answer = "sent" if answer == "sent" else "unsent"
        await asyncio.to_thread(closing.settle, work.ledger, work.root, of, key, sent, work.clock.now())
        return _see(f"/runs/{of['id']}/item?{urlencode({'key': key})}")

    async def pause(self, caller: Caller) -> web.StreamResponse:
        """Let the job's occurrences pass."""
        return await self._paused(caller, (_text(caller, "reason") or "no reason given")[:500])

    async def resume(self, caller: Caller) -> web.StreamResponse:
        """End the pause."""
        return await self._paused(caller, None)

    async def silence(self, caller: Caller) -> web.StreamResponse:
        """Keep an alert quiet for a time."""
        try:
            length = positive(duration(_text(caller, "span")))
        except (ValueError, OverflowError) as error:
            raise Refused(f"for how long? {error}") from error
        return await self._silenced(_text(caller, "key"), length)

    async def unsilence(self, caller: Caller) -> web.StreamResponse:
        """End the silence."""
        return await self._silenced(_text(caller, "key"), None)

    async def _silenced(self, key: str, span: timedelta | None) -> web.StreamResponse:
        ledger, now = self.current().ledger, self.current().clock.now()
        until = None if span is None else now + span
        if not await ledger.write(lambda connection: silence(connection, key, until)):
            known = len(await ledger.read(every))
            raise ConfigError(f"there is no alert {key!r} among the {known} that are known")
        return _see("/alerts")

    async def _paused(self, caller: Caller, reason: str | None) -> web.StreamResponse:
        work, job = self.current(), caller.request.match_info["job"]
        work.schedule.job(job)
        now, listed = work.clock.now(), work.schedule.listed()
        at = None if reason is None else now
        passed = await work.ledger.write(lambda connection: pause_listed(connection, listed, job, at, reason, now))
        await tell(work, passed or [])
        return _see(f"/jobs/{job}" if _text(caller, "from") == "job" else "/")

    async def _started(self, job: str, slot: str, remedy: str, *more: str, old: str = "") -> web.StreamResponse:
        async with self.deciding:
            return _see(f"/runs/{await self._start(job, slot, remedy, *more, old=old)}")

    async def _start(self, job: str, slot: str, remedy: str, *more: str, old: str) -> str:
        """The id of the run that has the slot by now, or which was started; `remedy` is the command that would ask."""
        work, now = self.current(), self.current().clock.now()
        work.schedule.job(job)
        if (busy := await work.ledger.read(_going_on, work, job, slot) or await self._starting(job, slot)) is not None:
            return busy
        if (reason := await work.ledger.read(paused, job)) is not None:
            raise Refused(f"{job} is paused: {reason}; resume it first")
        await self._may_mail(work, remedy, old)
        run_id = new_run_id(now)
        process = self.starter.start(job, slot, "--slot", slot, "--as", run_id, *more)
        self.begun[run_id] = Begun(job, slot, process)
        for gone in list(self.begun)[:-KEPT]:
            del self.begun[gone]
        logs.get().info("somebody at the page has asked for a run", job=job, slot=slot, run_id=run_id)
        return run_id

    async def _starting(self, job: str, slot: str) -> str | None:
        """The run of this slot that was asked for here a moment ago, and has not opened yet."""
        for id_, one in self.begun.items():
            waits = (one.job, one.slot) == (job, slot) and not one.process.done()
            if waits and await self.current().ledger.read(queries.run_of, id_) is None:
                return id_
        return None

    async def _may_mail(self, work: Workplace, remedy: str, old: str) -> None:
        """The first real mail, and mail that is `old`, is confirmed where somebody sees the whole question."""
        post = mailer_of(work.root, work.schedule, work.ledger, work.clock)
        try:
            if post.real and not await work.ledger.read(is_confirmed, post.place):
                raise Refused(f"nobody is mailed through {post.place} before that is confirmed, once: {remedy}")
            if post.real and old:
                raise Refused(f"{old}; it may be mailed all the same, once you have read that: {remedy}")
        finally:
            await post.close()

    async def _run(self, caller: Caller) -> RowMapping:
        run_id = caller.request.match_info["run"]
        found = await self.current().ledger.read(queries.run_of, run_id)
        if found is None:
            raise ConfigError(f"there is no run {run_id!r}")
        return found


def _going_on(connection: Connection, work: Workplace, job: str, slot: str) -> str | None:
    """The run that has the slot just now."""
    newest = latest_run(connection, job, slot)
    if newest is None or newest["status"] != "running":
        return None
    return None if closing.has_died(connection, work.root, newest, work.clock.now()) else str(newest["id"])


def _text(caller: Caller, name: str) -> str:
    value = caller.form.get(name, "")
    return value if isinstance(value, str) else ""


def _see(path: str) -> web.StreamResponse:
    raise web.HTTPSeeOther(quote(path, safe="/?=&%+~"))
