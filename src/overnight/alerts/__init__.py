"""Alerts: one message when something begins to be wrong, one when it is over, and a reminder a day.

`alarm` says what is wrong, `rules` finds it in the ledger, `state` decides what is told, `book` keeps it, `telling`
reaches the operators.
"""

from overnight.alerts.alarm import Alarm, of_run
from overnight.alerts.book import firing, note
from overnight.alerts.telling import Alerter, Channel, noted

__all__ = ["Alarm", "Alerter", "Channel", "firing", "note", "noted", "of_run"]
