"""What was spent: one row per job, slot, role and model of a budget day."""

from pandas import DataFrame, Series

from overnight.report import Day, report


@report(
    {
        "report_date": "date",  # the budget day: the local date on which the money was reserved
        "job": "text",
        "slot": "text",  # the edition that it was spent on
        "role": "text",
        "model": "text",
        "calls": "count",  # requests that were sent, repeated and refused ones included
        "input_tokens": "count",  # read and not cached
        "output_tokens": "count",  # written
        "cache_read_tokens": "count",  # read from the cache
        "cache_write_tokens": "count",  # put into the cache
        "cost_usd": "money",  # what was charged; a call whose outcome nobody knows stays charged at its worst case
        "cost_wasted_usd": "money",  # the part in items that stand as failed now; a retry that succeeds undoes it
        "cost_per_ok_item_usd": "money",  # cost_usd by all ok items of the slot, rounded down; empty when none is
        "budget_usd": "money",  # the cap of the whole day
        "budget_used_pct": "ratio",  # this row's part of budget_usd
        "cache_write_1h_tokens": "count",  # those of cache_write_tokens that stay for an hour
        "naive_usd": "money",  # the valid answers from the dearest model of the role, at the first try, uncached
    }
)
def cost(day: Day) -> DataFrame:
    """Calls whose outcome nobody knows are charged at their worst case, here as in the budget.

    `cost_wasted_usd` went into items that stand as failed. `cost_per_ok_item_usd` divides by all items of the slot that
    are ok, rounded down to a nano-dollar. `budget_usd` is the cap of the whole day; `budget_used_pct` is this row's
    part of it, so that the column adds up to what the day has used. `naive_usd` is what the valid answers would have
    cost from the dearest model of the role, at the first try, without cache and discount, and with all that was at hand
    as context; replays and answers that were thrown away count nothing.
    """
    frame = day.query(
        """
        SELECT spend.budget_day AS report_date, spend.job, spend.slot, spend.role, spend.model,
               sum(spend.calls) AS calls,
               sum(spend.input_tokens) AS input_tokens,
               sum(spend.output_tokens) AS output_tokens,
               sum(spend.cache_read_tokens) AS cache_read_tokens,
               sum(spend.cache_write_tokens) AS cache_write_tokens,
               sum(spend.cost_nano) AS cost_usd,
               sum(spend.wasted_nano) AS cost_wasted_usd,
               max(slot.ok) AS ok,
               (SELECT cap_nano + extra_nano FROM budget WHERE scope = :counter) AS budget_usd,
               sum(spend.cache_write_1h_tokens) AS cache_write_1h_tokens,
               sum(spend.naive_nano) AS naive_usd
        FROM spend LEFT JOIN slot ON slot.job = spend.job AND slot.slot = spend.slot
        WHERE spend.budget_day = :day AND NOT coalesce(slot.rehearsal, false)
        GROUP BY spend.budget_day, spend.job, spend.slot, spend.role, spend.model
        HAVING sum(spend.calls) > 0
        """,
        counter=f"day:{day.date}",
    )
    spent = list(zip(frame["cost_usd"], frame["ok"], frame["budget_usd"], strict=True))
    per_item = [int(nano) // ok if ok else None for nano, ok, _ in spent]
    used = [100 * int(nano) / cap if cap else None for nano, _, cap in spent]
    return frame.assign(cost_per_ok_item_usd=Series(per_item, dtype=object), budget_used_pct=Series(used, dtype=object))
