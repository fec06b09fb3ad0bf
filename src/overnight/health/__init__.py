"""What `/api/health`, `/livez` and `/readyz` say: is somebody needed, and why."""

from overnight.health.checks import Examiner, Heart
from overnight.health.disk import Disks, places
from overnight.health.reach import Reach
from overnight.health.report import FRESH, Finding, Report
from overnight.health.variables import NO_KEY, TOKEN, has_key, missing_variables, weak_secret, weak_token

__all__ = [
    "FRESH",
    "NO_KEY",
    "TOKEN",
    "Disks",
    "Examiner",
    "Finding",
    "Heart",
    "Reach",
    "Report",
    "has_key",
    "missing_variables",
    "places",
    "weak_secret",
    "weak_token",
]
