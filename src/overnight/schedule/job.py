"""One entry under `jobs:`: when it runs, how, and with what."""

import hashlib
import json
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr

from overnight.schedule.heartbeat import checked
from overnight.schedule.values import Cap, Count, Duration, Flag, Length, Zone
from overnight.triggers import At, Cron, Every, Trigger

UTC_ZONE = ZoneInfo("UTC")
TIMINGS = ("cron", "every", "at")
SHORTEST = timedelta(days=2)  # of a retention


class Strict(BaseModel):
    """A part of schedule.yaml: read-only, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _cron(expr: str) -> str:
    Cron(expr, UTC_ZONE)
    return expr


def _time_of_day(clock: str) -> str:
    At(clock, UTC_ZONE)
    return clock


CronText = Annotated[str, AfterValidator(_cron), Field(examples=["0 7 * * MON-FRI", "@daily"])]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day), Field(examples=["08:00"])]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", examples=["jobs.digest:digest"])]


def _whole_days(term: timedelta) -> timedelta:
    if term < SHORTEST:
        raise ValueError("must be 2d at least: a day that has lost items has no new reports, and may not be over yet")
    return term


Retention = Annotated[Length, AfterValidator(_whole_days)]


class Retry(Strict):
    """How often an item is tried when its own code raises Transient; the first attempt counts."""

    attempts: Count = 3
    initial: Duration = timedelta(seconds=1)
    max: Duration = timedelta(seconds=30)


class JobBudget(Strict):
    """What one slot of a job may cost, and all its slots on a wall-clock day."""

    per_run: Cap = None
    per_day: Cap = None


class Defaults(Strict):
    """What `defaults:` may set for every job; the values here are the engine's own."""

    concurrency: Count = 8
    timeout: Length = timedelta(hours=1)
    item_timeout: Length = timedelta(minutes=2)
    overlap: Literal["skip", "queue", "replace"] = "skip"
    catch_up: Literal["latest", "all", "none"] = "latest"
    max_age: Length = timedelta(hours=6)
    on_unknown: Literal["park", "resend", "reconcile"] = "park"
    retention: Retention = timedelta(days=90)
    retry: Retry | None = None
    budget: JobBudget = JobBudget()


class JobSettings(Defaults):
    """One job, with `defaults:` already merged in."""

    cron: CronText | None = None
    every: Length | None = None
    at: TimeOfDay | None = None
    timezone: Zone | None = None
    enabled: Flag = True
    after: str | None = None
    run: Target | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    heartbeat: Annotated[str, AfterValidator(checked)] = ""

    _name: str = PrivateAttr(default="")
    _project_zone: ZoneInfo = PrivateAttr(default=UTC_ZONE)

    def merged(self, name: str, defaults: Defaults, project_zone: ZoneInfo) -> Self:
        """Return the job under its name, with the defaults it does not set itself; blocks merge key by key."""
        merged = self.model_copy(update=_inherited(self, defaults))
        merged._name, merged._project_zone = name, project_zone  # noqa: SLF001  the copy is ours
        return merged

    @property
    def name(self) -> str:
        """The key in `jobs:`."""
        return self._name

    @property
    def explicit(self) -> frozenset[str]:
        """Names set in the file, by the job or by `defaults:`; they win over the decorator's options."""
        return frozenset(self.model_fields_set)

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the job's wall clock."""
        return self.timezone or self._project_zone

    @property
    def target(self) -> str:
        """`module:function` of the job."""
        return self.run or f"jobs.{self._name}:{self._name}"

    def trigger(self) -> Trigger:
        """Return when the job is due."""
        if self.cron is not None:
            return _trigger(Cron, self.cron, self.zone)
        if self.at is not None:
            return _trigger(At, self.at, self.zone)
        if self.every is not None:
            return Every(int(self.every.total_seconds()))
        raise ValueError(f"job {self._name!r} has none of cron, every, at")

    def timing_hash(self) -> str:
        """Return 16 hex digits of what decides when it runs: kind and value of the trigger, zone, enabled."""
        timing = {"trigger": repr(self.trigger()), "timezone": self.zone.key, "enabled": self.enabled}
        return digest(json.dumps(timing, sort_keys=True))


@lru_cache
def _trigger(kind: type[Cron] | type[At], text: str, zone: ZoneInfo) -> Trigger:
    """Triggers never change, and a scheduler asks for them every minute."""
    return kind(text, zone)


def _inherited(own: Strict, defaults: Strict) -> dict[str, Any]:
    """Return the fields `defaults` sets and `own` does not, looking into blocks both of them set."""
    taken: dict[str, Any] = {}
    for name in defaults.model_fields_set:
        mine, theirs = getattr(own, name), getattr(defaults, name)
        if name not in own.model_fields_set:
            taken[name] = theirs
        elif isinstance(mine, Strict) and isinstance(theirs, Strict):
            taken[name] = mine.model_copy(update=_inherited(mine, theirs))
    return taken


def digest(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
