"""The rules under `alerts:`: what is worth waking somebody for, and whom."""

from datetime import timedelta
from decimal import Decimal

from pydantic import Field

from overnight.schedule.job import Strict
from overnight.schedule.values import Count, Duration, FactorOrShare, Length, Percent, Reference, Words


class Rule(Strict):
    """`for`: how long it has to be so before anybody is told."""

    hold: Duration = Field(default=timedelta(0), alias="for")


class SuccessRate(Rule):
    """Alert when fewer items of a job succeed than `below`; over when `recover` is reached again."""

    below: Percent = Decimal("0.95")
    recover: Percent = Decimal("0.97")
    window: Length = timedelta(hours=24)
    min_items: Count = 20


class DailyCost(Rule):
    """Alert when a day costs more than so many times the median of the last days, or than that share of the budget."""

    above: FactorOrShare = Decimal("1.5")
    of: Reference = 7


class Duration95(Rule):
    """Alert when the 95th percentile of a job's item durations is above this; over when it is a tenth below."""

    above: Length = timedelta(minutes=5)
    window: Length = timedelta(hours=24)
    min_items: Count = 20


class Missed(Rule):
    """Alert when an occurrence has not started after this time."""

    after: Length = timedelta(minutes=30)


class Stuck(Rule):
    """Alert when a run is going on and has finished no item, and asked no model, for this time."""

    after: Length = timedelta(minutes=30)


class BreakerOpen(Rule):
    """Alert when another side has been left alone for this time. While it fires, what follows from it is not told."""

    hold: Duration = Field(default=timedelta(minutes=5), alias="for")


class Unknown(Rule):
    """Alert when nobody knows of a mail or a step whether it happened."""


class NotDraining(Rule):
    """Alert when reports have waited for their store for this time."""

    hold: Duration = Field(default=timedelta(hours=1), alias="for")


class Alerts(Strict):
    """What is worth waking somebody for, and whom."""

    to: Words = Field(default_factory=list)
    success_rate: SuccessRate = SuccessRate()
    daily_cost: DailyCost = DailyCost()
    p95_duration: Duration95 = Duration95()
    missed: Missed = Missed()
    stuck: Stuck = Stuck()
    breaker: BreakerOpen = BreakerOpen()
    unknown: Unknown = Unknown()
    spool: NotDraining = NotDraining()
    repeat: Length = timedelta(hours=24)
