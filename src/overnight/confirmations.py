"""The mails to those who have signed up: sent beside everything else `serve` does, until each has gone out.

A sign-up stands in the ledger before the page says so. Each mail has an effect of its own, so that of several
processes, or after a crash, one goes out.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from overnight import logs
from overnight.alerts import Alarm
from overnight.clock import iso
from overnight.effects import begun_at
from overnight.errors import Deferred, OvernightError, Permanent, Stop, Unknown
from overnight.mail import Mailer
from overnight.outcome import Scope
from overnight.ports import open_mailer, tokens_of
from overnight.runner import Workplace
from overnight.subscriptions import mailed, put_off, to_be_mailed
from overnight.tokens import CONFIRM_WITHIN

JOB = "subscribe"  # as which it stands among the effects and alerts of the ledger
TEMPLATE = "confirm"
EVERY = 60.0  # seconds between looks without a call: for what could not go out, and what others have left
AWAY = ("smtp_unreachable", "smtp_lost", "breaker_open")  # the relay itself, whoever is mailed
UNDER_WAY = timedelta(minutes=11)  # another process may be handing it over: a relay has ten for its reply


async def confirming(current: Callable[[], Workplace], called: asyncio.Event) -> None:
    """Send what is to be sent, whenever somebody has signed up, for ever."""
    while True:
        called.clear()
        try:
            await send_waiting(current())
        except Exception as error:  # noqa: BLE001  a fault of the ledger is told by the dispatcher's own round
            logs.get().error("confirmations could not be sent; they are tried again in a minute", exc_info=error)
        try:
            async with asyncio.timeout(EVERY):
                await called.wait()
        except TimeoutError:
            pass


async def send_waiting(work: Workplace) -> None:
    """Send the link to everybody who waits for one; stop at the first that meets trouble which others would meet."""
    rows = await work.ledger.read(to_be_mailed, work.clock.now())
    if not rows:
        return
    try:
        async with open_mailer(work.root, work.schedule, work.ledger, work.clock) as mailer:
            for row in rows:
                await _send(work, mailer, row)
    except Stop as error:
        await work.note([Alarm(JOB, JOB, f"sign-ups wait for their mail: {error}")])
    except OvernightError as error:
        logs.get().warning("sign-ups wait for their mail", error=work.redactor.text(str(error)))
    else:
        await work.note([Alarm(JOB, JOB, "sign-ups get their mail again", firing=False)])


async def _send(work: Workplace, mailer: Mailer, row: Row[Any]) -> None:
    """Send one, or put it off when its mailbox asks for that; what will never arrive counts as sent.

    Raises Stop, or Deferred while the relay is away.
    """
    tokens = tokens_of(work.root, work.schedule.environ, work.clock)
    link = tokens.confirm_url(work.schedule.public_url, row.id)
    context = {"confirm_url": link, "days": CONFIRM_WITHIN.days}
    await mailer.consent.check("overnight serve --yes")
    scope, now = Scope(JOB, iso(row.asked_at), row.id, ""), work.clock.now()
    try:
        await mailer.send(scope, row.email, TEMPLATE, context)
    except Deferred as error:
        if error.code in AWAY:
            raise
        _log(work, row, "a sign-up waits for its mail", error)
        return await work.ledger.write(lambda connection: put_off(connection, row, now))
    except Unknown as error:
        begun = await work.ledger.read(begun_at, scope)
        if begun is not None and begun > now - UNDER_WAY:
            return None  # who has it under way may still hear that it was refused
        _log(work, row, "a sign-up may have got no mail", error)
    except Permanent as error:
        _log(work, row, "a sign-up got no mail", error)
    return await work.ledger.write(lambda connection: mailed(connection, row, work.clock.now()))


def _log(work: Workplace, row: Row[Any], what: str, error: OvernightError) -> None:
    logs.get().warning(what, signup=row.id, error=work.redactor.text(str(error)))
