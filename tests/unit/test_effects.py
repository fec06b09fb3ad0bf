"""Effects: an intent before, a result after, and nobody else's slot."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from overnight.clock import SystemClock
from overnight.effects import Effects, effect_id
from overnight.errors import Fenced
from overnight.ledger import Ledger
from overnight.ledger.tables import effect as table
from overnight.ledger.tables import lease
from overnight.outcome import Scope

SCOPE = Scope("daily", "2026-11-22", "s_1", "r_1", fence=3)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.close()


@pytest.fixture
def effects(ledger: Ledger) -> Effects:
    return Effects(ledger, SystemClock())


def own(ledger: Ledger, fence: int) -> None:
    row = {"job": SCOPE.job, "slot": SCOPE.slot, "run_id": "r_1", "host": "h", "pid": 1, "fence": fence}
    ledger.writing(lambda connection: connection.execute(insert(lease).values(**row)))


def state(ledger: Ledger) -> str:
    found: str = ledger.reading(lambda connection: connection.execute(select(table.c.state)).scalar_one())
    return found


async def test_the_intent_is_in_the_ledger_before_anything_goes_out(effects: Effects, ledger: Ledger) -> None:
    begun = await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>")
    assert begun.fresh
    assert state(ledger) == "intent"
    await effects.done(begun, "250 ok")
    assert state(ledger) == "done"


async def test_a_second_attempt_finds_the_first(effects: Effects) -> None:
    first = await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>")
    await effects.done(first)
    second = await effects.begin(replace(SCOPE, run_id="r_2"), "mail", "daily", "s_1", "<other@x>")
    assert (second.state, second.ref, second.fresh) == ("done", "<id@x>", False)


async def test_of_many_at_once_only_one_is_the_first(effects: Effects) -> None:
    begun = await asyncio.gather(*(effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>") for _ in range(50)))
    assert [effect.fresh for effect in begun].count(True) == 1


async def test_a_refused_effect_begins_anew(effects: Effects, ledger: Ledger) -> None:
    await effects.failed(await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>"), "451")
    assert (await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>")).fresh
    assert state(ledger) == "intent"


async def test_an_unknown_effect_stays_unknown_until_somebody_decides(effects: Effects) -> None:
    await effects.unknown(await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>"), "lost")
    found = await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>")
    assert (found.state, found.detail, found.fresh) == ("unknown", "lost", False)
    assert (await effects.again(SCOPE, found)).fresh


async def test_a_process_that_lost_its_slot_writes_no_intent(effects: Effects, ledger: Ledger) -> None:
    own(ledger, fence=4)
    with pytest.raises(Fenced, match="taken over"):
        await effects.begin(SCOPE, "mail", "daily", "s_1", "<id@x>")
    assert await effects.find(SCOPE, "mail", "daily", "s_1") is None


async def test_a_fenced_neighbour_in_the_same_commit_does_not_take_others_with_it(
    effects: Effects, ledger: Ledger
) -> None:
    own(ledger, fence=3)
    scopes = [replace(SCOPE, key=f"s_{n}", fence=2 if n == 5 else 3) for n in range(10)]
    begun = await asyncio.gather(
        *(effects.begin(scope, "mail", "daily", scope.key, "<id@x>") for scope in scopes), return_exceptions=True
    )
    assert [isinstance(result, Fenced) for result in begun] == [n == 5 for n in range(10)]


def test_the_id_depends_on_every_part_and_on_no_run() -> None:
    ids = {
        effect_id(scope, kind, name, target)
        for scope in (SCOPE, replace(SCOPE, job="x"), replace(SCOPE, slot="x"), replace(SCOPE, key="x"))
        for kind, name, target in (("mail", "a", "b"), ("mail", "ab", ""), ("tool", "a", "b"), ("mail", "a", "c"))
    }
    assert len(ids) == 16
    assert effect_id(SCOPE, "mail", "a", "b") == effect_id(replace(SCOPE, run_id="r_9", fence=9), "mail", "a", "b")


async def test_who_wakes_after_being_succeeded_only_adds_what_has_happened(effects: Effects, ledger: Ledger) -> None:
    own(ledger, 3)
    old = await effects.begin(SCOPE, "mail", "daily_email", "s_1", "<1@x>")
    ledger.writing(lambda connection: connection.execute(lease.update().values(fence=4, run_id="r_2")))
    new = await effects.again(replace(SCOPE, fence=4, run_id="r_2"), old)
    await effects.failed(old, "451 late")
    assert state(ledger) == "intent"
    await effects.done(new, "by the heir")
    await effects.unknown(old, "late")
    await effects.done(old, "late")
    found = await effects.find(SCOPE, "mail", "daily_email", "s_1")
    assert found is not None
    assert (found.state, found.detail) == ("done", "by the heir")
