"""A corrected edition has a slot of its own; the one before is over."""

from datetime import timedelta

import pytest

from overnight.editions import next_edition, supersede
from overnight.errors import ConfigError, Refused
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.onces import keep_once, once_value, seen_by_others
from overnight.ledger.runs import close_run, slot_of
from overnight.ledger.tables import item
from overnight.mail.message import message_id
from overnight.outcome import Outcome, original
from tests.slots import NOW, SLOT, begin, rows

SECOND, THIRD = f"{SLOT}.2", f"{SLOT}.3"


def edition(ledger: Ledger, name: str) -> None:
    """An edition whose first item got it; another waits, a third is deferred."""
    scope = begin(ledger, slot=name)
    ledger.writing(lambda c: plan(c, scope, [(n, key, "{}") for n, key in enumerate("abc")]))
    later = Outcome("b", "retry", next_at=NOW, expires_at=NOW + timedelta(days=1))
    ledger.writing(lambda c: record(c, [Recorded(scope, "pending", out, NOW) for out in (Outcome("a", "ok"), later)]))
    ledger.writing(lambda c: keep_once(c, scope, "edition", f'"{name}"', [("stories", f"of {name}")], NOW))
    ledger.writing(lambda c: close_run(c, scope, "partial", None, NOW))


@pytest.mark.parametrize("slot", [SLOT, f"{SLOT}~a1b2c3", SECOND, f"{SECOND}~a1b2c3"])
def test_every_kind_of_slot_knows_the_one_it_is_of(slot: str) -> None:
    assert original(slot) == SLOT


def test_editions_are_numbered_from_the_slot_whichever_is_named(ledger: Ledger) -> None:
    edition(ledger, SLOT)
    assert ledger.reading(next_edition, "greet", SLOT, NOW).name == SECOND
    edition(ledger, SECOND)
    for named in (SLOT, SECOND):
        found = ledger.reading(next_edition, "greet", named, NOW)
        assert (found.name, found.before) == (THIRD, SECOND)


def test_the_edition_before_is_over_for_those_who_have_not_got_it(ledger: Ledger) -> None:
    edition(ledger, SLOT)
    found = ledger.reading(next_edition, "greet", SLOT, NOW)
    assert ledger.writing(lambda c: supersede(c, "greet", found, NOW)) == 2
    states = {row["key"]: (row["state"], row["reason"]) for row in rows(ledger, item)}
    over = ("skipped", f"superseded by {SECOND}")
    assert states == {"a": ("ok", None), "b": over, "c": over}
    counts = ledger.reading(slot_of, "greet", SLOT)
    assert (counts["ok"], counts["skipped"], counts["pending"], counts["retry"]) == (1, 2, 0, 0)


def test_a_sweep_that_begins_while_the_operator_is_asked_keeps_its_items(ledger: Ledger) -> None:
    edition(ledger, SLOT)
    found = ledger.reading(next_edition, "greet", SLOT, NOW)
    begin(ledger, kind="sweep")
    before = rows(ledger, item)
    with pytest.raises(Refused, match=f"greet {SLOT} is being run"):
        ledger.writing(lambda c: supersede(c, "greet", found, NOW))
    assert rows(ledger, item) == before


def test_of_two_corrections_at_once_one_is_made(ledger: Ledger) -> None:
    edition(ledger, SLOT)
    found = ledger.reading(next_edition, "greet", SLOT, NOW)
    edition(ledger, SECOND)
    with pytest.raises(Refused, match=f"{SECOND} was made by somebody else"):
        ledger.writing(lambda c: supersede(c, "greet", found, NOW))


def test_everything_durable_is_new_but_what_was_used_is_its_own(ledger: Ledger) -> None:
    edition(ledger, SLOT)
    assert ledger.reading(once_value, "greet", SECOND, "edition") is None
    assert ledger.reading(seen_by_others, "greet", SECOND, "stories") == set(), "it may bring the same stories"
    edition(ledger, SECOND)
    assert ledger.reading(seen_by_others, "greet", SLOT, "stories") == set()
    assert ledger.reading(seen_by_others, "greet", "2026-11-23", "stories") == {f"of {SLOT}", f"of {SECOND}"}
    first, second = (begin(ledger, slot=name) for name in (SLOT, SECOND))
    assert message_id(b"s", first, "t", "a", "x") != message_id(b"s", second, "t", "a", "x")


def test_what_was_never_run_or_is_being_run_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match=f"overnight run greet --slot {SLOT}"):
        ledger.reading(next_edition, "greet", SLOT, NOW)
    begin(ledger)
    with pytest.raises(Refused, match="overnight cancel r_"):
        ledger.reading(next_edition, "greet", SLOT, NOW)
