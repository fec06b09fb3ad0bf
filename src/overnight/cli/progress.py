"""How far a run is: a bar on a terminal, a line every ten per cent elsewhere."""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from overnight.cli.context import echo
from overnight.outcome import Outcome

MARKS = {"ok": "ok", "failed": "FAILED", "retry": "RETRY", "skipped": "skipped", "unknown": "UNKNOWN"}
MOST_LINES = 20  # troubles told one by one; a thousand lines of the same failure help nobody
MOST_REASONS = 5  # different ones, of what was skipped


class Progress:
    """Counts outcomes on stderr; tells failures one by one, up to twenty."""

    def __init__(self, *, quiet: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._total: int | None = None
        self._tenth = 0
        self._told = 0
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def start(self, title: str) -> None:
        """Begin; the total is told later, while the plan is still being written."""
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console  # noqa: PLC0415  70 ms that a pipe does not need
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(title, total=None)
        self._bar.start()

    def total(self, items: int) -> None:
        """Say how many items there will be."""
        self._total = items
        if self._bar is not None:
            self._bar.update(self._task, total=items)

    def outcome(self, outcome: Outcome) -> None:
        """Count one."""
        self.counts[outcome.state] += 1
        if outcome.state == "skipped":
            self._skipped(outcome.reason or "no reason given")
        if self._quiet:
            return
        if outcome.state not in ("ok", "skipped"):
            self._trouble(outcome)
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._total:
            self._line(sum(self.counts.values()), self._total)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, done: int, total: int) -> None:
        if done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            echo(f"  {done}/{total}  {told(self.counts)}", err=True)

    def _skipped(self, reason: str) -> None:
        if reason in self.reasons or len(self.reasons) < MOST_REASONS:
            self.reasons[reason] += 1

    def _trouble(self, outcome: Outcome) -> None:
        self._told += 1
        if self._told > MOST_LINES:
            return
        what = with_code(outcome.error_code, outcome.error or outcome.reason or "")
        line = f"  {MARKS[outcome.state]:<8}{outcome.key}  {what}"
        if self._told == MOST_LINES:
            line += "\n  … further ones are counted; `overnight show` lists them"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            echo(line, err=True)


def with_code(code: str | None, what: str) -> str:
    """`smtp_5xx: no such box`; the text of a bug begins with its code already."""
    return f"{code}: {what}" if code and not what.startswith(f"{code}:") else what


def told(counts: Mapping[Any, Any], none: str = "nothing to do") -> str:
    """`22 ok, 1 failed, 2 skipped, 3 pending`; `none` when there is nothing."""
    words = ("ok", "failed", "retry", "skipped", "unknown", "pending")
    return ", ".join(f"{counts[word]} {word}" for word in words if counts.get(word)) or none
