"""The alarm clock: the only importer of APScheduler.

It rings when a job may be due, and its callback does nothing but say so: what is due is computed from the ledger. Jobs
live in memory, late rings are never dropped (`misfire_grace_time=None`) and several become one (`coalesce`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger


class Fires(Protocol):
    """The times of a job."""

    def next(self, after: datetime) -> datetime | None:
        """The first time strictly after `after`, UTC."""
        ...


class _Trigger(BaseTrigger):  # type: ignore[misc]
    """Our times for APScheduler: always later than now, so that its loop ends at every clock change."""

    def __init__(self, fires: Fires) -> None:
        self._fires = fires

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return self._fires.next(max(previous_fire_time, now) if previous_fire_time else now)


class AlarmClock:
    """Rings at the times of all jobs; lives in the running event loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._scheduler: Any = AsyncIOScheduler(timezone=UTC)

    def set(self, triggers: Mapping[str, Fires]) -> None:
        """Ring at the times of these jobs, and of no others."""
        self._scheduler.remove_all_jobs()
        for name, fires in triggers.items():
            self._scheduler.add_job(
                self._ring, _Trigger(fires), id=name, misfire_grace_time=None, coalesce=True, max_instances=1
            )

    def start(self) -> None:
        """Begin to ring."""
        self._scheduler.start()

    def stop(self) -> None:
        """Fall silent at once; runs are not its business."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
