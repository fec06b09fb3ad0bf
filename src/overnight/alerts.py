"""Alerts: one message when something begins to be wrong, one when it is over, and a reminder a day.

State is in the ledger, so that a restart repeats nothing. A channel that fails is logged and never raises an alert of
its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from overnight import logs
from overnight.clock import Clock
from overnight.errors import Stop
from overnight.ledger import Ledger
from overnight.ledger.statements import put
from overnight.ledger.tables import alert, item, run, slot
from overnight.outcome import Outcome, Scope
from overnight.redact import Redactor

STANDING = ("success_rate",)  # rules that are not settled by the next run of the job
MOST_NAMED = 3  # failures named in one message; the rest is counted

Change = Literal["new", "over", "reminder"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is wrong, or with `firing=False` is not wrong any more. `rule` and `scope` identify it."""

    rule: str
    scope: str
    message: str
    firing: bool = True

    @property
    def key(self) -> str:
        """`rule:scope`."""
        return f"{self.rule}:{self.scope}"


class SuccessRule(Protocol):
    """When a success rate is too low, and from where on it is good again."""

    @property
    def below(self) -> Decimal: ...
    @property
    def recover(self) -> Decimal: ...
    @property
    def window(self) -> timedelta: ...
    @property
    def min_items(self) -> int: ...


class AlertRules(Protocol):
    """The `alerts:` part of schedule.yaml, as far as it is needed here."""

    @property
    def success_rate(self) -> Any: ...
    @property
    def repeat(self) -> timedelta: ...


