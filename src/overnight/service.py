"""`serve` and `tick`: the dispatcher's rounds, by the alarm clock or just once, and how they end."""

import asyncio
import dataclasses
import os
from collections.abc import Callable

from overnight import logs
from overnight.confirmations import confirming
from overnight.dispatcher import LOOK_EVERY, Dispatcher
from overnight.errors import Refused
from overnight.ledger.runs import LEASE
from overnight.runner import ENDING, Workplace
from overnight.schedule import Schedule, Watch
from overnight.schedule.watch import SETTLE, keep
from overnight.triggers import Trigger
from overnight.upkeep import guarded


async def tick(work: Workplace) -> list[int]:
    """One round, and wait for what it started; returns the exit codes of the runs. SIGTERM is passed on to them."""
    dispatcher = Dispatcher(work)
    _listen(dispatcher, 130)
    await dispatcher.look()
    codes = await dispatcher.settle()
    while await dispatcher.take_queued():
        codes = await dispatcher.settle()
    return codes


def require_loopback(host: str) -> None:
    """Refuse every other address: the pages have no login yet, and a proxy lets the public ones out. Raises Refused."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise Refused(
            f"--host {host}: the page has no login yet, so it binds to this machine only; for the links in mails put "
            "a proxy in front, as in docs/subscribers.md"
        )


async def serve(work: Workplace, host: str, port: int) -> None:
    """Look whenever the clock rings and every minute, until SIGTERM; then runs in flight finish within `drain`."""
    from overnight.scheduler import AlarmClock  # noqa: PLC0415  its home is the only importer
    from overnight.web import serving  # noqa: PLC0415

    require_loopback(host)
    wake, signed_up = asyncio.Event(), asyncio.Event()
    dispatcher = Dispatcher(work, on_end=wake.set)  # somebody may have waited for it
    _listen(dispatcher, 0, wake.set)
    alarm, watch = AlarmClock(wake.set), Watch(work.file, work.clock)
    keep(work.file)
    alarm.set(_triggers(work.schedule))
    alarm.start()
    async with serving(lambda: dispatcher.work, dispatcher, lambda: watch.problem, host, port, signed_up.set) as url:
        confirmations = asyncio.create_task(confirming(lambda: dispatcher.work, signed_up))
        logs.get().info("serving", url=url, jobs=len(work.schedule.jobs))
        while not dispatcher.draining:
            wake.clear()  # before looking: whoever rings meanwhile is heard afterwards
            if (schedule := _reloaded(watch)) is not None:
                dispatcher.work = dataclasses.replace(dispatcher.work, schedule=schedule)
                alarm.set(_triggers(schedule))
                keep(work.file)
            await guarded(dispatcher.work, dispatcher.look)
            await _either(wake, SETTLE if watch.unsettled else LOOK_EVERY)
        alarm.stop()
        confirmations.cancel()  # what stands in the ledger is for the next start
        await asyncio.wait([asyncio.create_task(dispatcher.settle())], timeout=_patience(work))
        if dispatcher.children:
            logs.get().warning("runs that have not ended within `drain` are left alone", runs=len(dispatcher.children))


def _triggers(schedule: Schedule) -> dict[str, Trigger]:
    return {name: job.trigger() for name, job in schedule.jobs.items() if job.enabled}


def _reloaded(watch: Watch) -> Schedule | None:
    """The schedule after a valid change; a broken file is told once, and the old one stays in force."""
    before = watch.problem
    schedule = watch.changed()
    if schedule is not None:
        logs.get().info("schedule.yaml was changed and is in force", jobs=len(schedule.jobs))
    elif watch.problem and watch.problem != before:
        logs.get().error("schedule.yaml is broken; the one before stays in force", error=watch.problem)
    return schedule


def _listen(dispatcher: Dispatcher, code: int, heard: Callable[[], None] = lambda: None) -> None:
    """The first signal drains the runs; the second ends them and us at once, and the next start goes on from there."""

    def ask() -> None:
        if dispatcher.draining:
            dispatcher.kill()
            os._exit(code)
        dispatcher.stop()
        heard()

    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, ask)


async def _either(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        pass


def _patience(work: Workplace) -> float:
    """How long children may drain: their own limit, and a moment to commit."""
    return work.schedule.drain.total_seconds() + LEASE.total_seconds() / 12
