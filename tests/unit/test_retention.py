"""What is old goes a little at a time; what is unfinished, or keeps a thing from being done twice, stays."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from overnight.bounces.count import _note
from overnight.bounces.notice import Notice
from overnight.clock import iso
from overnight.ledger import Ledger
from overnight.ledger.controls import alert, budget
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.onces import keep_once
from overnight.ledger.runs import close_run, slot_of
from overnight.ledger.tables import call, effect, histogram, incoming, item, once, run, seen
from overnight.outcome import Outcome, RunStatus, Scope, State
from overnight.recount import rebuild
from overnight.retention import _retire_some, claim, due, preview, retire, retired_days
from tests.slots import NOW, SLOT, ManualClock, begin, rows

TERMS = {"greet": timedelta(days=30)}
LATER = timedelta(days=31)
MANY = 1100


def night(
    ledger: Ledger, states: dict[str, State], name: str = SLOT, *, status: RunStatus = "ok", rehearsal: bool = False
) -> Scope:
    """A run that worked on these items, asked a model once for each and mailed each."""
    scope = begin(ledger, slot=name, rehearsal=rehearsal)
    keys = list(states)
    ledger.writing(lambda c: plan(c, scope, [(n, key, f'"{key}"') for n, key in enumerate(keys)]))
    ledger.writing(lambda c: planned(c, scope, NOW))
    ended = [
        Recorded(scope, "pending", Outcome(key, state, result='"r"'), NOW)
        for key, state in states.items()
        if state != "pending"
    ]
    if ended:
        ledger.writing(lambda c: record(c, ended))
    ledger.writing(lambda c: keep_once(c, scope, "edition", '"the edition"', [("stories", f"story of {name}")], NOW))
    calls = [_call(scope, key) for key in keys]
    effects = [_effect(scope, key) for key in keys]
    ledger.writing(lambda c: c.execute(insert(call), calls))
    ledger.writing(lambda c: c.execute(insert(effect), effects))
    ledger.writing(lambda c: c.execute(insert(budget).values(scope=f"run:greet/{name}", cap_nano=1)))
    ledger.writing(lambda c: c.execute(insert(budget).values(scope=f"task:r:greet/{name}/a", cap_nano=1)))
    ledger.writing(lambda c: close_run(c, scope, status, None, NOW))
    return scope


def _call(scope: Scope, key: str) -> dict[str, object]:
    return {
        "id": f"{scope.slot}-{key}", "job": scope.job, "slot": scope.slot, "key": key, "hash": "h", "nth": 0,
        "run_id": scope.run_id, "role": "r", "model": "m", "status": "ok", "cost_nano": 5, "budget_day": SLOT,
        "started_at": NOW, "response": "secret text",
    }  # fmt: skip


def _effect(scope: Scope, key: str) -> dict[str, object]:
    return {
        "id": f"{scope.slot}-{key}", "job": scope.job, "slot": scope.slot, "key": key, "kind": "mail", "name": "t",
        "target": key, "ref": "<id>", "state": "done", "detail": "found in the outbox", "run_id": scope.run_id,
        "intent_at": NOW, "done_at": NOW,
    }  # fmt: skip


async def test_what_items_carried_goes_and_what_prevents_a_second_mail_stays(
    ledger: Ledger, clock: ManualClock
) -> None:
    night(ledger, dict.fromkeys([f"k{n}" for n in range(MANY)], "ok"))
    assert (await retire(ledger, TERMS)).rows == 0, "it is of today"
    clock.at += LATER
    would = ledger.reading(preview, TERMS, clock.now())
    deleted = await retire(ledger, TERMS)
    assert (deleted.slots, deleted.items, deleted.answers, deleted.values) == (1, MANY, MANY, 1)
    assert (would.slots, would.items, would.answers, would.values) == (1, MANY, MANY, 1)
    assert rows(ledger, item) == rows(ledger, once) == rows(ledger, histogram) == []
    assert {row["response"] for row in rows(ledger, call)} == {None}
    assert sum(row["cost_nano"] for row in rows(ledger, call)) == 5 * MANY, "the books stay"
    assert {(row["state"], row["ref"], row["detail"]) for row in rows(ledger, effect)} == {("done", "<id>", None)}
    kept = ledger.reading(slot_of, "greet", SLOT)
    assert (kept["ok"], kept["retired_at"]) == (MANY, NOW + LATER)
    assert len(rows(ledger, run)) == len(rows(ledger, seen)) == 1
    assert [row["scope"] for row in rows(ledger, budget)] == []
    assert (await retire(ledger, TERMS)).rows == 0, "once is enough"


async def test_each_transaction_is_short(ledger: Ledger, clock: ManualClock) -> None:
    night(ledger, dict.fromkeys([f"k{n}" for n in range(MANY)], "ok"))
    clock.at += LATER
    await retire(ledger, TERMS)
    assert len(clock.slept) >= 2 * MANY / 500, "it lets others in between"


async def test_a_slot_whose_retention_was_cut_short_keeps_its_counts_and_is_gone_on_with(
    ledger: Ledger, clock: ManualClock
) -> None:
    night(ledger, {f"k{n}": "ok" if n else "failed" for n in range(MANY)})
    assert rebuild(ledger)  # the histogram, and what these calls have cost
    clock.at += LATER
    for _ in range(5):  # answers and what is small, and the first items
        ledger.writing(lambda c: _retire_some(c, ("greet", SLOT), TERMS, clock.now()))
    assert 0 < len(rows(ledger, item)) < MANY
    assert rebuild(ledger) == [], "what is gone is not missing"
    assert (ledger.reading(slot_of, "greet", SLOT)["ok"], rows(ledger, run)[0]["ok"]) == (MANY - 1, MANY - 1)
    clock.at += timedelta(days=1)
    assert (await retire(ledger, TERMS)).items > 0
    assert rows(ledger, item) == []


@pytest.mark.parametrize("state", ["pending", "retry", "unknown"])
async def test_what_is_not_finished_stays(ledger: Ledger, clock: ManualClock, state: State) -> None:
    night(ledger, {"a": "ok", "b": state})
    clock.at += LATER
    assert (await retire(ledger, TERMS)).items == 0
    assert len(rows(ledger, item)) == 2


@pytest.mark.parametrize("state", ["pending", "retry", "unknown"])
async def test_a_rehearsal_goes_whatever_is_left_of_it(ledger: Ledger, clock: ManualClock, state: State) -> None:
    night(ledger, {"a": "ok", "b": state}, f"{SLOT}~a", rehearsal=True)
    ledger.writing(lambda c: c.execute(update(effect).values(state="unknown")))
    assert (await retire(ledger, TERMS)).rows == 0, "it is of today"
    clock.at += LATER
    assert (await retire(ledger, TERMS)).items == 2
    assert rows(ledger, item) == []


async def test_an_open_effect_or_a_run_of_today_keeps_the_slot(ledger: Ledger, clock: ManualClock) -> None:
    night(ledger, {"a": "failed"})
    ledger.writing(lambda c: c.execute(update(effect).values(state="intent")))
    clock.at += LATER
    assert ledger.reading(due, TERMS, clock.now()) == []
    ledger.writing(lambda c: c.execute(update(effect).values(state="failed")))
    assert ledger.reading(due, TERMS, clock.now()) == [("greet", SLOT)]
    begin(ledger)
    assert ledger.reading(due, TERMS, clock.now()) == [], "somebody retries it"


async def test_a_job_that_is_in_the_file_no_more_has_ninety_days(ledger: Ledger, clock: ManualClock) -> None:
    night(ledger, {"a": "ok"})
    clock.at += LATER
    assert (await retire(ledger, {})).items == 0
    clock.at += timedelta(days=60)
    assert (await retire(ledger, {})).items == 1


async def test_counters_of_past_days_and_alerts_that_are_over_go(ledger: Ledger, clock: ManualClock) -> None:
    names = [
        f"day:{SLOT}",
        f"job:greet:{SLOT}",
        f"role:editor:{SLOT}",
        "day:2027-04-01",
        "run:greet/2020-01-01",
        "task:r:greet/2020-01-01/x",
    ]
    ledger.writing(lambda c: c.execute(insert(budget), [{"scope": name, "cap_nano": 1} for name in names]))
    held = {"scope": "job:busy:2026-11-22", "cap_nano": 9, "reserved_nano": 3}
    ledger.writing(lambda c: c.execute(insert(budget), [held]))
    old = {"rule": "bug", "scope": "greet", "message": "m", "first_at": NOW, "last_at": NOW}
    ledger.writing(
        lambda c: c.execute(
            insert(alert), [old | {"key": "a", "state": "resolved"}, old | {"key": "b", "state": "firing"}]
        )
    )
    clock.at += timedelta(days=120)
    deleted = await retire(ledger, TERMS)
    assert (deleted.counters, deleted.alerts) == (3, 1)
    assert {row["scope"] for row in rows(ledger, budget)} == {*names[3:], "job:busy:2026-11-22"}
    assert [row["key"] for row in rows(ledger, alert)] == ["b"]


async def test_marks_of_mail_that_nobody_has_read_for_a_year_go_and_reading_it_again_keeps_them(
    ledger: Ledger, clock: ManualClock
) -> None:
    def read(digest: str) -> bool:
        return ledger.writing(lambda c: _note(c, digest, Notice("policy", "s_a"), clock.now())) == (True, False)

    assert [read("mbox"), read("pipe")] == [True, True]
    clock.at += timedelta(days=200)
    assert not read("mbox")
    clock.at += timedelta(days=200)
    assert (await retire(ledger, TERMS)).incoming == 1
    assert [row["digest"] for row in rows(ledger, incoming)] == ["mbox"]


def test_one_process_does_it_once_a_day(ledger: Ledger, clock: ManualClock) -> None:
    assert [ledger.writing(lambda c: claim(c, clock.now())) for _ in range(2)] == [True, False]
    clock.at += timedelta(hours=25)
    assert ledger.writing(lambda c: claim(c, clock.now()))


@pytest.mark.parametrize("wrong", [timedelta(days=200), timedelta(days=-200)])
def test_a_clock_that_jumps_by_months_deletes_nothing_before_somebody_could_see_it(
    ledger: Ledger, clock: ManualClock, wrong: timedelta
) -> None:
    assert ledger.writing(lambda c: claim(c, clock.now()))
    clock.at += wrong
    assert not ledger.writing(lambda c: claim(c, clock.now()))
    clock.at += timedelta(hours=1) - wrong
    assert not ledger.writing(lambda c: claim(c, clock.now())), "it is right again, and knows it"
    clock.at += timedelta(hours=25)
    assert ledger.writing(lambda c: claim(c, clock.now()))


async def test_days_that_have_lost_items_are_known(ledger: Ledger, clock: ManualClock) -> None:
    night(ledger, {"a": "ok"})
    clock.at += LATER
    assert ledger.reading(retired_days, [SLOT]) == set()
    await retire(ledger, TERMS)
    assert ledger.reading(retired_days, [SLOT, iso(NOW)[:10]]) == {SLOT}
