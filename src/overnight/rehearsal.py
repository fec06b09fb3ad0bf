"""Who plays the subscribers in a rehearsal, and which edition they get."""

import dataclasses
from datetime import datetime
from typing import Any

from overnight.jobs import Job
from overnight.ledger import Ledger
from overnight.ledger.onces import borrow_onces
from overnight.mail import STAND_IN
from overnight.outcome import Scope
from overnight.subscribers import Subscriber


def cast(job: Job[Any, Any], to: tuple[str, ...]) -> Job[Any, Any]:
    """The job with a stand-in for each address in the place of its subscribers; no addresses: the job as it is."""
    if not to or not job.takes(Subscriber):
        return job
    standing_in = [Subscriber(f"{STAND_IN}-{n}", address) for n, address in enumerate(to, 1)]
    return dataclasses.replace(job, items=lambda _run: standing_in)


async def borrow(ledger: Ledger, scope: Scope, to: tuple[str, ...], now: datetime) -> None:
    """For a rehearsal that is mailed: take the edition of the real slot, when it is composed already."""
    if to:
        await ledger.write(lambda connection: borrow_onces(connection, scope, now))
