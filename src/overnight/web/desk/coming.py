"""When the jobs run next."""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from overnight.schedule import JobSettings, Schedule


@dataclass(frozen=True, slots=True, order=True)
class Fire:
    """One time of a job; `note` says what a change of the clock does to it."""

    at: datetime
    job: str
    local: str
    slot: str
    note: str


def coming(
    schedule: Schedule, paused: Mapping[str, str], after: datetime, count: int, only: str | None = None
) -> list[Fire]:
    """The next times of all jobs together, or of one, that are enabled and not paused."""
    jobs = [job for name, job in schedule.jobs.items() if only in (None, name) and job.enabled and name not in paused]
    return list(islice(heapq.merge(*(_times(job, after) for job in jobs)), count))


def _times(settings: JobSettings, after: datetime) -> Iterator[Fire]:
    trigger, at = settings.trigger(), after
    while (following := trigger.next(at)) is not None:
        at = following
        local = f"{trigger.local(at):%a %d %b %H:%M %Z}"
        yield Fire(at, settings.name, local, trigger.slot(at), trigger.note(at))
