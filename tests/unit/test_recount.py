"""Counters are sums of rows: computed anew after any activity they are the same, and after vandalism they are right."""

import random
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from overnight.budget import IN_FLIGHT, Also, Budgets, Caps, JobCaps, RoleCaps
from overnight.closing import settle_item
from overnight.editions import next_edition, supersede
from overnight.effects import Effect, Effects
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.journal import Ended, Sent, begin, book
from overnight.ledger.runs import close_run, runs_like
from overnight.ledger.tables import histogram, item, metadata, run, slot
from overnight.outcome import Outcome, Scope, State
from overnight.recount import rebuild
from overnight.retention import retire
from tests.slots import NOW, SLOT, ManualClock, open_ledger, rows
from tests.slots import begin as begin_run

SEED = 2
KEYS = [f"k{n}" for n in range(5)]
CAPS = Caps(jobs={"greet": JobCaps(10**9, 10**9)}, roles={"editor": RoleCaps(10**9, 10**9)})
ENDS: list[State] = ["ok", "failed", "retry", "skipped", "unknown"]
COUNTERS = {
    slot: ("pending", "ok", "failed", "retry", "skipped", "unknown", "cost_nano"),
    run: ("items", "ok", "failed", "retry", "skipped", "unknown", "cost_nano"),
    item: ("cost_nano",),
    budget: ("settled_nano", "reserved_nano"),
}


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  a history that can be told again


async def busy(ledger: Ledger, chance: random.Random) -> None:
    """Some runs over some slots: items end and are done again, models are asked, people settle and redo."""
    clock = ledger.clock
    assert isinstance(clock, ManualClock)
    budgets, effects = Budgets(ledger, clock, NOW.tzinfo, CAPS), Effects(ledger, clock)  # type: ignore[arg-type]
    for name in chance.sample(["2026-11-20", "2026-11-21", SLOT], chance.randint(1, 2)):
        lost: list[Effect] = []
        for number in range(chance.randint(1, 3)):
            clock.move(60)
            scope = begin_run(ledger, slot=name)
            if number == 0:
                ledger.writing(lambda c, s=scope: plan(c, s, [(n, key, "{}") for n, key in enumerate(KEYS)]))
                ledger.writing(lambda c, s=scope: planned(c, s, clock.now()))
            for row in chance.sample(rows(ledger, item, slot=name), chance.randint(0, len(KEYS))):
                if row["state"] == "ok":
                    continue
                await asked(ledger, budgets, replace(scope, key=row["key"]), chance)
                state = chance.choice(ENDS)
                if state == "unknown":
                    begun = await effects.begin(replace(scope, key=row["key"]), "mail", "t", row["key"], "<id>")
                    await effects.unknown(begun)
                    lost.append(begun)
                outcome = Outcome(row["key"], state, duration_ms=chance.randint(1, 5000), attempts=chance.randint(1, 3))
                await ledger.record(record, Recorded(scope, row["state"], outcome, clock.now()))
            if chance.random() < 0.7:
                await ledger.write(lambda c, s=scope: close_run(c, s, "partial", None, clock.now()))
        for begun in lost:  # a process that was stopped may wake
            if chance.random() < 0.3:
                await effects.done(begun)
        by_hand(ledger, name, chance)


def by_hand(ledger: Ledger, name: str, chance: random.Random) -> None:
    of = ledger.reading(runs_like, rows(ledger, run, slot=name)[0]["id"])[0]
    now = ledger.clock.now() + timedelta(hours=1)
    for row in rows(ledger, item, slot=name, state="unknown"):
        if chance.random() < 0.5:
            answer = chance.choice(["sent", "unsent"])
            ledger.writing(lambda c, k=row["key"], a=answer: settle_item(c, of, k, a, now))  # type: ignore[misc]
    if chance.random() < 0.3:
        edition = ledger.reading(next_edition, "greet", name, now)
        ledger.writing(lambda c: supersede(c, "greet", edition, now))


async def asked(ledger: Ledger, budgets: Budgets, scope: Scope, chance: random.Random) -> None:
    """A call that is settled, or still in flight."""
    for _ in range(chance.randint(0, 2)):
        worst = chance.randint(10, 1000)
        sent = Sent(f"c{chance.getrandbits(60):x}", scope, "h", "editor", "m", worst, ledger.clock.now())
        held = await budgets.reserve(scope, worst, role="editor", also=Also(begin, sent))
        if chance.random() < 0.8:
            ended = Ended("ok", chance.randint(0, worst), 5)
            await budgets.settle(held, ended.cost_nano, also=Also(book, (sent, ended)))


def everything(ledger: Ledger) -> dict[str, list[dict[str, object]]]:
    return {table.name: rows(ledger, table) for table in metadata.tables.values()}


def opened(seed: int) -> Ledger:
    return open_ledger(Path(tempfile.mkdtemp(prefix=f"recount-{seed % 1000}-")), ManualClock())


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_after_any_activity_nothing_differs(seed: int) -> None:
    ledger = opened(seed)
    await busy(ledger, seeded(seed))
    before = everything(ledger)
    assert rebuild(ledger) == []
    assert everything(ledger) == before
    ledger.close()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
async def test_what_somebody_has_changed_by_hand_is_put_right(seed: int) -> None:
    ledger, chance = opened(seed), seeded(seed)
    await busy(ledger, chance)
    newest = {row["slot"]: row["id"] for row in sorted(rows(ledger, run), key=lambda row: str(row["id"]))}
    before = everything(ledger)
    for table, columns in COUNTERS.items():
        wrong = {name: chance.randint(0, 99) for name in columns}
        only = [run.c.id.in_(list(newest.values()))] if table is run else []
        ledger.writing(lambda c, t=table, w=wrong, o=only: c.execute(update(t).where(*o).values(**w)))  # type: ignore[misc]
    ledger.writing(lambda c: c.execute(histogram.delete().where(histogram.c.run_id.in_(list(newest.values())))))
    changed = everything(ledger) != before
    found = rebuild(ledger)
    assert everything(ledger) == before
    assert bool(found) == changed
    ledger.close()


async def test_a_retired_slot_keeps_its_counts(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    scope = begin_run(ledger)
    ledger.writing(lambda c: plan(c, scope, [(0, "a", "{}")]))
    ledger.writing(lambda c: planned(c, scope, NOW))
    ledger.writing(lambda c: record(c, [Recorded(scope, "pending", Outcome("a", "ok"), NOW)]))
    ledger.writing(lambda c: close_run(c, scope, "ok", None, NOW))
    clock.at += timedelta(days=99)
    assert (await retire(ledger, {})).items == 1
    assert rebuild(ledger) == []
    assert rows(ledger, slot)[0]["ok"] == rows(ledger, run)[0]["ok"] == 1
    ledger.close()


async def test_what_differs_is_named(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    await busy(ledger, seeded(SEED))
    name = rows(ledger, slot)[0]["slot"]
    was = rows(ledger, slot)[0]["ok"]
    ledger.writing(lambda c: c.execute(update(slot).where(slot.c.slot == name).values(ok=77)))
    assert [(one.what, one.was, one.now) for one in rebuild(ledger)] == [(f"slot greet/{name} ok", 77, was)]
    flying = ledger.reading(
        lambda c: c.execute(select(budget.c.reserved_nano).where(budget.c.reserved_nano > 0)).first()
    )
    assert flying is not None, f"some call is {IN_FLIGHT}, or this tests nothing of reservations"
    ledger.close()
