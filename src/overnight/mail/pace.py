"""How fast each recipient domain gets its mail, in this process: a rate limit, and less of it after a 421.

A domain that says `too much` is slowed down to one mail in two seconds, then by half for each further time, for ten
minutes from the latest. Mails that would wait longer than a minute for it are deferred, so that others pass.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from overnight.clock import Clock, token
from overnight.errors import Deferred
from overnight.ledger.flow import InMemory
from overnight.limits import Limit, Rate
from overnight.mail.replies import Throttled

SLOW_FOR = 600.0  # seconds
SLOWEST = 64  # seconds for one mail
KNOWN = 1000  # domains with a limit of their own at a time: the one that was mailed longest ago and is not slow goes


@dataclass(frozen=True, slots=True)
class Slow:
    """One mail in `per` seconds."""

    per: int
    count: int = 1


@dataclass(slots=True)
class _Domain:
    limit: Limit
    slow: int = 0  # seconds for one mail; 0: as fast as configured
    until: float = 0.0


class Pace:
    """The domains; `rate` is what each may get, None for no limit."""

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._rate, self._clock = rate, clock
        self._domains: OrderedDict[str, _Domain] = OrderedDict()

    @asynccontextmanager
    async def turn(self, domain: str) -> AsyncIterator[None]:
        """Send one mail to that domain within. Raises Deferred when its queue is too long."""
        found = self._of(domain)
        grant = await found.limit.acquire(messages=1) if found else None
        try:
            yield
        except Throttled:
            self._slow_down(domain)
            raise
        except Deferred:
            if grant:
                grant.refund()
            raise

    def _of(self, domain: str) -> _Domain | None:
        found = self._domains.get(domain)
        if found and found.slow and found.until < self._clock.monotonic():
            found = self._domains.pop(domain) and None
        if found is None and self._rate is None:
            return None
        return self._put(domain, found or _Domain(self._limit(domain, self._rate)))

    def _slow_down(self, domain: str) -> None:
        known = self._domains.get(domain)
        slow = min(SLOWEST, known.slow * 2) if known and known.slow else 2
        limit = self._limit(domain, self._slower(slow))
        self._put(domain, _Domain(limit, slow, self._clock.monotonic() + SLOW_FOR))

    def _slower(self, seconds: int) -> Rate:
        """The slower of the two: a domain may have been configured to get even less."""
        if self._rate is not None and self._rate.per > seconds * self._rate.count:
            return self._rate
        return Slow(seconds)

    def _put(self, domain: str, new: _Domain) -> _Domain:
        self._domains[domain] = new
        self._domains.move_to_end(domain)
        if len(self._domains) > KNOWN:
            self._forget()
        return new

    def _forget(self) -> None:
        now = self._clock.monotonic()
        quick = (domain for domain, known in self._domains.items() if not known.slow or known.until < now)
        if (oldest := next(quick, None)) is not None:
            del self._domains[oldest]

    def _limit(self, domain: str, rate: Rate | None) -> Limit:
        rates = {} if rate is None else {"messages": rate}
        return Limit(f"mail to {domain}", rates, self._clock, InMemory(), token(6))
