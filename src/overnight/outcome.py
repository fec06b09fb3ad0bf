"""The outcome of an item: a value from a closed set of states."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from overnight.errors import ErrorClass

State = Literal["pending", "ok", "failed", "retry", "skipped", "unknown"]
STATES: tuple[State, ...] = ("pending", "ok", "failed", "retry", "skipped", "unknown")

RunStatus = Literal["running", "ok", "partial", "failed", "interrupted", "stopped", "cancelled"]


EDITION = "."  # in a slot's name: a corrected edition of it


def original(slot: str) -> str:
    """The slot as it was scheduled, of a rehearsal (`2026-11-22~a1b2c3`) or a corrected edition (`2026-11-22.2`)."""
    return slot.partition("~")[0].partition(EDITION)[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item.

    `result` is JSON text or None. `duration_ms` is work, without waiting for a budget or a bucket. `next_at` and
    `expires_at` (UTC) are set for `retry` only; `reason` for `skipped` and `unknown`.
    """

    key: str
    state: State
    result: str | None = None
    reason: str | None = None
    error_class: ErrorClass | None = None
    error_code: str | None = None
    error: str | None = None
    attempts: int = 1
    duration_ms: int = 0
    next_at: datetime | None = None
    expires_at: datetime | None = None


def run_status(counts: Mapping[str, Any]) -> RunStatus:
    """Status of a finished run from the counts of its items: `ok`, `partial` or `failed`.

    A run in which nothing succeeded and something failed is `failed`; anything failed, deferred or unknown beside a
    success is `partial`; an empty run is `ok`.
    """
    bad = counts["failed"] + counts["retry"] + counts["unknown"]
    if not bad:
        return "ok"
    return "failed" if counts["failed"] and not counts["ok"] and not counts["skipped"] else "partial"


@dataclass(frozen=True, slots=True)
class Spent:
    """What an item has asked of models: the role and model of the latest call, tokens and nano-USD of all."""

    role: str
    model: str
    tokens: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Scope:
    """To whom work is booked: one item (or one `once` value) of one slot in one run.

    `fence` is the number of the lease under which this process may write; `key` of a `once` value is `once:<name>`.
    """

    job: str
    slot: str
    key: str
    run_id: str
    fence: int = 0
    worker_id: str = ""

    @property
    def task_id(self) -> str:
        """`job/slot/key`: the id in logs and reports."""
        return f"{self.job}/{self.slot}/{self.key}"

    def of(self, key: str) -> "Scope":
        """That of another item of the run."""
        return Scope(self.job, self.slot, key, self.run_id, self.fence, self.worker_id)
