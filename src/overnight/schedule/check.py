"""What the models cannot see: how parts of the file refer to each other.

These checks run on the plain tree beside the models, so that one wrong type elsewhere does not hide them.
"""

import keyword
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from overnight.schedule.alerting import SuccessRate
from overnight.schedule.job import TIMINGS, UTC_ZONE
from overnight.schedule.problem import did_you_mean, one_of
from overnight.schedule.source import Path_, Source
from overnight.schedule.values import duration, percent
from overnight.triggers import Cron

RATES = {name: SuccessRate.model_fields[name].default for name in ("below", "recover")}


def cross_check(source: Source) -> None:
    """Report names that lead nowhere, jobs without a time, and cycles."""
    jobs = _mapping(source.data.get("jobs"))
    for name, job in jobs.items():
        _check_name(source, name)
        if isinstance(job, dict):
            _check_timing(source, name, job)
            _check_after(source, name, job, jobs)
    _check_cycles(source, jobs)
    _check_channels(source)
    _check_recovery(source)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_name(source: Source, name: str) -> None:
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        path = ("jobs", name)
        source.report(
            source.key_at(path), path, f"{name!r} is no job name", "use letters, digits and _, as in daily_email"
        )


def _check_timing(source: Source, name: str, job: dict[str, Any]) -> None:
    path: Path_ = ("jobs", name)
    given = [key for key, value in job.items() if key in TIMINGS and value is not None]
    if not given:
        source.report(source.key_at(path), path, f"needs one of {one_of(TIMINGS)}", 'as in cron: "0 7 * * *"')
    for extra in given[1:]:
        at = (*path, extra)
        source.report(source.key_at(at), at, f"only one of {one_of(TIMINGS)}, and {given[0]!r} is already there")


def _check_after(source: Source, name: str, job: dict[str, Any], jobs: dict[str, Any]) -> None:
    after, path = job.get("after"), ("jobs", name, "after")
    if not isinstance(after, str) or source.is_spoiled(path):
        return
    if after not in jobs:
        source.report(source.value_at(path), path, f"there is no job {after!r}", did_you_mean(after, jobs))
        return
    for one, settings in ((name, job), (after, jobs[after])):
        if _fires_often(settings):
            message = f"waits for a job's run of the same day, and {one!r} has several a day"
            source.report(source.value_at(path), path, message, "let both run daily at most, or leave `after` out")
            return


def _fires_often(job: Any) -> bool:
    """Whether it is due more often than daily; no for a time that is wrong, which is reported where it stands."""
    timing = _mapping(job)
    try:
        if isinstance(timing.get("cron"), str):
            return not Cron(timing["cron"], UTC_ZONE).at_most_daily
        return isinstance(timing.get("every"), str) and duration(timing["every"]) < timedelta(days=1)
    except ValueError:
        return False


def _check_cycles(source: Source, jobs: dict[str, Any]) -> None:
    """Report each ring of `after:` once, at its first job in the file."""
    waits = {name: job.get("after") for name, job in jobs.items() if isinstance(job, dict)}
    known: set[str] = set()
    for start in waits:
        ring = _ring(start, waits)
        if ring and not known.intersection(ring):
            path = ("jobs", start, "after")
            source.report(source.value_at(path), path, f"jobs wait for each other: {' -> '.join([*ring, start])}")
        known.update(ring)


def _ring(start: str, waits: dict[str, Any]) -> list[str]:
    """Return the jobs from `start` back to itself; nothing when the way does not lead back."""
    walked = [start]
    following = waits[start]
    while isinstance(following, str) and following in waits and following not in walked:
        walked.append(following)
        following = waits[following]
    return walked if following == start else []


def _check_channels(source: Source) -> None:
    channels = _mapping(source.data.get("channels"))
    for name, channel in channels.items():
        if channel == {}:
            path: Path_ = ("channels", name)
            source.report(source.key_at(path), path, "needs `email` or `webhook`")
    named = _mapping(source.data.get("alerts")).get("to")
    for path, name in _named(named):
        if name not in channels and not source.is_spoiled(path):
            hint = did_you_mean(name, channels) or "add it under `channels:`"
            source.report(source.value_at(path), path, f"there is no channel {name!r}", hint)


def _named(value: Any) -> Iterable[tuple[Path_, str]]:
    at: Path_ = ("alerts", "to")
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, list):
        yield from (((*at, index), name) for index, name in enumerate(value) if isinstance(name, str))


def _check_recovery(source: Source) -> None:
    """Report an alert that would begin and end with each item: what is told is over where nothing is told yet."""
    path: Path_ = ("alerts", "success_rate")
    given = _mapping(_mapping(source.data.get("alerts")).get("success_rate"))
    try:
        below, recover = (percent(given[name]) if name in given else RATES[name] for name in RATES)
    except ValueError:
        return  # reported where it stands
    if recover < below:
        at = (*path, "recover" if "recover" in given else "below")
        message = f"it ends at {recover:.1%}, below the {below:.1%} where it begins"
        source.report(source.value_at(at), at, message, "as in { below: 95%, recover: 97% }")
