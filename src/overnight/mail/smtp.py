"""Mail through an SMTP relay: a small pool of connections, each with one message under way at most."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from overnight.clock import Clock
from overnight.deadline import off_the_clock
from overnight.errors import Deferred, OvernightError, Unknown
from overnight.mail import fuse
from overnight.mail.conversation import Conversation, LostBeforeText
from overnight.mail.dialling import Unreachable, dial
from overnight.mail.line import Lost
from overnight.mail.relay import Relay
from overnight.mail.replies import RETRY_FOR
from overnight.mail.transport import Intent, Letter

PER_CONNECTION = 100  # messages; relays cut longer ones
IDLE_MAX = 60.0  # seconds; an older connection has probably been closed by the server
DOWN_FOR = 30.0  # seconds for which an unreachable relay is not asked again: a run must not time out once per item


class Smtp:
    """The transport through a relay. At most `relay.connections` messages are under way, so as many may be unknown."""

    real = True
    reconciles = False

    def __init__(self, relay: Relay, clock: Clock) -> None:
        self.place = relay.place
        self._relay = relay
        self._clock = clock
        self._turns = asyncio.Semaphore(relay.connections)
        self._idle: list[Conversation] = []
        self._down_until = 0.0

    async def send(self, letter: Letter, intent: Intent) -> None:
        """Hand one message over; a connection that was closed before the text is replaced once."""
        async with self._turn():
            try:
                return await self._attempt(letter, intent)
            except LostBeforeText as error:
                if error.silent:  # another connection would be as silent, for as long
                    raise self._lost(error) from error
            self._drop_idle()  # what killed this one has killed them all
            try:
                return await self._attempt(letter, intent)
            except LostBeforeText as error:
                raise self._lost(error) from error

    async def check(self) -> None:
        """Connect, agree on TLS and log in, as before a message. Raises what `send` raises for these."""
        try:
            await self._give_back(await self._open())
        except LostBeforeText as error:
            raise self._lost(error) from error

    async def delivered(self, letter: Letter) -> bool:  # noqa: ARG002
        """Say no: a relay cannot be asked, `reconciles` is False."""
        return False

    async def close(self) -> None:
        """Say goodbye on every connection."""
        idle, self._idle = self._idle, []
        for conversation in idle:
            await _goodbye(conversation)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the connections. Its wait is not the item's fault: a relay may take ten minutes for a reply."""
        async with off_the_clock():
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    async def _attempt(self, letter: Letter, intent: Intent) -> None:
        async with self._conversation() as conversation:
            await conversation.deliver(letter, intent)

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[Conversation]:
        """Lend a connection for one message; one with a lost reply is closed, or that would be taken for the next's."""
        conversation = await self._reusable() or await self._open()
        try:
            yield conversation
        except (Unknown, LostBeforeText):
            conversation.line.close()
            raise
        except OvernightError:
            await self._give_back(conversation)
            raise
        except BaseException:  # cancelled in the middle of a conversation
            conversation.line.close()
            raise
        else:
            await self._give_back(conversation)

    async def _reusable(self) -> Conversation | None:
        while self._idle:
            conversation = self._idle.pop()
            if not conversation.line.quiet:
                conversation.line.close()
            elif self._clock.monotonic() - conversation.used_at < IDLE_MAX:
                return conversation
            else:
                await _goodbye(conversation)
        return None

    async def _give_back(self, conversation: Conversation) -> None:
        if not conversation.line.quiet:
            conversation.line.close()
        elif conversation.sent < PER_CONNECTION:
            conversation.used_at = self._clock.monotonic()
            self._idle.append(conversation)
        else:
            await _goodbye(conversation)

    def _drop_idle(self) -> None:
        for conversation in self._idle:
            conversation.line.close()
        self._idle.clear()

    async def _open(self) -> Conversation:
        fuse.check()
        if self._clock.monotonic() < self._down_until:
            told = f"{self.place} cannot be reached: it did not answer a moment ago"
            raise Unreachable(told, code="smtp_unreachable", within=RETRY_FOR)
        try:
            return Conversation(await dial(self._relay))
        except Lost as lost:
            raise LostBeforeText(lost) from lost
        except Unreachable:
            self._down_until = self._clock.monotonic() + DOWN_FOR
            raise

    def _lost(self, error: LostBeforeText) -> Deferred:
        if error.silent:
            said = f"{self.place} stopped answering before it took the message ({error})"
        else:
            said = f"{self.place} closed the connection twice before it took the message ({error})"
        return Deferred(said, code="smtp_lost", within=RETRY_FOR)


async def _goodbye(conversation: Conversation) -> None:
    with suppress(Lost):
        conversation.line.write(b"QUIT\r\n")
        await conversation.line.reply()
    conversation.line.close()
