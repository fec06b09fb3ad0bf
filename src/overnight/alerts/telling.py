"""Telling the operators: one message for all that changed, to each channel, as often as it takes.

A channel that fails is a line in the log, a message that waits in the ledger and a word in `/api/health`; it never
raises an alert of its own.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from html import escape
from itertools import accumulate
from typing import Any, Literal, Protocol

from overnight import logs
from overnight.alerts.alarm import Alarm
from overnight.alerts.book import (
    Delivery,
    Told,
    anything_to_tell,
    delivered,
    firing,
    note_all,
    postponed,
    take,
    worth_noting,
    write_up,
)
from overnight.alerts.rules import STANDING
from overnight.clock import Clock
from overnight.ledger import Ledger
from overnight.outcome import Scope
from overnight.proxies import proxy_for
from overnight.redact import Redactor

Send = Callable[[Scope, str, str, Mapping[str, Any]], Awaitable[str]]

CHAT_MAX = 1900  # characters of a message to a chat, and some for the last line: Discord refuses more than 2,000
LINE_MAX = 1000  # characters of one change in it
TIMEOUT = 20.0  # seconds for one message to one channel


class Post(Protocol):
    """Who sends the mail of an alert: once for each scope, or without a ledger to know it by."""

    async def send(self, scope: Scope, to: Any, template: str, context: Mapping[str, Any]) -> str: ...
    async def send_unnoted(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class Channel:
    """One address of a channel of schedule.yaml. The ledger knows it by its `id`, which does not give it away."""

    name: str
    kind: Literal["email", "webhook"]
    target: str = field(repr=False)

    @property
    def id(self) -> str:
        """`name/kind/digest`."""
        return f"{self.name}/{self.kind}/{hashlib.sha256(self.target.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Alerter:
    """Tells the operators. `channels` are those of `alerts.to`."""

    ledger: Ledger
    clock: Clock
    post: Post
    redactor: Redactor
    repeat: timedelta
    channels: tuple[Channel, ...] = ()

    async def settle_run(self, job: str, found: Sequence[Alarm], *, worked: int, pending: int) -> None:
        """Raise what a run found, and declare over what earlier runs of the job found and this one did not.

        A run that `worked` on no item has shown nothing; nor has one that leaves items `pending` shown that what
        stopped an earlier run is over.
        """
        rules = {alarm.rule for alarm in found if alarm.scope == job} | STANDING | ({"stopped"} if pending else set())
        open_alerts = await self.ledger.read(firing)
        over = [
            Alarm(row["rule"], job, f"{job}: over since the last run; it was: {row['message']}", firing=False)
            for row in open_alerts
            if worked and row["scope"] == job and row["rule"] not in rules
        ]
        await self.raise_all([*found, *over])

    async def raise_all(self, alarms: Sequence[Alarm]) -> None:
        """Note the alarms and tell what changed, in one message."""
        await noted(self.ledger, self.clock, self.redactor, alarms, self.repeat)
        await self.tell()

    async def tell(self) -> None:
        """Send what is untold, and again what a channel has refused; no channel waits for another."""
        await asyncio.gather(*(self.serve(channel) for channel in await due(self.ledger, self.clock, self.channels)))

    async def serve(self, channel: Channel) -> None:
        """Hand over what is due for one channel, one message after the other, until it refuses one."""
        while one := await self.ledger.write(partial(take, channel=channel.id, now=self.clock.now())):
            if not await self._deliver(channel, one):
                return  # the others for it are due, and would most likely meet the same

    async def last_words(self, message: str) -> None:
        """Try once to tell what no ledger can note: that the ledger itself cannot be written."""
        now, clean = self.clock.now(), self.redactor.text(message)
        logs.get().error("alert", alert="ledger:", change="new", alert_message=clean)
        one = Delivery(f"{now:%Y-%m-%dT%H:%M:%S.%fZ}", "", (Told("ledger", "", clean, "new", now, now),), now, 1)
        await asyncio.gather(*(self._attempt(channel, one, self.post.send_unnoted) for channel in self.channels))

    async def _deliver(self, channel: Channel, one: Delivery) -> bool:
        """Whether the channel has taken it; what it has not waits in the ledger."""
        error = await self._attempt(channel, one, self.post.send)
        if error is None:
            await self.ledger.write(partial(delivered, one=one))
            return True
        if not await self.ledger.write(partial(postponed, one=one, error=error, now=self.clock.now())):
            lines = "; ".join(told.line for told in one.changes)
            logs.get().error("an alert was given up after a day", channel=one.channel, alert_message=lines)
        return False

    async def _attempt(self, channel: Channel, one: Delivery, send: Send) -> str | None:
        """Hand one message over; returns what was wrong."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await _sending(channel, one, self.clock.now(), send)
        except Exception as error:  # noqa: BLE001  a channel that fails must not become an alert of its own
            text = self.redactor.text(str(error).replace(channel.target, channel.name))
            said = f"{type(error).__name__}: {text}"[:500]
            logs.get().warning("an alert could not be delivered", channel=channel.id, error=said)
            return said
        return None


