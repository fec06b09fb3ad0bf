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
    """How often an item is tried, the first time included."""
    initial: Duration = timedelta(seconds=1)
    """The first pause; each further one is twice as long."""
    max: Duration = timedelta(seconds=30)
    """The longest pause."""


class JobBudget(Strict):
    """What one slot of a job may cost, and all its slots on a wall-clock day."""

    per_run: Cap = None
    """What one slot may cost, all its runs and retries together."""
    per_day: Cap = None
    """What all slots of the job may cost on a wall-clock day."""


class Defaults(Strict):
    """What `defaults:` may set for every job; the values here are the engine's own."""

    concurrency: Count = 8
    """Items at a time."""
    timeout: Length = timedelta(hours=1)
    """How long a run may take; what is left stays pending."""
    item_timeout: Length = timedelta(minutes=2)
    """How long an item may take, without waits and without requests to models, which have 5m each."""
    overlap: Literal["skip", "queue", "replace"] = "skip"
    """When the run before is still going: pass over this time, wait for it, or end it."""
    catch_up: Literal["latest", "all", "none"] = "latest"
    """Which occurrences are made up for after the machine was off."""
    max_age: Length = timedelta(hours=6)
    """An occurrence later than this is recorded as missed."""
    on_unknown: Literal["park", "resend", "reconcile"] = "park"
    """What becomes of a mail or step that may have happened: left to a person, done again, or looked up."""
    retention: Retention = timedelta(days=90)
    """How long items, answers and results are kept, 2d at least; what was sent is remembered for ever."""
    retry: Retry | None = None
    """How items are repeated that raise Transient."""
    budget: JobBudget = JobBudget()
    """What the job may spend."""


class JobSettings(Defaults):
    """One job, with `defaults:` already merged in."""

    cron: CronText | None = None
    """Minute, hour, day, month, weekday; 0 and 7 are Sunday."""
    every: Length | None = None
    """How long from one time to the next."""
    at: TimeOfDay | None = None
    """A time of day."""
    timezone: Zone | None = None
    """The zone of the job's times; that of the project without it."""
    enabled: Flag = True
    """Whether it runs by itself, what was left of its runs included; `overnight run` runs it all the same."""
    after: str | None = None
    """A job whose run of the same day has to be over first."""
    run: Target | None = None
    """Where the function is, when it is not `jobs.NAME:NAME`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Whatever the job reads as `run.params`."""
    heartbeat: Annotated[str, AfterValidator(checked)] = ""
    """An address to ping at start and end; empty: none."""

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
