"""What differs between two schedules, a line each, as an operator reads it after a reload."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from overnight.schedule.model import Schedule

MOST = 20  # lines; a file that was rewritten is not told word by word
HIDDEN = ("heartbeat", "webhook", "transport", "ledger")  # addresses that are secrets, or carry one


def changes(old: Schedule, new: Schedule) -> list[str]:
    """`+ job x`, `- job y`, `~ nightly_agents.cron "30 2 * * *" -> "0 3 * * *"`; settings outside of jobs likewise."""
    before, after = _plain(old), _plain(new)
    lines = [*_entries(before.pop("jobs"), after.pop("jobs")), *_values(before, after, "")]
    return lines if len(lines) <= MOST else [*lines[:MOST], f"and {len(lines) - MOST} more"]


def _plain(schedule: Schedule) -> dict[str, Any]:
    found: dict[str, Any] = schedule.model_dump(mode="json", by_alias=True)
    return found


def _entries(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"+ job {name}" for name in after if name not in before)
    yield from (f"- job {name}" for name in before if name not in after)
    for name in before.keys() & after.keys():
        yield from _values(before[name], after[name], f"{name}.")


def _values(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if not (isinstance(before, dict) and isinstance(after, dict)):
        yield _line(path.removesuffix("."), before, after)
        return
    for name in before | after:
        yield from _values(before.get(name), after.get(name), f"{path}{name}.")


def _line(path: str, before: Any, after: Any) -> str:
    if path.rpartition(".")[2] in HIDDEN:
        return f"~ {path} (not shown)"
    if before is None:
        return f"+ {path} {_shown(after)}"
    return f"- {path}" if after is None else f"~ {path} {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
