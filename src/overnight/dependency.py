"""One request to another side, with all that bounds it: breaker, rate limits, and the quota of its repetitions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from overnight.breaker import Breaker, Breakers
from overnight.clock import Clock
from overnight.errors import Deferred, Stop, Transient
from overnight.ledger import Ledger
from overnight.limits import Grant, Limit, Limits, Rate
from overnight.retry import Quota

ALL = ""  # everything another side offers


class Refusals:
    """What turns away everybody, such as a wrong key: whoever waits for a request hears of it at once and sends none.

    `of` is what is asked for, a model say: one that does not exist says nothing about the others.
    """

    def __init__(self) -> None:
        self._known: dict[str, Stop] = {}
        self._waiting: dict[asyncio.Timeout, str] = {}

    def tell(self, error: Stop, of: str = ALL) -> None:
        """Turn away all who wait for `of`, and all who come."""
        self._known.setdefault(of, error)
        for timeout in [each for each, name in self._waiting.items() if of in (ALL, name)]:
            del self._waiting[timeout]
            timeout.reschedule(0)

    @asynccontextmanager
    async def waiting(self, of: str) -> AsyncIterator[Callable[[], None]]:
        """Wait for leave to send within, call what this gives, then send. Raises the Stop that was told of."""
        self._check(of)
        try:
            async with asyncio.timeout(None) as timeout:
                self._waiting[timeout] = of

                def send() -> None:
                    self._waiting.pop(timeout, None)
                    timeout.reschedule(None)
                    self._check(of)

                try:
                    yield send
                finally:
                    self._waiting.pop(timeout, None)
        except TimeoutError:
            self._check(of)
            raise

    def _check(self, of: str) -> None:
        for name in (ALL, of):
            if known := self._known.get(name):
                raise Stop(str(known), code=known.code) from known


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another side: anthropic, github, a mail relay, a bucket."""

    limit: Limit
    breaker: Breaker
    quota: Quota = field(default_factory=Quota)
    refusals: Refusals = field(default_factory=Refusals)

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
