"""What `/api/health`, `/livez` and `/readyz` say: is somebody needed, and why."""

from overnight.health.checks import Examiner, Heart, missing_variables
from overnight.health.reach import Reach
from overnight.health.report import Finding, Report

__all__ = ["Examiner", "Finding", "Heart", "Reach", "Report", "missing_variables"]
