"""What the slots of a day have come to: a small report, for a year of nights makes thousands."""

from pandas import DataFrame

from overnight.report import Day, report


@report({"slot_day": "date", "job": "text", "slot": "text", "items": "count", "ok": "count", "cost_usd": "money"})
def nights(day: Day) -> DataFrame:
    """One row per slot of the day."""
    return day.query(
        "SELECT day AS slot_day, job, slot, pending + ok + failed + retry + skipped + unknown AS items, ok,"
        " cost_nano AS cost_usd FROM slot WHERE day = :day"
    )
