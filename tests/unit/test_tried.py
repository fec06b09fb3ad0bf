"""Which items are looked up in the journal: all that may have calls there, and few others."""

import dataclasses
from pathlib import Path

from sqlalchemy import insert

from overnight.ledger.tables import call
from overnight.ledger.tried import Tried
from tests.slots import ManualClock, begin, open_ledger


async def test_an_item_is_looked_up_when_it_was_asked_about_before_here_or_elsewhere(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    scope = begin(ledger)
    row = {"hash": "h", "nth": 0, "run_id": "r_0", "role": "editor", "model": "m", "status": "unknown"}
    row |= {"id": "c_1", "job": scope.job, "slot": scope.slot, "key": "old", "budget_day": scope.slot}
    ledger.writing(lambda connection: connection.execute(insert(call).values(started_at=ledger.clock.now(), **row)))
    tried = Tried(ledger)
    asked = [await tried.before(dataclasses.replace(scope, key=key)) for key in ("old", "new", "new")]
    assert asked == [True, False, True]
    assert not await tried.before(dataclasses.replace(scope, slot="2026-11-23", key="old"))
    ledger.close()


async def test_of_ten_thousand_new_items_hardly_any_is_looked_up(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    scope, tried = begin(ledger), Tried(ledger)
    assert sum([await tried.before(dataclasses.replace(scope, key=f"s{n}")) for n in range(10_000)]) < 50
    ledger.close()
