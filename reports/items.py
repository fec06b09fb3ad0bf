"""What became of each item: one row per item of the day's slots, by its opaque key."""

from pandas import DataFrame

from overnight.report import Day, report

LISTED = 20_000  # items of a slot; of a larger one only those that failed, wait or are unknown
LIMIT = 100_000  # rows of a day; counts of all items are in `success_rate`


@report(
    {
        "report_date": "date",  # the day of the slot
        "job": "text",
        "slot": "text",
        "key": "text",  # opaque: a subscriber's id, never the address
        "state": "text",  # pending, ok, failed, retry, skipped or unknown
        "run_id": "text",  # the run that has worked on it last
        "attempts": "count",
        "error_class": "text",
        "error_code": "text",
        "duration_ms": "count",
        "cost_usd": "money",  # of all its calls
        "ended_at": "instant",
        "retry_at": "instant",  # when a deferred one is taken up
        "naive_usd": "money",  # its valid answers as in the report cost
    }
)
def items(day: Day) -> DataFrame:
    """Items as they stand now. A slot of more than 20,000 shows those in trouble; what is ok there is a number.

    A day has 100,000 rows at most.

    `naive_usd` is what the item's valid answers would have cost from the dearest model of the role, at the first try,
    without a cache and with all that was at hand as its context; empty without such an answer.
    """
    columns = """
        slot.day AS report_date, item.job, item.slot, item.key, item.state, item.run_id, item.attempts,
        item.error_class, item.error_code, item.duration_ms, item.cost_nano AS cost_usd, item.ended_at,
        item.next_at AS retry_at,
        (SELECT sum(call.naive_nano) FROM call
         WHERE call.job = item.job AND call.slot = item.slot AND call.key = item.key) AS naive_usd
    """
    all_of = "slot.pending + slot.ok + slot.failed + slot.retry + slot.skipped + slot.unknown"
    mine = "WHERE item.job = slot.job AND item.slot = slot.slot AND slot.day = :day AND NOT slot.rehearsal"
    # CROSS JOIN: the slots of the day come first, or a million items of other days would be looked at
    return day.query(
        f"""
        SELECT {columns} FROM slot CROSS JOIN item {mine} AND {all_of} <= :listed
        UNION ALL
        SELECT {columns} FROM slot CROSS JOIN item {mine} AND {all_of} > :listed
        AND item.state IN ('failed', 'retry', 'unknown')
        ORDER BY 2, 3, 4 LIMIT :most
        """,  # noqa: S608  nothing in it comes from outside
        listed=LISTED,
        most=LIMIT,
    )
