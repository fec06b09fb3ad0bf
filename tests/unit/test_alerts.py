"""Alerts: one message when something begins to be wrong, one when it is over, and a reminder a day."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overnight.alerts import Alarm, Alerter, firing, of_run, of_success_rate
from overnight.errors import Stop
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.tables import alert
from overnight.outcome import Outcome, Scope, State
from overnight.redact import Redactor
from tests.slots import NOW, ManualClock, begin, open_ledger, rows

DAY = 86_400
BUG = Alarm("bug", "greet", "3 items met a bug")


@dataclass
class Postbox:
    """Takes the mails of alerts; `broken` refuses them."""

    sent: list[tuple[str, str, str]] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    broken: bool = False

    async def send_unnoted(self, scope: Scope, to: str, template: str, context: Mapping[str, Any]) -> str:
        return await self.send(scope, to, template, context)

    async def send(self, scope: Scope, to: Any, template: str, context: Mapping[str, Any]) -> str:
        if self.broken:
            raise ConnectionError("relay of sk-123 is down")
        assert template == "alert"
        self.scopes.append(scope)
        self.sent.append((to, context["change"], context["alarm"].message))
        return "<id>"

    @property
    def changes(self) -> list[str]:
        return [change for _, change, _ in self.sent]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[Ledger]:
    ledger = open_ledger(tmp_path, clock)
    yield ledger
    ledger.close()


@pytest.fixture
def post() -> Postbox:
    return Postbox()


def alerter(ledger: Ledger, post: Postbox, *, webhooks: tuple[str, ...] = ()) -> Alerter:
    repeat = timedelta(hours=24)
    return Alerter(
        ledger, ledger.clock, post, Redactor(frozenset({"sk-123456"})), repeat, ("ops@example.org",), webhooks
    )


async def test_what_lasts_is_told_once_and_again_after_a_day(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    for seconds in (0, 60, DAY - 61, 1, DAY - 1, 1):
        clock.move(seconds)
        await alerter(ledger, post).raise_all([BUG])
    assert post.changes == ["new", "reminder", "reminder"]
    assert rows(ledger, alert)[0]["times"] == 6


async def test_what_is_over_is_told_once_and_may_begin_anew(ledger: Ledger, post: Postbox, clock: ManualClock) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG])
    for _ in range(2):
        clock.move(60)
        await tell.settle_run("greet", [], worked=1, pending=0)
    assert post.changes == ["new", "over"]
    assert ledger.reading(firing) == []
    await tell.raise_all([BUG])
    assert post.changes == ["new", "over", "new"]
    assert rows(ledger, alert)[0]["times"] == 1


async def test_what_never_began_is_not_over(ledger: Ledger, post: Postbox) -> None:
    await alerter(ledger, post).raise_all([Alarm("bug", "greet", "fine", firing=False)])
    assert (post.sent, rows(ledger, alert)) == ([], [])


async def test_a_restart_repeats_nothing(tmp_path: Path, post: Postbox, clock: ManualClock) -> None:
    for _ in range(3):
        ledger = open_ledger(tmp_path, clock)
        await alerter(ledger, post).raise_all([BUG])
        ledger.close()
    assert post.changes == ["new"]


async def test_a_run_settles_its_own_job_and_leaves_standing_rules_alone(ledger: Ledger, post: Postbox) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all(
        [BUG, Alarm("bug", "other", "-"), Alarm("missed", "greet", "-"), Alarm("success_rate", "greet", "-")]
    )
    await tell.settle_run("greet", [Alarm("stopped", "greet", "401")], worked=1, pending=0)
    assert {row["key"] for row in ledger.reading(firing)} == {
        "bug:other",
        "success_rate:greet",
        "stopped:greet",
    }
    assert ("ops@example.org", "over", "greet: over since the last run; it was: 3 items met a bug") in post.sent


async def test_only_a_run_that_worked_ends_an_alert_and_a_stop_only_when_nothing_is_left(
    ledger: Ledger, post: Postbox
) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG, Alarm("stopped", "greet", "401")])
    left = []
    for worked, pending in ((0, 0), (1, 5), (1, 0)):
        await tell.settle_run("greet", [], worked=worked, pending=pending)
        left.append({row["rule"] for row in ledger.reading(firing)})
    assert left == [{"bug", "stopped"}, {"stopped"}, set()]


def test_a_budget_that_runs_out_is_an_alert_of_its_own() -> None:
    [alarm] = of_run(SCOPE, [], None, {"budget": ["no budget for 2 items"]}, [], ["nearly spent"])
    assert alarm.key == "budget:greet"
    assert alarm.message.endswith("no budget for 2 items; nearly spent")


async def test_a_channel_that_fails_raises_no_alert_of_its_own_and_the_others_are_told(
    ledger: Ledger, post: Postbox
) -> None:
    post.broken = True
    async with hook() as (url, got):
        await alerter(ledger, post, webhooks=("http://127.0.0.1:1/", url)).raise_all([BUG])
    assert got == [{"text": "Alert: 3 items met a bug"}]
    assert [row["key"] for row in ledger.reading(firing)] == ["bug:greet"]


async def test_a_webhook_hears_of_beginning_and_end(ledger: Ledger, post: Postbox) -> None:
    async with hook() as (url, got):
        tell = alerter(ledger, post, webhooks=(url,))
        await tell.raise_all([BUG])
        await tell.raise_all([Alarm("bug", "greet", "all well", firing=False)])
    assert [one["text"] for one in got] == ["Alert: 3 items met a bug", "Resolved: all well"]


@asynccontextmanager
async def hook() -> AsyncIterator[tuple[str, list[Any]]]:
    """A chat's webhook on this machine."""
    got: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        got.append(json.loads(await request.text()))
        return web.Response()

    application = web.Application()
    application.router.add_post("/", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/", got
    await runner.cleanup()


async def test_secrets_stay_out_of_messages_and_of_the_ledger(ledger: Ledger, post: Postbox) -> None:
    await alerter(ledger, post).raise_all([Alarm("bug", "greet", "refused sk-123456")])
    assert "sk-123456" not in post.sent[0][2]
    assert "sk-123456" not in rows(ledger, alert)[0]["message"]


async def test_each_message_has_a_scope_of_its_own_so_that_none_is_taken_for_another(
    ledger: Ledger, post: Postbox, clock: ManualClock
) -> None:
    tell = alerter(ledger, post)
    await tell.raise_all([BUG, Alarm("stopped", "greet", "401")])
    clock.move(DAY)
    await tell.raise_all([BUG])
    assert len({(scope.slot, scope.key) for scope in post.scopes}) == 3


SCOPE = Scope("greet", "2026-11-22", "", "r_1")


def failed(*keys: str) -> list[Outcome]:
    return [Outcome(key, "failed", error_class="bug", error_code="ValueError", error=f"oops {key}") for key in keys]


def test_a_good_run_has_nothing_to_tell() -> None:
    assert of_run(SCOPE, [], None, {}, []) == []


def test_many_bugs_are_one_alert_that_names_the_first() -> None:
    [alarm] = of_run(SCOPE, failed("a", "b", "c", "d", "e"), None, {}, [])
    assert alarm.key == "bug:greet"
    assert alarm.message == ("greet 2026-11-22 (r_1): 5 items met a bug in the job: a: oops a; b: oops b; c: oops c")


def test_a_run_tells_why_it_stopped_what_its_job_warned_of_and_of_fallbacks() -> None:
    found = of_run(SCOPE, [], Stop("the key is refused"), {"feeds": ["a: 404", "a: 404"]}, ["x", "y", "z", "w"])
    assert {alarm.rule: alarm.message.partition(": ")[2] or alarm.message for alarm in found} == {
        "stopped": "the key is refused",
        "model": "a fallback stood in for the model: x; y; z; and 1 more",
        "feeds": "a: 404",
    }


@dataclass(frozen=True)
class Rule:
    below: Decimal = Decimal("0.95")
    recover: Decimal = Decimal("0.97")
    window: timedelta = timedelta(hours=24)
    min_items: int = 20


@dataclass(frozen=True)
class Rules:
    success_rate: Rule = Rule()
    repeat: timedelta = timedelta(hours=24)


def ran(ledger: Ledger, slot: str = "2026-11-22", *, rehearsal: bool = False, **counts: int) -> None:
    scope = begin(ledger, slot=slot, rehearsal=rehearsal)
    states: Sequence[State] = [state for state, n in counts.items() for _ in range(n)]  # type: ignore[misc]
    keys = [(n, f"k{n}", "1") for n, _ in enumerate(states)]
    ledger.writing(lambda connection: plan(connection, scope, keys))
    now = ledger.clock.now()
    entries = [Recorded(scope, "pending", Outcome(f"k{n}", state), now) for n, state in enumerate(states)]
    ledger.writing(lambda connection: record(connection, entries))


@pytest.mark.parametrize(
    ("counts", "firing_now"),
    [
        ({"ok": 94, "failed": 6}, True),
        ({"ok": 95, "failed": 5}, None),
        ({"ok": 96, "failed": 4}, None),
        ({"ok": 97, "failed": 3}, False),
        ({"failed": 19}, None),
        ({"failed": 20}, True),
        ({"ok": 18, "unknown": 1, "retry": 1}, True),
        ({"ok": 20, "skipped": 500}, False),
    ],
    ids=str,
)
async def test_when_a_success_rate_is_too_low(ledger: Ledger, counts: dict[str, int], firing_now: bool | None) -> None:
    ran(ledger, **counts)
    found = await of_success_rate(ledger, Rules(), "greet", ledger.clock)
    assert [alarm.firing for alarm in found] == ([] if firing_now is None else [firing_now])


async def test_the_message_names_figures_and_target(ledger: Ledger) -> None:
    ran(ledger, ok=15, failed=5)
    [alarm] = await of_success_rate(ledger, Rules(), "greet", ledger.clock)
    assert alarm.message == "greet: 15 of 20 items succeeded within 24 h (75.0%); the target is 95%"


async def test_other_jobs_rehearsals_and_older_slots_do_not_count(ledger: Ledger, clock: ManualClock) -> None:
    ran(ledger, "2026-11-20", failed=50)
    clock.move(DAY + 1)
    ran(ledger, "2026-11-22~abc", rehearsal=True, failed=50)
    ran(ledger, "2026-11-23", ok=20)
    assert [alarm.firing for alarm in await of_success_rate(ledger, Rules(), "greet", clock)] == [False]
    assert await of_success_rate(ledger, Rules(), "other", clock) == []
    assert clock.now() > NOW
