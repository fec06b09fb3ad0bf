"""One request to another side, with all that bounds it: breaker, rate limits, and the quota of its repetitions."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from overnight.breaker import Breaker, Breakers
from overnight.clock import Clock
from overnight.errors import Deferred, Transient
from overnight.ledger import Ledger
from overnight.limits import Grant, Limit, Limits, Rate
from overnight.retry import Quota


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another side: anthropic, github, a mail relay, a bucket."""

    limit: Limit
    breaker: Breaker
    quota: Quota = field(default_factory=Quota)

    @asynccontextmanager
    async def request(self, **weights: int) -> AsyncIterator[Grant]:
        """Send one HTTP request, or one message, within; settle the grant there with what was really used.

        Waits for the rate limits. A Transient error that says when to come back pauses all callers of all processes.
        Raises Deferred while the breaker is open and when the wait is too long, Permanent when no wait helps.
        """
        await self.breaker.check()  # nobody queues for a side that is down
        grant = await self.limit.acquire(**weights)
        sent = False
        try:
            async with self.breaker.guard():
                sent = True
                yield grant
        except Transient as error:
            if sent and error.after and not isinstance(error, Deferred):
                self.limit.pause(error.after)
            raise
        finally:
            if not sent:
                grant.refund()


class Dependencies:
    """All other sides of a process, by name; those of one ledger share their limits and breakers.

    A name may go on after a colon: `smtp:relay.example.org:587` has the rates of `smtp`, and everything else its own.
    """

    def __init__(self, rates: Mapping[str, Mapping[str, Rate]], clock: Clock, ledger: Ledger | None = None) -> None:
        self._limits = Limits(rates, clock, ledger)
        self._breakers = Breakers(clock, ledger)
        self._known: dict[str, Dependency] = {}

    def of(self, name: str) -> Dependency:
        """Return the dependency `name`; the same object for all callers."""
        if name not in self._known:
            self._known[name] = Dependency(self._limits.of(name), self._breakers.of(name))
        return self._known[name]

    async def close(self) -> None:
        """Return what was leased and not used."""
        await self._limits.close()
