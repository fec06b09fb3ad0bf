"""Every run that started on a day: what it was, what it did, what it cost."""

from datetime import datetime

from pandas import DataFrame, Series

from overnight.report import Day, report


@report(
    {
        "report_date": "date",  # the local day on which the run started
        "run_id": "text",
        "job": "text",
        "slot": "text",
        "kind": "text",  # scheduled, manual, retry, resume, or sweep: what was deferred is taken up
        "retry_of": "text",  # the run whose items are taken up
        "status": "text",  # running, ok, partial, failed, interrupted, stopped or cancelled
        "scheduled_for": "instant",  # when it was due
        "started_at": "instant",
        "ended_at": "instant",  # empty while it goes on
        "duration_s": "ratio",
        "items": "count",  # what this run worked on, not what the slot has come to
        "items_ok": "count",
        "items_failed": "count",
        "items_retry": "count",
        "items_skipped": "count",
        "items_unknown": "count",
        "items_per_hour": "ratio",  # items by duration_s
        "backlog": "count",  # what it left pending or deferred
        "cost_usd": "money",
        "code_version": "text",  # the version, and hashes of the file of the job and of templates/
        "config_hash": "text",  # changes with any setting in schedule.yaml
        "reason": "text",  # why it did not end well
    }
)
def runs(day: Day) -> DataFrame:
    """Counts are of what this run did; what the slot has come to is in `success_rate`."""
    frame = day.query(
        """
        SELECT run.day AS report_date, run.id AS run_id, run.job, run.slot, run.kind, run.retry_of, run.status,
               run.scheduled_for, run.started_at, run.ended_at, run.items, run.ok AS items_ok,
               run.failed AS items_failed, run.retry AS items_retry, run.skipped AS items_skipped,
               run.unknown AS items_unknown, run.backlog, run.cost_nano AS cost_usd, run.code_version,
               run.config_hash, run.reason
        FROM run JOIN slot ON slot.job = run.job AND slot.slot = run.slot
        WHERE run.day = :day AND NOT slot.rehearsal
        """
    )
    seconds = [_seconds(*times) for times in zip(frame["started_at"], frame["ended_at"], strict=True)]
    speeds = [3600 * n / s if s else None for n, s in zip(frame["items"], seconds, strict=True)]
    return frame.assign(duration_s=Series(seconds, dtype=object), items_per_hour=Series(speeds, dtype=object))


def _seconds(started_at: str, ended_at: str | None) -> float | None:
    """None while it goes on, and where the clock was set back in between."""
    if ended_at is None or ended_at < started_at:
        return None
    return (datetime.fromisoformat(ended_at) - datetime.fromisoformat(started_at)).total_seconds()
