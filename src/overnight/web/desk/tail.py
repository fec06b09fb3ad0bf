"""The end of the log: what it says last of a run."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

READ = 512 * 1024  # bytes from the end of the file
LINES = 40
OWN = ("timestamp", "level", "message", "run_id", "worker_id", "job", "slot")  # shown by themselves, or not


@dataclass(frozen=True, slots=True)
class Line:
    """One event; `more` are its other fields as `name=value`."""

    at: datetime | None
    level: str
    message: str
    more: str


def tail(file: Path, run_id: str) -> list[Line]:
    """The newest events of a run, oldest first. Raises OSError."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - READ))
        lines = log.read().decode("utf-8", "replace").splitlines()
    found: list[Line] = []
    for line in reversed(lines):
        event = _event(line) if run_id in line else None
        if event is not None:
            found.append(_line(event))
        if len(found) == LINES:
            break
    return found[::-1]


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _line(event: dict[str, Any]) -> Line:
    more = " ".join(f"{name}={_value(value)}" for name, value in event.items() if name not in OWN)
    return Line(_time(event.get("timestamp")), str(event.get("level")), str(event.get("message")), more[:600])


def _time(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
