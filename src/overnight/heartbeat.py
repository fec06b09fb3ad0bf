"""Pings to a service that tells when one is missing: the only alarm that also rings when this machine is off.

A ping never fails a run nor holds it up: the first goes out beside the items, the last when all locks are free.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from overnight import logs
from overnight.clock import Clock
from overnight.errors import Fenced, Refused
from overnight.proxies import proxy_for
from overnight.redact import Redactor
from overnight.schedule.heartbeat import Addresses, addresses

TRIES = 3
TIMEOUT = 5.0  # seconds for one try
LONGEST_BODY = 10_000  # characters
FINAL = range(400, 500)  # of these answers, only 408 and 429 are asked again
AGAIN = (408, 429)


@dataclass(slots=True)
class Heartbeat:
    """The pings of one run. `outcome` is what its end has come to: whether it is a success, and a summary."""

    job: str
    addresses: Addresses
    clock: Clock
    outcome: tuple[bool, str] | None = None
    _starting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say that a run has begun; nobody waits for it."""
        if self.addresses.start:
            self._starting = asyncio.create_task(self._ping(self.addresses.start, ""))

    async def end(self) -> None:
        """Say how it ended, if it did: a run that was interrupted goes on later."""
        if self._starting is not None:
            await asyncio.wait({self._starting})  # or the pings would arrive in the wrong order
        if self.outcome is not None:
            good, summary = self.outcome
            await self._ping(self.addresses.success if good else self.addresses.failure, summary)

    async def _ping(self, url: str, body: str) -> None:
        if not url:
            return
        problem = ""
        for n in range(TRIES):
            if n:
                await self.clock.sleep(float(n))
            problem, final = await _attempt(url, body)
            if not problem or final:
                break
        if problem:
            host = urlsplit(url).hostname  # the rest of the address is a secret
            logs.get().warning("a heartbeat was not taken", job=self.job, host=host, error=problem)


async def _attempt(url: str, body: str) -> tuple[str, bool]:
    """What was wrong, nothing when it was taken; and whether it is of no use to try again."""
    import aiohttp  # noqa: PLC0415  a quarter of a second that jobs without a heartbeat need not cost

    try:
        async with (
            asyncio.timeout(TIMEOUT),
            aiohttp.ClientSession() as session,
            session.post(url, data=body[:LONGEST_BODY].encode(), proxy=proxy_for(url)) as response,
        ):
            final = response.status in FINAL and response.status not in AGAIN
            return ("" if response.ok else f"HTTP {response.status}"), final
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        return type(error).__name__, False


@asynccontextmanager
async def beating(template: str, job: str, clock: Clock, redactor: Redactor) -> AsyncIterator[Heartbeat]:
    """Ping for the run within the block, which starts it and says what it came to.

    An error fails it, unless the run was refused: then another one is going on, or is not meant to.
    """
    heart = Heartbeat(job, addresses(template), clock)
    try:
        yield heart
    except (Refused, Fenced):
        raise
    except Exception as error:
        heart.outcome = (False, redactor.text(f"{job}: {error}"))
        raise
    finally:
        await heart.end()
