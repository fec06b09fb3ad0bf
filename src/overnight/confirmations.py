"""The mails to those who have signed up: sent beside everything else `serve` does, until each has gone out.

A sign-up stands in the ledger before the page says so. Each mail has an effect of its own, so that of several
processes, or after a crash, one goes out.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from overnight import logs
from overnight.alerts import Alarm
from overnight.clock import iso
from overnight.errors import OvernightError, Permanent, Stop, Unknown
from overnight.mail import Mailer
from overnight.outcome import Scope
from overnight.ports import mailer_of, operator_alerts, secret_of
from overnight.runner import Workplace
from overnight.subscriptions import mailed, to_be_mailed
from overnight.tokens import CONFIRM_WITHIN, Tokens

JOB = "subscribe"  # as which it stands among the effects and alerts of the ledger
TEMPLATE = "confirm"
EVERY = 60.0  # seconds between looks without a call: for what could not go out, and what others have left


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
    mailer = mailer_of(work.root, work.schedule, work.ledger, work.clock)
    try:
        for row in rows:
            await _send(work, mailer, row)
    except Stop as error:
        await _tell(work, Alarm(JOB, JOB, f"sign-ups wait for their mail: {error}"))
    except OvernightError as error:
        logs.get().warning("sign-ups wait for their mail", error=work.redactor.text(str(error)))
    else:
        await _tell(work, Alarm(JOB, JOB, "sign-ups get their mail again", firing=False))
    finally:
        await mailer.close()


async def _send(work: Workplace, mailer: Mailer, row: Row[Any]) -> None:
    """Send one. Raises Stop, or Deferred, while there is hope; what will never arrive counts as sent."""
    tokens = Tokens(secret_of(work.root, work.schedule.environ), work.clock)
    link = tokens.confirm_url(work.schedule.public_url, row.id)
    context = {"confirm_url": link, "days": CONFIRM_WITHIN.days}
    await mailer.consent.check("overnight serve --yes")
    try:
        await mailer.send(Scope(JOB, iso(row.asked_at), row.id, ""), row.email, TEMPLATE, context)
    except (Permanent, Unknown) as error:
        logs.get().warning("a sign-up got no mail", signup=row.id, error=work.redactor.text(str(error)))
    await work.ledger.write(lambda connection: mailed(connection, row, work.clock.now()))


async def _tell(work: Workplace, alarm: Alarm) -> None:
    async with operator_alerts(work.root, work.schedule, work.ledger, work.clock) as alerter:
        await alerter.raise_all([alarm])
