"""Items that wait: for how long, until when, and what becomes of those that nobody took up."""

import asyncio
from datetime import timedelta

import pytest

from overnight import Run, job
from overnight.batch import BACKOFF, Picked, outcome_of
from overnight.deadline import off_the_clock
from overnight.errors import (
    Deferred,
    Transient,
)
from overnight.runner import DEFERRED_FOR, term
from overnight.schedule import loads
from tests.slots import NOW
from tests.unit.batch.conftest import Slot

DAY = timedelta(days=1)


async def test_an_item_that_works_too_long_is_deferred_and_waiting_its_turn_is_not_work(here: Slot) -> None:
    @job(items=lambda _run: ["hangs", "waits"])
    async def greet(name: str, run: Run) -> None:
        if name == "hangs":
            await asyncio.sleep(10)
        async with off_the_clock():
            await asyncio.sleep(0.15)

    await here.work(greet, item_timeout=0.05)
    assert here.states == {"hangs": "retry", "waits": "ok"}
    hangs = here.one("hangs")
    assert hangs["error"] == "the item took longer than its item_timeout"
    assert (hangs["next_at"], hangs["expires_at"]) == (NOW + timedelta(minutes=5), NOW + DAY)


async def test_a_transient_error_is_tried_again_at_once_and_then_deferred(here: Slot) -> None:
    tries: list[str] = []

    @job(items=lambda _run: ["recovers", "stays down"])
    async def greet(name: str, run: Run) -> None:
        tries.append(name)
        if name == "stays down" or tries.count(name) < 3:
            raise Transient("503")

    await here.work(greet, concurrency=1, attempts=3)
    assert tries == ["recovers"] * 3 + ["stays down"] * 3
    assert here.states == {"recovers": "ok", "stays down": "retry"}
    assert here.one("recovers")["attempts"] == here.one("stays down")["attempts"] == 3


async def test_a_deferred_item_waits_for_its_time_and_expires(here: Slot) -> None:
    tries = 0

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        nonlocal tries
        tries += 1
        raise Deferred("greylisted", code="smtp_451")

    due: list[float] = []
    started = here.clock.now()
    await here.work(greet, expires=timedelta(hours=3))
    while here.one("ann")["state"] == "retry":
        due.append((here.one("ann")["next_at"] - here.clock.now()).total_seconds())
        assert (await here.work(greet, plan=False)).counts == {}, "its time has not come"
        here.clock.at = here.one("ann")["next_at"]
        await here.work(greet, plan=False, expires=timedelta(days=9))
    assert due == [300, 900, 3600, 3600]
    assert tries == 5, "the fifth would have been due after three hours"
    assert here.one("ann")["error_code"] == "smtp_451"
    assert here.clock.now() - started < timedelta(hours=3)


@pytest.mark.parametrize(
    ("timing", "lasts"),
    [
        ("every: 5m", timedelta(hours=1)),
        ("every: 6h", timedelta(hours=5)),
        ('cron: "0 8 * * 6"', DEFERRED_FOR),
        ('cron: "0 8 * * 6", max_age: 2d', timedelta(days=2)),
    ],
)
def test_a_deferred_item_waits_for_the_next_slot_but_not_for_days(timing: str, lasts: timedelta) -> None:
    settings = loads(f"version: 1\njobs: {{ greet: {{ {timing} }} }}\n", {}).jobs["greet"]
    assert term(settings, NOW) == NOW + lasts


async def test_a_mail_is_worth_a_day_though_its_item_was_given_a_week_before(here: Slot) -> None:
    reasons = [Deferred("the model is away"), Deferred("greylisted", within=86_400), Deferred("still", within=86_400)]

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        raise reasons.pop(0)

    await here.work(greet, expires=timedelta(days=7))
    assert here.one("ann")["expires_at"] == NOW + timedelta(days=7)
    for plan in (False, False):
        here.clock.at = here.one("ann")["next_at"]
        await here.work(greet, plan=plan, expires=timedelta(days=7))
        assert here.one("ann")["expires_at"] == NOW + timedelta(minutes=5) + DAY


async def test_an_item_nobody_took_up_in_time_fails_as_expired_and_a_person_may_try_it_again(here: Slot) -> None:
    well = False

    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        if not well:
            raise Deferred("greylisted")

    await here.work(greet, expires=timedelta(hours=1))
    here.clock.move(7200)
    await here.work(greet, plan=False)
    assert here.states == {"ann": "failed"}
    assert here.one("ann")["error_code"] == "expired"
    well = True
    await here.work(greet, plan=False)
    assert here.states == {"ann": "failed"}, "a sweep leaves it alone"
    await here.work(greet, Picked("again"), plan=False)
    assert here.states == {"ann": "ok"}


async def test_a_person_need_not_wait_until_an_expired_item_was_swept(here: Slot) -> None:
    @job(items=lambda _run: ["ann"])
    async def greet(name: str, run: Run) -> None:
        if here.clock.now() == NOW:
            raise Deferred("greylisted")

    await here.work(greet, expires=timedelta(hours=1))
    here.clock.move(7200)
    await here.work(greet, Picked("again"), plan=False)
    assert here.states == {"ann": "ok"}


@pytest.mark.parametrize(
    ("retries", "after", "left", "waits"),
    [
        (0, None, 9e9, BACKOFF[0]),
        (1, None, 9e9, BACKOFF[1]),
        (2, None, 9e9, BACKOFF[2]),
        (40, None, 9e9, BACKOFF[2]),
        (0, 700.0, 9e9, 700),
        (0, None, 301, 300),
        (0, None, 300, None),
        (3, 1e9, 3600, None),
    ],
)
def test_the_pause_of_a_deferred_item_and_where_it_ends(
    retries: int, after: float | None, left: float, waits: float | None
) -> None:
    error = Deferred("later", after=after)
    expires_at = NOW + timedelta(seconds=left)
    outcome = outcome_of("ann", error, retries=retries, now=NOW, expires_at=expires_at)
    if waits is None:
        assert (outcome.state, outcome.next_at) == ("failed", None)
    else:
        assert (outcome.state, outcome.next_at, outcome.expires_at) == (
            "retry",
            NOW + timedelta(seconds=waits),
            expires_at,
        )
