"""One open connection to a relay: commands out, replies in, in order; silence and nonsense end it.

What it has lost it never gives back: a late reply would be taken for that of the next message.
"""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import cast

LONGEST = 8192  # bytes without the end of a line: more is no reply
_REPLY = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the relay; the lines of a long one are joined."""

    code: int
    text: str


class Lost(Exception):
    """The connection is of no use any more; `silent`: the relay is there and says nothing."""

    def __init__(self, why: str, *, silent: bool = False) -> None:
        super().__init__(why)
        self.silent = silent


class Line(asyncio.Protocol):
    """Takes over a transport that is connected, encrypted and logged in. `timeout` in seconds, for each reply."""

    def __init__(self, transport: asyncio.BaseTransport, timeout: float, extensions: frozenset[str]) -> None:
        self.extensions = extensions
        self._transport = cast("asyncio.Transport", transport)
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._texts: list[str] = []
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Lost | None = None
        self._transport.set_protocol(self)

    @property
    def quiet(self) -> bool:
        """Whether it can take a message: it is open, and nobody has said anything that was not asked for."""
        return self._lost is None and not self._replies and not self._buffer and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send. Raises Lost when nothing of it can have gone out."""
        if self._lost is not None:
            raise self._lost
        self._transport.write(data)

    async def reply(self, at_least: float = 0.0) -> Reply:
        """Wait for the next reply, `at_least` so many seconds. Raises Lost."""
        if not self._replies and self._lost is None:
            self._waiter = self._loop.create_future()
            longest = max(self._timeout, at_least)
            silence = f"no reply within {longest:g} s"
            timer = self._loop.call_later(longest, lambda: self.lose(Lost(silence, silent=True)))
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self._replies:
            return self._replies.popleft()
        raise self._lost or Lost("closed")

    def close(self) -> None:
        """Hang up at once."""
        self.lose(Lost("closed by us"))

    def lose(self, why: Lost) -> None:
        """Never use it again."""
        self._lost = self._lost or why
        self._transport.abort()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Cut what comes into replies."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self._lost is None:  # what follows nonsense is none the better for looking like a reply
                self._line(line.rstrip(b"\r"))
        if len(self._buffer) > LONGEST or len(self._texts) > LONGEST // 32:
            self.lose(Lost("a reply without an end"))

    def eof_received(self) -> None:
        """The relay has hung up."""
        self.lose(Lost("the relay closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The network has."""
        self.lose(Lost(str(exc) if exc else "the relay closed the connection"))

    def _line(self, line: bytes) -> None:
        found = _REPLY.fullmatch(line)
        if found is None:
            self.lose(Lost(f"no reply of a mail server: {line[:60]!r}"))
            return
        self._texts.append((found[3] or b"").decode("utf-8", "replace"))
        if found[2] != b"-":
            self._replies.append(Reply(int(found[1]), "\n".join(self._texts)))
            self._texts.clear()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
