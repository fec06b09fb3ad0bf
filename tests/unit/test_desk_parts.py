"""What the pages of the desk are made of, without a server."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from overnight.ledger.runs import close_run
from overnight.schedule import loads
from overnight.web.desk.coming import coming
from overnight.web.desk.drawing import CHART_HIGH, columns, spark, ticks
from overnight.web.desk.letters import kept_at, opened
from overnight.web.desk.pages import money
from overnight.web.desk.queries import troubled
from tests.slots import NOW, ManualClock, begin, open_ledger

SCHEDULE = """version: 1
timezone: Europe/Paris
jobs:
  early: { cron: "30 2 * * *" }
  late: { every: 12h }
  off: { every: 1h, enabled: false }
"""


def test_the_next_times_of_all_jobs_are_in_order_with_what_a_change_of_the_clock_does() -> None:
    schedule = loads(SCHEDULE, {})
    fires = coming(schedule, {}, datetime(2027, 3, 27, 12, tzinfo=UTC), 20)
    assert [one.at for one in fires] == sorted(one.at for one in fires)
    assert {one.job for one in fires} == {"early", "late"}
    assert [bool(one.note) for one in fires if one.job == "early"][:3] == [True, False, False]
    assert {one.job for one in coming(schedule, {"early": "why"}, fires[0].at, 3)} == {"late"}
    assert coming(loads("version: 1\njobs: {}\n", {}), {}, fires[0].at, 3) == []


def test_a_budget_far_above_the_days_does_not_flatten_them() -> None:
    near = columns(["Mon 1"], [{"a": 30, "b": 10}], {"a": 0, "b": 1}, 80)
    assert (near.cap_y, [part.height for part in near.days[0].parts]) == (0.0, [75.0, 25.0])
    far = columns(["Mon 1"], [{"a": 30, "b": 10}], {"a": 0, "b": 1}, 1000)
    assert (far.cap_y, sum(part.height for part in far.days[0].parts)) == (None, CHART_HIGH)
    assert columns([], [], {}, 5).days == []


def test_unknown_values_leave_a_gap_and_runs_stand_on_the_right() -> None:
    assert len(spark([1, 2, None, 3, 4]).lines) == 2
    assert spark([]).dots == spark([None]).dots == []
    drawn = ticks([("ok", 100, "", "r_1"), ("failed", 0, "", "r_2")], 30)
    assert [one.x for one in drawn] == [28 * 8, 29 * 8]
    assert drawn[0].height > drawn[1].height > 0


def test_money_is_short_but_never_nothing_that_was_something() -> None:
    said = [money(nano) for nano in (None, 0, 1, 3_564_900, 99_999_999, 4_057_500_000, 12_345 * 10**9)]
    assert said == ["n/a", "$0.00", "< $0.0001", "$0.0036", "$0.1000", "$4.06", "$12,345.00"]


def test_a_mail_is_looked_for_in_the_outbox_alone_and_broken_ones_are_shown_as_they_are(tmp_path: Path) -> None:
    assert kept_at(tmp_path, "smtp://relay", "job", "slot", "<a@b>") is None
    file = kept_at(tmp_path, "outbox:box", "../../etc", "..", "<../../../passwd>")
    assert file is not None
    assert file.resolve().is_relative_to(tmp_path / "box")
    assert opened(file) is None
    file.parent.mkdir(parents=True)
    html = b"Content-Type: text/html; charset=no-such\r\n\r\n<b>x"
    for broken in (b"", b"\xff\xfe\0", html, b"Subject: =?x?y?z?=\r\n\r\nx"):
        file.write_bytes(broken)
        assert opened(file) is not None


def test_a_slot_whose_interrupted_run_was_gone_on_with_needs_nobody(tmp_path: Path) -> None:
    clock = ManualClock()
    with closing(open_ledger(tmp_path, clock)) as ledger:

        def needy() -> list[tuple[str, str]]:
            return [(one.run_id, one.status) for one in ledger.reading(troubled, NOW)]

        first = begin(ledger, run_id="r_1")
        ledger.writing(lambda connection: close_run(connection, first, "interrupted", None, clock.now()))
        other = begin(ledger, slot="2026-11-21", run_id="r_0")
        ledger.writing(lambda connection: close_run(connection, other, "stopped", "no key", clock.now()))
        assert needy() == [("r_1", "interrupted"), ("r_0", "stopped")]
        for id_, seconds in (("r_2", 0), ("r_3", 60)):  # also within the same second
            clock.move(seconds)
            rest = begin(ledger, run_id=id_)
            ledger.writing(lambda connection, rest=rest: close_run(connection, rest, "ok", None, clock.now()))
            assert needy() == [("r_0", "stopped")]
        for id_, kind, partial, status in (("r_4", "sweep", False, "ok"), ("r_5", "retry", True, "failed")):
            clock.move(60)
            some = begin(ledger, slot="2026-11-21", run_id=id_, kind=kind, partial=partial)
            ledger.writing(lambda connection, of=some, how=status: close_run(connection, of, how, None, clock.now()))
            assert needy() == [("r_0", "stopped")], "what it has left is still there"
