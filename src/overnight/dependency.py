"""Requests to another side, with all that bounds them: breaker, rate limits, repetitions and their quota."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from overnight import retry
from overnight.breaker import Breaker, Breakers, Policy
from overnight.clock import Clock, SystemClock
from overnight.errors import Deferred, Transient
from overnight.ledger import Ledger
from overnight.limits import Grant, Limit, Limits, Rate
from overnight.refusals import Refusals
from overnight.retry import Quota, Retry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manner:
    """How often a kind of other side is asked again, and what opens its circuit."""

    retry: Retry = field(default_factory=Retry)
    policy: Policy = field(default_factory=Policy)


USUAL = Manner()
# Processes that ask once a night would each count to one and never to five: here, whoever has given up speaks for all.
MANNERS: Mapping[str, Manner] = {
    "anthropic": Manner(policy=Policy(probe=330.0)),  # a probe that hangs ends after `model.DEADLINE`, and has to count
    "github": Manner(Retry(max=60.0)),
    "s3": Manner(Retry(attempts=3), Policy(in_a_row=3)),
    "feed": Manner(Retry(attempts=2), Policy(in_a_row=2)),
}


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another side: anthropic, github, a mail relay, the endpoint of a bucket, the host of a feed.

    `breaker_of` gives the breaker of a part of it, such as a model, which may be down while the others are not.
    """

    limit: Limit
    breaker: Breaker
    breaker_of: Callable[[str], Breaker]
    clock: Clock
    retry: Retry
    quota: Quota = field(default_factory=Quota)
    refusals: Refusals = field(default_factory=Refusals)

    async def call(self, work: Callable[[], Awaitable[T]], **weights: int) -> T:
        """Await `work()` within a request of its own, again after Transient errors as often as this side is asked.

        Raises the last Transient, Deferred when asking again has to wait, and any other error at once.
        """
        failed: list[Transient] = []

        async def attempt(_number: int) -> T:
            try:
                async with self.request(None, **weights):
                    return await work()
            except Deferred as refused:
                if not failed:
                    raise
                why = failed[-1]  # the circuit that our own failures have opened is not what is wrong
                raise Deferred(f"{why}; {refused}", code=why.code, after=refused.after) from why
            except Transient as error:
                failed.append(error)
                raise

        return await retry.call(self.retry, attempt, clock=self.clock, quota=self.quota)

    @asynccontextmanager
    async def request(self, of: str | None = None, /, **weights: int) -> AsyncIterator[Grant]:
        """Send one HTTP request, or one message, within; settle the grant there with what was really used.

        `of` is the part of the other side that is asked; without one its breaker is that of the whole.
        Waits for the rate limits. A Transient error that says when to come back pauses all callers of all processes.
        Raises Deferred while the breaker is open and when the wait is too long, Permanent when no wait helps.
        """
        breaker = self.breaker if of is None else self.breaker_of(of)
        await breaker.check()  # nobody queues for a side that is down
        grant = await self.limit.acquire(**weights)
        sent = False
        try:
            async with breaker.guard():
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
        self.clock = clock
        self._known: dict[str, Dependency] = {}

    def of(self, name: str) -> Dependency:
        """Return the dependency `name`; the same object for all callers."""
        if name not in self._known:
            manner = MANNERS.get(name.partition(":")[0], USUAL)

            def breaker_of(part: str) -> Breaker:
                return self._breakers.of(f"{name}:{part}", manner.policy)

            breaker = self._breakers.of(name, manner.policy)
            self._known[name] = Dependency(self._limits.of(name), breaker, breaker_of, self.clock, manner.retry)
        return self._known[name]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Make these the ones that `dependencies()` gives within the block, and in tasks begun there."""
        token = _in_use.set(self)
        try:
            yield
        finally:
            _in_use.reset(token)

    async def close(self) -> None:
        """Return what was leased and not used."""
        await self._limits.close()


_in_use: ContextVar[Dependencies | None] = ContextVar("dependencies", default=None)


def dependencies() -> Dependencies:
    """Those of the run around us, for functions that a job calls without its run; else new ones, shared with nobody."""
    return _in_use.get() or Dependencies({}, SystemClock())
