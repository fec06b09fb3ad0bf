"""The settings of a job as they count: what schedule.yaml says, else `defaults:`, else the engine."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from overnight.schedule import JobSettings, Retry
from overnight.triggers import compact
from overnight.web.desk.pages import money

FILE, ENGINE, CODE = "schedule.yaml", "the engine's", "the engine's, unless @job says another"
OF_CODE = ("concurrency", "timeout", "item_timeout", "retry")  # what the decorator may say, too


@dataclass(frozen=True, slots=True)
class Setting:
    """One of them; `origin` says who has set it."""

    name: str
    value: str
    origin: str


def counting(job: JobSettings) -> list[Setting]:
    """All that have a value, in the order of the documentation."""
    return [Setting(name, text, _origin(job, name)) for name, text in _texts(job) if text]


def _texts(job: JobSettings) -> Iterator[tuple[str, str]]:
    for name, text in _PLAIN.items():
        yield name, text(job)
    for name, cap in (("per_run", job.budget.per_run), ("per_day", job.budget.per_day)):
        yield f"budget.{name}", "" if cap is None else money(cap)
    for name, value in job.params.items():
        yield f"params.{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _origin(job: JobSettings, name: str) -> str:
    own = name.partition(".")[0]
    if own in job.explicit:
        return FILE
    return CODE if own in OF_CODE else ENGINE


def _span(length: timedelta) -> str:
    return compact(int(length.total_seconds()))


def _retry(job: JobSettings) -> str:
    of = job.retry or Retry()
    return f"{of.attempts} attempts, pauses from {_span(of.initial)} to {_span(of.max)}"


_PLAIN: dict[str, Callable[[JobSettings], str]] = {
    "run": lambda job: job.target,
    "after": lambda job: job.after or "",
    "concurrency": lambda job: str(job.concurrency),
    "timeout": lambda job: _span(job.timeout),
    "item_timeout": lambda job: _span(job.item_timeout),
    "retry": _retry,
    "overlap": lambda job: job.overlap,
    "catch_up": lambda job: job.catch_up,
    "max_age": lambda job: _span(job.max_age),
    "on_unknown": lambda job: job.on_unknown,
    "retention": lambda job: _span(job.retention),
    "heartbeat": lambda job: "is pinged" if job.heartbeat else "",  # the address itself is a secret of its service
}
