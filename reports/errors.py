"""What went wrong: one row per slot of the day, class and code."""

from pandas import DataFrame, Series

from overnight.report import Day, report

LONGEST = 500  # characters of a sample message


@report(
    {
        "report_date": "date",
        "job": "text",
        "slot": "text",
        "error_class": "text",
        "error_code": "text",
        "count": "count",
        "first_seen": "instant",
        "last_seen": "instant",
        "sample_key": "text",
        "sample_message": "text",
    }
)
def errors(day: Day) -> DataFrame:
    """Items that are failed, deferred or unknown now; one that succeeded in a retry is no error any more."""
    frame = day.query(
        """
        SELECT grouped.*, sample.error AS sample_message
        FROM (
            SELECT slot.day AS report_date, item.job, item.slot, item.error_class, item.error_code,
                   count(*) AS count, min(item.ended_at) AS first_seen, max(item.ended_at) AS last_seen,
                   min(item.key) AS sample_key
            FROM item JOIN slot ON slot.job = item.job AND slot.slot = item.slot
            WHERE slot.day = :day AND NOT slot.rehearsal AND item.state IN ('failed', 'retry', 'unknown')
            GROUP BY slot.day, item.job, item.slot, item.error_class, item.error_code
        ) AS grouped
        JOIN item AS sample
          ON sample.job = grouped.job AND sample.slot = grouped.slot AND sample.key = grouped.sample_key
        """
    )
    return frame.assign(sample_message=Series(map(_one_line, frame["sample_message"]), dtype=object))


def _one_line(message: str | None) -> str | None:
    return None if message is None else " ".join(message.split())[:LONGEST]
