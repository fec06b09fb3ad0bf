"""schedule.yaml: what runs when, read into typed settings."""

from overnight.schedule.alerting import Alerts
from overnight.schedule.editor import json_schema
from overnight.schedule.job import Defaults, JobBudget, JobSettings, Retry
from overnight.schedule.loading import Finding, load, loads, refuse
from overnight.schedule.model import (
    Budget,
    Channel,
    Limit,
    Mail,
    ModelPrice,
    Reports,
    Schedule,
)
from overnight.schedule.problem import Problem, ScheduleErrors
from overnight.schedule.role import RoleBudget, RoleSettings
from overnight.schedule.values import Rate
from overnight.schedule.watch import Watch

__all__ = [
    "Alerts",
    "Budget",
    "Channel",
    "Defaults",
    "Finding",
    "JobBudget",
    "JobSettings",
    "Limit",
    "Mail",
    "ModelPrice",
    "Problem",
    "Rate",
    "Reports",
    "Retry",
    "RoleBudget",
    "RoleSettings",
    "Schedule",
    "ScheduleErrors",
    "Watch",
    "json_schema",
    "load",
    "loads",
    "refuse",
]
