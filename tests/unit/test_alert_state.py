"""The life of an alert under a clock of its own: pending, firing, resolved, one message per change."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from overnight.alerts.state import Change, Known, step
from tests.slots import NOW

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def live(seen: str, *, hold: timedelta = timedelta(0), every: timedelta = MINUTE) -> list[Change | None]:
    """What is told at each look: `x` wrong, `.` well, `m` wrong and muted, ` ` nothing can be said."""
    known: Known | None = None
    told: list[Change | None] = []
    for n, mark in enumerate(seen):
        change: Change | None = None
        if mark != " ":
            known, change = step(
                known, firing=mark != ".", now=NOW + n * every, hold=hold, repeat=DAY, muted=mark == "m"
            )
        told.append(change)
    return told


def test_what_begins_is_told_once_and_once_when_it_is_over() -> None:
    assert live("..xxxx...x") == [None, None, "new", None, None, None, "over", None, None, "new"]


def test_between_the_two_bounds_it_stays_as_it_is() -> None:
    assert live("x  x  .") == ["new", None, None, None, None, None, "over"]


def test_what_has_to_last_is_pending_first_and_what_ends_before_is_never_told() -> None:
    assert live("xxxxx", hold=3 * MINUTE) == [None, None, None, "new", None]
    assert live("xxx.xxxx", hold=3 * MINUTE) == [None] * 7 + ["new"]


def test_what_was_pending_and_not_seen_for_long_begins_anew() -> None:
    assert live("x" + " " * 30 + "xxxx", hold=3 * MINUTE)[31:] == [None, None, None, "new"]


def test_what_lasts_is_told_again_after_a_day() -> None:
    assert live("xxxx", every=DAY / 2) == ["new", None, "reminder", None]


def test_what_is_muted_is_not_told_and_what_still_lasts_afterwards_is_new() -> None:
    assert live("mmmxx.") == [None, None, None, "new", None, "over"]
    assert live("mmm.") == [None] * 4
    assert live("xmm.") == ["new", None, None, "over"]


@given(st.text(alphabet="x.m ", max_size=60), st.integers(0, 5))
def test_a_beginning_and_an_end_are_told_in_turn(seen: str, held: int) -> None:
    told = [change for change in live(seen, hold=held * MINUTE) if change]
    assert told == [("new", "over")[n % 2] for n in range(len(told))]


@given(st.text(alphabet="x.m ", max_size=60))
def test_nobody_is_told_of_what_was_never_wrong_nor_of_an_end_that_nobody_saw(seen: str) -> None:
    for n, change in enumerate(live(seen)):
        assert change is None or seen[n] == {"new": "x", "over": "."}[change]
