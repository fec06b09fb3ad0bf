"""`overnight next` over years: every local day of every zone exactly once, clock changes marked."""

import json
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("overnight")
ZONES = [
    *("Europe/Paris", "Europe/London", "Europe/Lisbon", "Europe/Chisinau", "Atlantic/Azores", "America/New_York"),
    *("America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Santiago", "America/Nuuk", "Africa/Cairo"),
    *("Africa/Casablanca", "Asia/Beirut", "Asia/Jerusalem", "Asia/Gaza", "Australia/Lord_Howe", "Australia/Sydney"),
    *("Pacific/Chatham", "Asia/Kolkata"),
]
TIMES = ["00:00", "00:30", "01:30", "02:00", "02:30", "03:00", "23:30"]
YEARS = 3


def told(folder: Path, jobs: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    """What `next` says of these jobs."""
    lines = "".join(f"  {name}: {{ {settings} }}\n" for name, settings in jobs.items())
    (folder / "schedule.yaml").write_text(f"version: 1\njobs:\n{lines}")
    command = [COMMAND, "--json", "next", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_each_local_day_of_three_years_comes_exactly_once_in_every_zone(tmp_path: Path) -> None:
    jobs = {
        f"j{z}_{t}": f'{kind}: "{when}", timezone: {zone}'
        for z, zone in enumerate(ZONES)
        for t, clock in enumerate(TIMES)
        for kind, when in [("at", clock) if t % 2 else ("cron", f"{int(clock[3:])} {int(clock[:2])} * * *")]
    }
    first = date(2025, 1, 2)
    days = {(first + timedelta(days=n)).isoformat() for n in range(YEARS * 365)}
    rows = told(tmp_path, jobs, "--from", "2025-01-01", "--count", str(YEARS * 366))
    seen = Counter((row["job"], row["slot"]) for row in rows)
    assert {(job, day): seen[job, day] for job in jobs for day in days if seen[job, day] != 1} == {}
    assert [row["scheduled_for"] for row in rows] == sorted(row["scheduled_for"] for row in rows)


def test_days_of_a_clock_change_are_marked_and_no_others(tmp_path: Path) -> None:
    rows = told(tmp_path, {"night": 'at: "02:30", timezone: Europe/Paris'}, "--from", "2027-01-01", "--count", "365")
    assert {row["slot"]: row["note"] for row in rows if row["note"]} == {
        "2027-03-28": "02:30 does not exist that day, runs at 03:00",
        "2027-10-31": "clocks go back that night: 02:30 comes twice, runs once",
    }
    gap = next(row for row in rows if row["slot"] == "2027-03-28")
    assert gap == {
        "job": "night",
        "scheduled_for": "2027-03-28T01:00:00.000Z",
        "local": "Sun 2027-03-28 03:00 CEST",
        "slot": "2027-03-28",
        "note": "02:30 does not exist that day, runs at 03:00",
    }


def test_a_job_that_is_off_is_listed_with_the_reason(tmp_path: Path) -> None:
    rows = told(tmp_path, {"off": "every: 1d, enabled: false", "on": "every: 1d"}, "--from", "2027-01-01")
    assert [(row["job"], row["slot"], row["note"]) for row in rows] == [
        ("on", "2027-01-02", ""),
        ("off", None, "not enabled"),
    ]
