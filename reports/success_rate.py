"""How much of each slot succeeded, and how long it took: one row per slot of the day."""

import math
from collections import Counter, defaultdict

from pandas import DataFrame, Series

from overnight.histogram import quantile
from overnight.metrics import TARGET
from overnight.report import Day, report


@report(
    {
        "report_date": "date",  # the day of the slot, also when the night goes past midnight
        "job": "text",
        "slot": "text",
        "items_total": "count",  # all there are
        "items_ok": "count",
        "items_failed": "count",
        "items_retry_pending": "count",  # deferred: they are taken up by themselves
        "items_skipped": "count",  # nothing was to be done for them
        "items_unknown": "count",  # nobody can tell whether it happened
        "items_pending": "count",  # never begun
        "success_rate": "ratio",  # ok / (ok + failed + retry + unknown); empty when nothing was tried
        "success_rate_low95": "ratio",  # the Wilson interval at 95 %
        "success_rate_high95": "ratio",
        "target": "ratio",  # 0.95
        "below_target": "text",  # true or false; empty when nothing was tried
        "duration_p50_ms": "count",  # of items that ended ok or failed, from beginning to end, waits included
        "duration_p95_ms": "count",
        "duration_p99_ms": "count",
        "attempts": "count",  # of all runs of the slot
        "top_error_code": "text",  # the most frequent one
    }
)
def success_rate(day: Day) -> DataFrame:
    """The rate is ok / (ok + failed + retry + unknown): what was skipped or never begun is no attempt.

    An item counts once, as what it has come to; one that failed and succeeded in a retry is ok. Low and high are the
    Wilson interval, for a rate of five items says little. Durations (± 1 %) are of items that ended ok or failed.
    """
    frame = day.query(
        """
        SELECT slot.day AS report_date, slot.job, slot.slot,
               pending + ok + failed + retry + skipped + unknown AS items_total,
               ok AS items_ok, failed AS items_failed, retry AS items_retry_pending, skipped AS items_skipped,
               unknown AS items_unknown, pending AS items_pending,
               ok + failed + retry + unknown AS tried,
               (SELECT coalesce(sum(run.attempts), 0) FROM run
                WHERE run.job = slot.job AND run.slot = slot.slot) AS attempts
        FROM slot WHERE slot.day = :day AND NOT slot.rehearsal
        """
    )
    rates = [_rate(ok, tried) for ok, tried in zip(frame["items_ok"], frame["tried"], strict=True)]
    buckets, codes = _durations(day), _codes(day)
    slots = list(zip(frame["job"], frame["slot"], strict=True))
    added = {
        "success_rate": [rate for rate, _, _ in rates],
        "success_rate_low95": [low for _, low, _ in rates],
        "success_rate_high95": [high for _, _, high in rates],
        "target": [TARGET for _ in rates],
        "below_target": [None if rate is None else rate < TARGET for rate, _, _ in rates],
        "duration_p50_ms": [quantile(buckets[one], 0.50) for one in slots],
        "duration_p95_ms": [quantile(buckets[one], 0.95) for one in slots],
        "duration_p99_ms": [quantile(buckets[one], 0.99) for one in slots],
        "top_error_code": [codes.get(one) for one in slots],
    }
    return frame.assign(**{name: Series(values, dtype=object) for name, values in added.items()})


def _rate(ok: int, tried: int) -> tuple[float | None, float | None, float | None]:
    """The rate with its Wilson interval at 95 %; nothing tried has no rate."""
    if not tried:
        return None, None, None
    rate, z = ok / tried, 1.959964
    middle = (rate + z * z / (2 * tried)) / (1 + z * z / tried)
    half = z / (1 + z * z / tried) * math.sqrt(rate * (1 - rate) / tried + z * z / (4 * tried * tried))
    return rate, max(0.0, middle - half), min(1.0, middle + half)


def _durations(day: Day) -> dict[tuple[str, str], Counter[int]]:
    """The duration buckets of all runs of each slot, added up."""
    frame = day.query(
        """
        SELECT slot.job, slot.slot, histogram.bucket, histogram.n
        FROM histogram JOIN run ON run.id = histogram.run_id
        JOIN slot ON slot.job = run.job AND slot.slot = run.slot
        WHERE slot.day = :day AND NOT slot.rehearsal
        """
    )
    merged: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for job, slot, bucket, n in frame.itertuples(index=False):
        merged[job, slot][bucket] += n
    return merged


def _codes(day: Day) -> dict[tuple[str, str], str]:
    """The most frequent error code of each slot; of equals the first by name."""
    frame = day.query(
        """
        SELECT trouble.job, trouble.slot, trouble.error_code
        FROM trouble JOIN slot ON slot.job = trouble.job AND slot.slot = trouble.slot
        WHERE slot.day = :day AND NOT slot.rehearsal AND trouble.n > 0 AND trouble.error_code != ''
        GROUP BY trouble.job, trouble.slot, trouble.error_code
        ORDER BY sum(trouble.n), trouble.error_code DESC
        """
    )
    return {(job, slot): code for job, slot, code in frame.itertuples(index=False)}
