"""`serve` and `tick`: the dispatcher's rounds, by the alarm clock or just once, and how they end."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable, Mapping

from overnight import logs
from overnight.confirmations import confirming
from overnight.dispatcher import LOOK_EVERY, Dispatcher
from overnight.errors import ConfigError, Refused
from overnight.health import TOKEN, weak_token
from overnight.ledger.runs import LEASE
from overnight.redact import Redactor
from overnight.runner import ENDING, Workplace
from overnight.schedule import Schedule, Watch
from overnight.schedule.diff import changes
from overnight.schedule.watch import SETTLE, keep
from overnight.triggers import Trigger

GLANCE_EVERY = 2.0  # seconds: how soon a change of schedule.yaml is seen


async def tick(work: Workplace) -> list[int]:
    """One round, and wait for what it started; returns the exit codes of the runs. SIGTERM is passed on to them."""
    dispatcher = Dispatcher(work)
    _listen(dispatcher, 130)
    await dispatcher.look()
    codes = await dispatcher.settle()
    while await dispatcher.take_queued() or await dispatcher.take_up(but=dispatcher.swept):
        codes = await dispatcher.settle()
    return codes


def require_loopback(host: str, environ: Mapping[str, str]) -> None:
    """Refuse every other address unless callers can prove who they are. Raises Refused."""
    if host in ("127.0.0.1", "localhost", "::1"):
        return
    if not environ.get(TOKEN):
        raise Refused(
            f"--host {host}: without {TOKEN} it binds to this machine only; set one, or for the links in mails "
            "put a proxy in front, as in docs/subscribers.md"
        )
    if weak := weak_token(environ):
        raise Refused(f"--host {host}: {weak}")


async def serve(work: Workplace, host: str, port: int, renew_logs: Callable[[Schedule], None]) -> None:
    """Look whenever the clock rings and every minute, until SIGTERM; then runs in flight finish within `drain`.

    `renew_logs` opens the log anew, for the settings in force: after a reload, and when SIGHUP asks for both.
    """
    from overnight.scheduler import AlarmClock  # noqa: PLC0415  its home is the only importer
    from overnight.web import serving  # noqa: PLC0415

    require_loopback(host, work.schedule.environ)
    wake, signed_up = asyncio.Event(), asyncio.Event()
    dispatcher = Dispatcher(work, on_end=wake.set)  # somebody may have waited for it
    alarm, watch = AlarmClock(wake.set), Watch(work.file, work.clock, work.schedule.text)
    end = _listen(dispatcher, 0, wake.set)

    def hung_up() -> None:
        _renew(renew_logs, dispatcher.work.schedule)  # at once, also while a look is under way or the file is broken
        watch.again()
        wake.set()

    _listen_for_hang_up(hung_up, end)
    _keep(work)
    _tell_weakness(work.schedule)
    alarm.set(_triggers(work.schedule))
    alarm.start()
    page = serving(lambda: dispatcher.work, dispatcher, lambda: watch.problem, host, port, signed_up.set, dispatcher)
    async with page as url:
        confirmations = asyncio.create_task(confirming(lambda: dispatcher.work, signed_up))
        logs.get().info("serving", url=url, jobs=len(work.schedule.jobs))
        while not dispatcher.draining:
            wake.clear()  # before looking: whoever rings meanwhile is heard afterwards
            if (schedule := _reloaded(watch, dispatcher.work.schedule)) is not None:
                redactor = Redactor(schedule.secrets)
                dispatcher.work = dataclasses.replace(dispatcher.work, schedule=schedule, redactor=redactor)
                _renew(renew_logs, schedule)
                _tell_weakness(schedule)
                alarm.set(_triggers(schedule))
                _keep(dispatcher.work)
            await dispatcher.upkeep.guard(dispatcher.work, dispatcher.look)
            await _next_look(wake, watch)
        alarm.stop()
        confirmations.cancel()  # what stands in the ledger is for the next start
        await asyncio.wait([asyncio.create_task(dispatcher.settle())], timeout=_patience(dispatcher.work))
        if dispatcher.children:
            logs.get().warning("runs that have not ended within `drain` are left alone", runs=len(dispatcher.children))


def _keep(work: Workplace) -> None:
    """Keep a copy of schedule.yaml; a full disk, say, is no reason to end."""
    try:
        keep(work.file, work.schedule.text)
    except OSError as error:
        logs.get().warning("no copy of schedule.yaml can be kept: runs begun while it is broken fail", error=str(error))


def _tell_weakness(schedule: Schedule) -> None:
    if weak := weak_token(schedule.environ):  # no reason to end: jobs matter more than the page
        logs.get().error("nobody can log in at the page", error=weak)


def _triggers(schedule: Schedule) -> dict[str, Trigger]:
    return {name: job.trigger() for name, job in schedule.jobs.items() if job.enabled}


def _reloaded(watch: Watch, old: Schedule) -> Schedule | None:
    """The schedule after a valid change; a broken file is told once, and the old one stays in force."""
    before = watch.problem
    schedule = watch.changed()
    if schedule is not None:
        told = changes(old, schedule) or ["nothing differs"]
        logs.get().info("schedule.yaml was read again and is in force", changes=told, jobs=len(schedule.jobs))
    elif watch.problem and watch.problem != before:
        logs.get().error("schedule.yaml is broken; the one before stays in force", error=watch.problem)
    return schedule


def _listen(dispatcher: Dispatcher, code: int, heard: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """The first signal drains the runs; the second ends them and us at once, and the next start goes on from there."""

    def ask() -> None:
        if dispatcher.draining:
            dispatcher.processes.kill()
            os._exit(code)
        dispatcher.stop()
        heard()

    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return ask


def _listen_for_hang_up(heard: Callable[[], None], end: Callable[[], None]) -> None:
    """SIGHUP asks for schedule.yaml, `.env` and the log to be read and opened anew; a closed terminal ends us."""
    had_terminal = _has_terminal()

    def hang_up() -> None:
        gone = had_terminal and not _has_terminal()
        return end() if gone else heard()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


def _renew(renew_logs: Callable[[Schedule], None], schedule: Schedule) -> None:
    try:
        renew_logs(schedule)
    except ConfigError as error:  # what is open stays open
        logs.get().error("the log cannot be opened anew", error=str(error))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _next_look(wake: asyncio.Event, watch: Watch) -> None:
    """Wait until somebody rings or a minute is over; a file that was touched is looked at when it has settled."""
    if watch.unsettled:
        await _either(wake, SETTLE)
        return
    for _ in range(round(LOOK_EVERY / GLANCE_EVERY)):
        if await _either(wake, GLANCE_EVERY) or watch.touched:
            return


async def _either(wake: asyncio.Event, seconds: float) -> bool:
    """Whether somebody rang within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await wake.wait()
    except TimeoutError:
        return False


def _patience(work: Workplace) -> float:
    """How long children may drain: their own limit, and a moment to commit."""
    return work.schedule.drain.total_seconds() + LEASE.total_seconds() / 12
