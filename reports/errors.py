"""What went wrong: one row per slot of the day, class and code."""

from pandas import DataFrame, Series

from overnight.redact import without_addresses
from overnight.report import Day, report

LONGEST = 500  # characters of a sample message


@report(
    {
        "report_date": "date",  # the day of the slot
        "job": "text",
        "slot": "text",
        "error_class": "text",  # transient, permanent, invalid, downstream or bug
        "error_code": "text",
        "count": "count",  # items that stand as failed, deferred or unknown
        "first_seen": "instant",  # of all items of the slot that ever ended so
        "last_seen": "instant",
        "sample_key": "text",
        "sample_message": "text",  # one line, redacted, without mail addresses, 500 characters at most
    }
)
def errors(day: Day) -> DataFrame:
    """Items that are failed, deferred or unknown now; one that succeeded in a retry is no error any more.

    `first_seen`, `last_seen` and the sample are of all items of the slot that ever ended so; a server's answer may
    quote addresses, which no bucket gets.
    """
    frame = day.query(
        """
        SELECT slot.day AS report_date, trouble.job, trouble.slot,
               nullif(trouble.error_class, '') AS error_class, nullif(trouble.error_code, '') AS error_code,
               trouble.n AS count, trouble.first_at AS first_seen, trouble.last_at AS last_seen,
               trouble.sample_key, trouble.sample AS sample_message
        FROM trouble JOIN slot ON slot.job = trouble.job AND slot.slot = trouble.slot
        WHERE slot.day = :day AND NOT slot.rehearsal AND trouble.n > 0
        """
    )
    return frame.assign(sample_message=Series(map(_one_line, frame["sample_message"]), dtype=object))


def _one_line(message: str | None) -> str | None:
    return None if message is None else without_addresses(" ".join(message.split()))[:LONGEST]