async def due(ledger: Ledger, clock: Clock, channels: Sequence[Channel]) -> list[Channel]:
    """Write up what is untold; returns the channels for which a message is due."""
    now = clock.now()
    if not await ledger.read(anything_to_tell, now):
        return []
    ids = await ledger.write(partial(write_up, channels=[channel.id for channel in channels], now=now))
    return [channel for channel in channels if channel.id in ids]


async def noted(ledger: Ledger, clock: Clock, redactor: Redactor, alarms: Sequence[Alarm], repeat: timedelta) -> None:
    """Note the alarms in the ledger and log what changed; to tell it is the next step."""
    if not alarms:
        return
    now, clean = clock.now(), [_clean(alarm, redactor) for alarm in alarms]
    if not (worth := await ledger.read(worth_noting, clean)):
        return
    changes = await ledger.write(partial(note_all, alarms=worth, now=now, repeat=repeat))
    for alarm in worth:
        if (change := changes.get(alarm.key)) is not None:
            log = logs.get().info if change == "over" else logs.get().error
            log("alert", alert=alarm.key, change=change, alert_message=alarm.message)


def _sending(channel: Channel, one: Delivery, now: datetime, send: Send) -> Awaitable[object]:
    if channel.kind == "webhook":
        return _post(channel.target, _in_short([told.line for told in one.changes]))
    scope = Scope("alert", f"{one.created_at:%Y-%m-%dT%H:%M:%S.%fZ}", one.id, "")
    return send(scope, channel.target, "alert", {"changes": one.changes, "now": now})


def _in_short(lines: Sequence[str]) -> str:
    """What fits into one message of a chat; the first line does, cut where it has to be."""
    safe = [escape(line[:LINE_MAX], quote=False) for line in lines]  # or they could ping all, or hide a link
    sizes = accumulate(len(line) + 1 for line in safe)
    shown = max(1, sum(size <= CHAT_MAX for size in sizes))
    more = [f"and {len(safe) - shown} more: overnight alerts"] if shown < len(safe) else []
    return "\n".join([*safe[:shown], *more])


def _clean(alarm: Alarm, redactor: Redactor) -> Alarm:
    return Alarm(alarm.rule, alarm.scope, redactor.text(alarm.message), alarm.firing, alarm.hold)


async def _post(url: str, text: str) -> None:
    """Post in the form that Slack and its like understand."""
    import aiohttp  # noqa: PLC0415  a quarter of a second that most alerts do not need

    async with (
        aiohttp.ClientSession() as session,
        # a page that asks to log in would answer with 200, and has told nobody
        session.post(url, json={"text": text}, allow_redirects=False, proxy=proxy_for(url)) as response,
    ):
        if response.status // 100 != 2:
            raise OSError(f"HTTP {response.status}")  # aiohttp's own error would quote the address, which is a secret
