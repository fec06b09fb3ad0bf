"""What `/api/health`, `/livez` and `/readyz` say: is somebody needed, and why."""

from overnight.health.checks import NO_KEY, Examiner, Heart, has_key, missing_variables
from overnight.health.disk import Disks, places
from overnight.health.reach import Reach
from overnight.health.report import Finding, Report

__all__ = [
    "NO_KEY",
    "Disks",
    "Examiner",
    "Finding",
    "Heart",
    "Reach",
    "Report",
    "has_key",
    "missing_variables",
    "places",
]