class Post(Protocol):
    """Who sends the mail of an alert."""

    async def send(self, scope: Scope, to: Any, template: str, context: Mapping[str, Any]) -> str: ...
    async def send_unnoted(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str: ...


def of_run(
    scope: Scope,
    bugs: Sequence[Outcome],
    stopped: Stop | None,
    notices: Mapping[str, Sequence[str]],
    model_notices: Sequence[str],
    budget_notices: Sequence[str] = (),
) -> list[Alarm]:
    """What a run has to tell: bugs, why it stopped, what its job warned of, fallbacks, budgets running out. Pure."""
    where = f"{scope.job} {scope.slot} ({scope.run_id})"
    found: list[Alarm] = []
    if stopped is not None:
        found.append(Alarm("stopped", scope.job, f"{where} stopped: {stopped}"))
    if bugs:
        named = "; ".join(f"{bug.key}: {bug.error}" for bug in bugs[:MOST_NAMED])
        found.append(Alarm("bug", scope.job, f"{where}: {len(bugs)} items met a bug in the job: {named}"))
    if model_notices:
        found.append(Alarm("model", scope.job, f"{where}: a fallback stood in for the model: {_some(model_notices)}"))
    topics = {**notices, "budget": [*notices.get("budget", ()), *budget_notices]}
    found.extend(Alarm(topic, scope.job, f"{where}: {_some(told)}") for topic, told in topics.items() if told)
    return found


def _some(messages: Sequence[str]) -> str:
    shown = "; ".join(dict.fromkeys(messages[:MOST_NAMED]))
    return shown if len(messages) <= MOST_NAMED else f"{shown}; and {len(messages) - MOST_NAMED} more"


async def of_success_rate(ledger: Ledger, rules: AlertRules, job: str, clock: Clock) -> list[Alarm]:
    """Whether the job's success rate within the window is too low; nothing while too few items say anything.

    Between `below` and `recover` the alert stays as it is, so that it does not flap.
    """
    rule: SuccessRule = rules.success_rate
    ok, worked = await ledger.read(_success, job, clock.now() - rule.window)
    if worked < rule.min_items:
        return []
    share = Decimal(ok) / worked
    message = f"{job}: {ok} of {worked} items succeeded within {_hours(rule.window)} ({share:.1%})"
    if share < rule.below:
        return [Alarm("success_rate", job, f"{message}; the target is {rule.below:.0%}")]
    return [Alarm("success_rate", job, message, firing=False)] if share >= rule.recover else []


def _hours(window: timedelta) -> str:
    return f"{window.total_seconds() / 3600:g} h"


def _success(connection: Connection, job: str, since: datetime) -> tuple[int, int]:
    ok, worked = connection.execute(_WORKED, {"job": job, "since": since}).one()
    return int(ok or 0), int(worked or 0)


_recent = select(item.c.key).where(
    item.c.job == slot.c.job, item.c.slot == slot.c.slot, item.c.ended_at >= bindparam("since")
)
# Of slots that had no run lately nobody reads the items: there may be a million of each.
_lately = select(run.c.slot).where(
    run.c.job == bindparam("job"), run.c.ended_at.is_(None) | (run.c.ended_at >= bindparam("since"))
)
_WORKED = (
    select(func.sum(slot.c.ok), func.sum(slot.c.ok + slot.c.failed + slot.c.retry + slot.c.unknown))
    .where(slot.c.job == bindparam("job"), slot.c.rehearsal.is_(False))
    .where(slot.c.slot.in_(_lately), _recent.exists())
)


_BY_KEY = select(alert).where(alert.c.key == bindparam("key"))


def note(connection: Connection, alarm: Alarm, now: datetime, repeat: timedelta) -> tuple[Change | None, datetime]:
    """Move the alert's state; returns what is to be told, if anything, and when the trouble began."""
    old = connection.execute(_BY_KEY, {"key": alarm.key}).mappings().one_or_none()
    was_firing = old is not None and old["state"] == "firing"
    if not alarm.firing and not was_firing:
        return None, now
    first = old["first_at"] if old is not None and was_firing else now
    change = _change(alarm, old, now, repeat, was_firing=was_firing)
    put(
        connection,
        alert,
        {
            "key": alarm.key, "rule": alarm.rule, "scope": alarm.scope, "message": alarm.message,
            "state": "firing" if alarm.firing else "resolved", "first_at": first, "last_at": now,
            "times": (old["times"] if old is not None and was_firing else 0) + 1,
            "notified_at": now if change or old is None else old["notified_at"],
        },
    )  # fmt: skip
    return change, first


def _change(
    alarm: Alarm, old: RowMapping | None, now: datetime, repeat: timedelta, *, was_firing: bool
) -> Change | None:
    if not alarm.firing:
        return "over"
    if not was_firing or old is None:
        return "new"
    return "reminder" if old["notified_at"] is None or now - old["notified_at"] >= repeat else None


def firing(connection: Connection) -> Sequence[RowMapping]:
    """Alerts that are not over, newest first."""
    return connection.execute(_FIRING).mappings().all()


_FIRING = select(alert).where(alert.c.state == "firing").order_by(alert.c.last_at.desc())


@dataclass(frozen=True, slots=True)
class Alerter:
    """Tells the operators. `emails` and `webhooks` are those of the channels in `alerts.to`."""

    ledger: Ledger
    clock: Clock
    post: Post
    redactor: Redactor
    repeat: timedelta
    emails: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()

    async def settle_run(self, job: str, found: Sequence[Alarm], *, worked: int, pending: int) -> None:
        """Raise what a run found, and declare over what earlier runs of the job found and this one did not.

        A run that `worked` on no item has shown nothing; nor has one that leaves items `pending` shown that what
        stopped an earlier run is over.
        """
        rules = {alarm.rule for alarm in found} | set(STANDING) | ({"stopped"} if pending else set())
        open_alerts = await self.ledger.read(firing)
        known = {row["key"] for row in open_alerts}
        over = [
            Alarm(row["rule"], job, f"{job}: over since the last run; it was: {row['message']}", firing=False)
            for row in open_alerts
            if worked and row["scope"] == job and row["rule"] not in rules
        ]
        await self.raise_all([*(alarm for alarm in found if alarm.firing or alarm.key in known), *over])

    async def raise_all(self, alarms: Sequence[Alarm]) -> None:
        """Note each alarm and tell what changed."""
        for alarm in alarms:
            now = self.clock.now()
            clean = Alarm(alarm.rule, alarm.scope, self.redactor.text(alarm.message), alarm.firing)
            change, since = await self.ledger.write(lambda c, a=clean, n=now: note(c, a, n, self.repeat))  # type: ignore[misc]
            if change is not None:
                await self._tell(clean, change, since, now)

    async def last_words(self, message: str) -> None:
        """Try once to tell what no ledger can note: that the ledger itself cannot be written."""
        now, clean = self.clock.now(), Alarm("ledger", "", self.redactor.text(message))
        logs.get().error("alert", alert=clean.key, change="new", alert_message=clean.message)
        scope = Scope("alert", f"{now:%Y-%m-%dT%H:%M:%S.%fZ}", clean.key, "")
        context = {"alarm": clean, "change": "new", "since": now, "now": now}
        await self._each(clean, "new", lambda address: self.post.send_unnoted(scope, address, "alert", context))

    async def _tell(self, alarm: Alarm, change: Change, since: datetime, now: datetime) -> None:
        log = logs.get()
        write = log.info if change == "over" else log.error
        write("alert", alert=alarm.key, change=change, alert_message=alarm.message)
        context = {"alarm": alarm, "change": change, "since": since, "now": now}
        scope = Scope("alert", f"{now:%Y-%m-%dT%H:%M:%S.%fZ}", alarm.key, "")
        await self._each(alarm, change, lambda address: self.post.send(scope, address, "alert", context))

    async def _each(self, alarm: Alarm, change: Change, send: Callable[[str], Awaitable[str]]) -> None:
        for address in self.emails:
            await self._guarded(f"mail to {address}", send(address))
        for url in self.webhooks:
            await self._guarded(
                "webhook", _post(url, f"{'Resolved' if change == 'over' else 'Alert'}: {alarm.message}")
            )

    async def _guarded(self, channel: str, sending: Any) -> None:
        try:
            async with asyncio.timeout(20):
                await sending
        except Exception as error:  # noqa: BLE001  a channel that fails must not become an alert of its own
            logs.get().warning("an alert could not be delivered", channel=channel, error=self.redactor.text(str(error)))


async def _post(url: str, text: str) -> None:
    """Post in the form that Slack and its like understand."""
    import aiohttp  # noqa: PLC0415  a quarter of a second that most alerts do not need

    async with aiohttp.ClientSession() as session, session.post(url, json={"text": text}) as response:
        response.raise_for_status()
