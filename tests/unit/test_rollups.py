"""What reports need is added up with each call and each outcome, and taken back when these change."""

import dataclasses
from datetime import timedelta
from typing import Any

from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.journal import Ended, Sent, begin, book, discard, forget
from overnight.ledger.rollups import SUMS, spend, trouble
from overnight.outcome import Outcome, Scope, State
from overnight.pricing import Usage
from overnight.recount import rebuild
from tests.slots import NOW, SLOT, rows
from tests.slots import begin as begin_run

USED = Usage(100, 10, 900, 50, cache_write_1h_tokens=20)


def started(ledger: Ledger) -> Scope:
    scope = begin_run(ledger)
    ledger.writing(lambda c: plan(c, scope, [(n, key, "{}") for n, key in enumerate("ab")]))
    return scope


def sent(ledger: Ledger, scope: Scope, key: str, name: str) -> Sent:
    request = Sent(name, dataclasses.replace(scope, key=key), "h", "editor", "m", 1000, NOW)
    ledger.writing(lambda c: begin(c, [(request, SLOT)]))
    return request


def called(ledger: Ledger, scope: Scope, key: str, name: str, cost: int) -> None:
    request = sent(ledger, scope, key, name)
    ledger.writing(lambda c: book(c, [(request, Ended("ok", cost, 5, USED, naive_nano=9 * cost))]))


def ended(ledger: Ledger, scope: Scope, was: State, state: State, code: str | None = None) -> None:
    kind = None if code is None else "permanent"
    outcome = Outcome("a", state, error_class=kind, error_code=code, error=code and f"said {code}")
    mine = dataclasses.replace(scope, key="a")
    ledger.writing(lambda c: record(c, [Recorded(mine, was, outcome, ledger.clock.now())]))


def spent(ledger: Ledger) -> dict[str, int]:
    """The sums of all runs."""
    return {name: sum(row[name] for row in rows(ledger, spend)) for name in SUMS}


def open_codes(ledger: Ledger) -> dict[str, int]:
    return {row["error_code"]: row["n"] for row in rows(ledger, trouble) if row["n"]}


def test_a_call_is_counted_at_its_worst_and_then_at_what_it_was(ledger: Ledger) -> None:
    scope = started(ledger)
    request = sent(ledger, scope, "a", "c1")
    assert (spent(ledger)["calls"], spent(ledger)["cost_nano"]) == (1, 1000)
    ledger.writing(lambda c: book(c, [(request, Ended("ok", 70, 5, USED, naive_nano=90))]))
    wanted = {
        "calls": 1, "input_tokens": 100, "output_tokens": 10, "cache_read_tokens": 900, "cache_write_tokens": 50,
        "cache_write_1h_tokens": 20, "cost_nano": 70, "naive_nano": 90, "wasted_nano": 0,
    }  # fmt: skip
    assert wanted.items() <= spent(ledger).items()
    assert rebuild(ledger) == []


def test_a_call_that_was_never_sent_is_not_counted(ledger: Ledger) -> None:
    scope = started(ledger)
    request = sent(ledger, scope, "a", "c1")
    ledger.writing(lambda c: forget(c, [request]))
    assert (spent(ledger)["calls"], spent(ledger)["cost_nano"]) == (0, 0)
    assert rebuild(ledger) == []


def test_an_answer_that_was_thrown_away_stays_paid_and_is_no_part_of_the_comparison(ledger: Ledger) -> None:
    scope = started(ledger)
    called(ledger, scope, "a", "c1", 70)
    ledger.writing(lambda c: discard(c, "c1", "schema"))
    assert (spent(ledger)["cost_nano"], spent(ledger)["naive_nano"]) == (70, 0)
    assert rebuild(ledger) == []


def test_what_a_failed_item_has_cost_is_waste_until_a_retry_makes_it_ok(ledger: Ledger) -> None:
    scope = started(ledger)
    called(ledger, scope, "a", "c1", 70)
    called(ledger, scope, "b", "c2", 5)
    ended(ledger, scope, "pending", "failed", "smtp_550")
    assert (spent(ledger)["wasted_nano"], open_codes(ledger)) == (70, {"smtp_550": 1})
    ledger.clock.move(60)  # type: ignore[attr-defined]
    scope = begin_run(ledger)
    called(ledger, scope, "a", "c3", 4)  # asked again: of an item that still stands as failed
    assert spent(ledger)["wasted_nano"] == 74
    ended(ledger, scope, "failed", "ok")
    assert (spent(ledger)["wasted_nano"], spent(ledger)["cost_nano"], open_codes(ledger)) == (0, 79, {})
    assert rebuild(ledger) == []


def test_an_item_that_fails_otherwise_moves_to_the_other_code(ledger: Ledger) -> None:
    scope = started(ledger)
    ended(ledger, scope, "pending", "retry", "http_503")
    ledger.clock.move(60)  # type: ignore[attr-defined]
    scope = begin_run(ledger)
    ended(ledger, scope, "retry", "failed", "smtp_550")
    assert open_codes(ledger) == {"smtp_550": 1}
    first, second = sorted(rows(ledger, trouble), key=lambda row: row["first_at"])
    assert (first["error_code"], first["n"], first["sample_key"], first["sample"]) == (
        "http_503", 0, "a", "said http_503",
    )  # fmt: skip
    assert second["first_at"] - first["first_at"] == timedelta(seconds=60)
    assert rebuild(ledger) == []


def test_vandalism_is_found_and_undone(ledger: Ledger) -> None:
    scope = started(ledger)
    called(ledger, scope, "a", "c1", 70)
    ended(ledger, scope, "pending", "failed", "smtp_550")
    before: list[Any] = [rows(ledger, spend), rows(ledger, trouble)]
    ledger.writing(lambda c: [c.execute(spend.update().values(wasted_nano=3)), c.execute(trouble.update().values(n=9))])
    assert {each.what.rpartition(" ")[2] for each in rebuild(ledger)} == {"wasted_nano", "n"}
    assert [rows(ledger, spend), rows(ledger, trouble)] == before
    ledger.writing(lambda c: [c.execute(spend.delete()), c.execute(trouble.delete())])
    assert rebuild(ledger)
    assert [rows(ledger, spend), rows(ledger, trouble)] == before
