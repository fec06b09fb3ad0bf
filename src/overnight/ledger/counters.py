"""Statements on the counters of budgets. `take` holds the cap: it reserves only where there is room."""

from sqlalchemy import bindparam, update

from overnight.ledger.controls import budget
from overnight.ledger.statements import Prepared

take = Prepared(
    lambda _insert: (
        update(budget)
        .where(budget.c.scope == bindparam("b_scope"))
        .where(
            budget.c.settled_nano + budget.c.reserved_nano + bindparam("v_worst")
            <= budget.c.extra_nano + bindparam("v_cap")
        )
        .values(reserved_nano=budget.c.reserved_nano + bindparam("v_worst"), cap_nano=bindparam("v_cap"))
    )
)
move = Prepared(
    lambda _insert: (
        update(budget)
        .where(budget.c.scope == bindparam("b_scope"))
        .values(
            reserved_nano=budget.c.reserved_nano - bindparam("v_worst"),
            settled_nano=budget.c.settled_nano + bindparam("v_actual"),
        )
    )
)
mark = Prepared(
    lambda _insert: (
        update(budget)
        .where(budget.c.scope == bindparam("b_scope"), budget.c.warned_at.is_(None))
        .where(
            (budget.c.settled_nano + budget.c.reserved_nano) * bindparam("v_denominator")
            >= (budget.c.cap_nano + budget.c.extra_nano) * bindparam("v_numerator")
        )
        .values(warned_at=bindparam("v_now"))
    )
)
