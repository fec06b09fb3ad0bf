"""schedule.yaml: what runs when, read into typed settings."""

from overnight.schedule.editor import json_schema
from overnight.schedule.job import Defaults, JobBudget, JobSettings, Retry
from overnight.schedule.loading import Finding, load, loads, refuse
from overnight.schedule.model import (
    Alerts,
    Budget,
    Channel,
    DailyCost,
    Duration95,
    Limit,
    Mail,
    Missed,
    ModelPrice,
    Reports,
    Schedule,
    SuccessRate,
)
from overnight.schedule.problem import Problem, ScheduleErrors
from overnight.schedule.role import RoleBudget, RoleSettings
from overnight.schedule.values import Rate
from overnight.schedule.watch import Watch

__all__ = [
    "Alerts",
    "Budget",
    "Channel",
    "DailyCost",
    "Defaults",
    "Duration95",
    "Finding",
    "JobBudget",
    "JobSettings",
    "Limit",
    "Mail",
    "Missed",
    "ModelPrice",
    "Problem",
    "Rate",
    "Reports",
    "Retry",
    "RoleBudget",
    "RoleSettings",
    "Schedule",
    "ScheduleErrors",
    "SuccessRate",
    "Watch",
    "json_schema",
    "load",
    "loads",
    "refuse",
]
