"""The alarm clock, in real time: it rings when a job may be due, also late, and at a clock change it does not spin."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.scheduler import AlarmClock, _Trigger
from overnight.triggers import Cron, Every

PATIENCE = 10.0  # seconds that a busy machine may take
CHANGE = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Paris, for the first time of two
minutes = st.integers(-180, 180).map(lambda minute: CHANGE + timedelta(minutes=minute))


class Bell:
    """Counts rings, and is waited for."""

    def __init__(self) -> None:
        self.rings = 0
        self.rang = asyncio.Event()

    def ring(self) -> None:
        self.rings += 1
        self.rang.set()

    async def heard(self) -> None:
        self.rang.clear()
        async with asyncio.timeout(PATIENCE):
            await self.rang.wait()


class Once:
    """A job that is due a moment from now, and never again."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC) + timedelta(seconds=0.5)

    def next(self, after: datetime) -> datetime | None:
        return self.at if after < self.at else None


@pytest.mark.slow
async def test_it_rings_for_the_jobs_it_was_set_to_last_and_for_no_others() -> None:
    bell = Bell()
    alarm = AlarmClock(bell.ring)
    alarm.set({"often": Every(1), "seldom": Every(86_400)})
    alarm.start()
    await bell.heard()
    await bell.heard()
    alarm.set({"other": Every(1)})
    await bell.heard()
    assert [job.id for job in alarm._scheduler.get_jobs()] == ["other"]
    alarm.stop()


@pytest.mark.slow
async def test_a_ring_for_which_the_loop_was_blocked_comes_late_and_is_not_left_out() -> None:
    bell = Bell()
    alarm = AlarmClock(bell.ring)
    alarm.set({"once": Once()})
    alarm.start()
    time.sleep(2.5)  # noqa: ASYNC251  somebody's code that does not let go of the loop
    await bell.heard()
    alarm.stop()
    assert bell.rings == 1


@given(minutes, st.none() | minutes, st.sampled_from(["30 2 * * *", "*/30 * * * *", "0 0 * * *"]))
def test_the_next_ring_is_later_than_now_and_than_the_one_before(
    now: datetime, before: datetime | None, expression: str
) -> None:
    ring = _Trigger(Cron(expression, ZoneInfo("Europe/Paris"))).get_next_fire_time(before, now)
    assert ring is not None
    assert ring > max(now, before or now)
