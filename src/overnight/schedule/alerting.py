"""The rules under `alerts:`: what is worth waking somebody for, and whom."""

from datetime import timedelta
from decimal import Decimal

from pydantic import Field

from overnight.schedule.job import Strict
from overnight.schedule.values import Count, Duration, FactorOrShare, Length, Percent, Reference, Words


class Rule(Strict):
    """`for`: how long it has to be so before anybody is told."""

    hold: Duration = Field(default=timedelta(0), alias="for")
    """How long it has to be so before anybody is told."""


class SuccessRate(Rule):
    """Alert when fewer items of a job succeed than `below`; over when `recover` is reached again."""

    below: Percent = Decimal("0.95")
    """Fewer ok items than this begin it."""
    recover: Percent = Decimal("0.97")
    """As many end it."""
    window: Length = timedelta(hours=24)
    """Of which time the items are counted."""
    min_items: Count = 20
    """With fewer there is no alert."""


class DailyCost(Rule):
    """Alert when a day costs more than so many times the median of the last days, or than that share of the budget."""

    above: FactorOrShare = Decimal("1.5")
    """A multiple (`1.5x`) of a median, or a share (`80%`) of the budget."""
    of: Reference = 7
    """`7d_median`: of so many days on which anything was spent; or `budget`."""


class Duration95(Rule):
    """Alert when the 95th percentile of a job's item durations is above this; over when it is a tenth below."""

    above: Length = timedelta(minutes=5)
    """The slowest twentieth takes longer than this."""
    window: Length = timedelta(hours=24)
    """Of which time the items are counted."""
    min_items: Count = 20
    """With fewer there is no alert."""


class Missed(Rule):
    """Alert when an occurrence has not started after this time."""

    after: Length = timedelta(minutes=30)
    """How late an occurrence may begin."""


class Stuck(Rule):
    """Alert when a run is going on and has finished no item, and asked no model, for this time."""

    after: Length = timedelta(minutes=30)
    """How long a run may finish nothing."""


class BreakerOpen(Rule):
    """Alert when another side has been left alone for this time. While it fires, what follows from it is not told."""

    hold: Duration = Field(default=timedelta(minutes=5), alias="for")
    """How long it has to be so before anybody is told."""


class Unknown(Rule):
    """Alert when nobody knows of a mail or a step whether it happened."""


class NotDraining(Rule):
    """Alert when reports have waited for their store for this time."""

    hold: Duration = Field(default=timedelta(hours=1), alias="for")
    """How long it has to be so before anybody is told."""


class Alerts(Strict):
    """What is worth waking somebody for, and whom."""

    to: Words = Field(default_factory=list)
    """Names of channels."""
    success_rate: SuccessRate = SuccessRate()
    """Too few items are ok."""
    daily_cost: DailyCost = DailyCost()
    """The day is dear."""
    p95_duration: Duration95 = Duration95()
    """Items are slow."""
    missed: Missed = Missed()
    """An occurrence has not begun."""
    stuck: Stuck = Stuck()
    """A run does not get on."""
    breaker: BreakerOpen = BreakerOpen()
    """Another side is left alone."""
    unknown: Unknown = Unknown()
    """Nobody knows whether something happened."""
    spool: NotDraining = NotDraining()
    """Reports wait for their store."""
    repeat: Length = timedelta(hours=24)
    """How often what lasts is told again."""
