"""Some simulated nights: what must be true at every noon is, and the same seed gives the same history.

`make simulate SEED=1 NIGHTS=365` lives through a year, `make simulate SEEDS=100 NIGHTS=20` through many short ones.
"""

import asyncio
import random
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.simulation.invariants import violations
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.year import Broken, Year, simulate

pytestmark = pytest.mark.slow

FALSE = {  # what each invariant must notice
    "items_add_up": "UPDATE slot SET ok = ok + 1 WHERE job = 'chores'",
    "runs_add_up": "UPDATE run SET items = items + 1 WHERE job = 'agents'",
    "no_bug_of_ours": "UPDATE item SET error_class = 'bug', error_code = 'KeyError' WHERE key = 'c_0001'",
    "one_effect_per_item": "UPDATE effect SET state = 'failed' WHERE name = 'letter'",
    "books_equal_calls": "UPDATE call SET cost_nano = cost_nano + 1",
    "books_equal_the_bill": "UPDATE call SET cost_nano = cost_nano - 1 WHERE status = 'ok'",
    "caps_hold": "UPDATE budget SET reserved_nano = cap_nano + 1",
    "once_a_day": "DELETE FROM occurrence WHERE job = 'letters' AND slot = '2026-06-03'",
    "nothing_open_for_ever": "UPDATE occurrence SET state = 'claimed'",
    "reports_show_the_items": "UPDATE slot SET ok = ok + 1 WHERE job = 'letters'",
}


@pytest.mark.parametrize("seed", [1, 2])
def test_nights_with_faults_lose_nothing_and_double_nothing(seed: int) -> None:
    history = simulate(seed, nights=10, items=30)
    assert history.items > 500
    assert history.mails > 30


def test_the_same_seed_gives_the_same_history() -> None:
    assert simulate(3, nights=3, items=20) == simulate(3, nights=3, items=20)
    assert simulate(3, nights=3, items=20).digest != simulate(4, nights=3, items=20).digest


def test_every_invariant_notices_what_it_is_there_for() -> None:
    noticed: dict[str, bool] = {}

    def falsify(year: Year) -> None:
        for invariant, lie in FALSE.items():
            with year.world.ledger.engine.connect() as connection:
                connection.execute(text(lie))
                year.books.connection = connection
                noticed[invariant] = any(found.startswith(invariant) for found in violations(year.books, last=True))
                connection.rollback()
        year.books.connection = None
        year.world.model.asked_at += [year.world.loop.time()] * 100
        noticed["rates_hold"] = any(found.startswith("rates_hold") for found in violations(year.books, last=True))

    simulate(6, nights=4, items=20, after=falsify)
    assert noticed == dict.fromkeys([*FALSE, "rates_hold"], True)


def test_a_seed_that_breaks_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.year.violations", lambda *_, **__: ["the sky is green"])
    with pytest.raises(Broken, match=r"(?s)the sky is green.*make simulate SEED=7 NIGHTS=1 ITEMS=5"):
        simulate(7, nights=3, items=5)


def test_virtual_time_is_exact_for_years_and_takes_none() -> None:
    loop, woken = VirtualLoop(), []
    dice = random.Random(1)
    naps = [dice.uniform(0, timedelta(days=3).total_seconds()) for _ in range(300)]

    async def nap() -> None:
        for seconds in naps:
            await asyncio.sleep(seconds)
        woken.append(loop.time())

    loop.run_until_complete(nap())
    loop.close()
    assert woken[0] == pytest.approx(sum(naps))
    assert woken[0] > 2**24  # from here on asyncio's own resolution is finer than that of its clock


def test_who_waits_for_nobody_is_found_out() -> None:
    loop = VirtualLoop()
    with pytest.raises(Stuck, match="everybody waits"):
        loop.run_until_complete(asyncio.Event().wait())
    loop.close()
