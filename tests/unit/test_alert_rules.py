"""What the rules find in a ledger, and what they cannot judge."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from overnight.alerts import Alarm, rules
from overnight.alerts.rules import Rule, scheduled, spooled, standing
from overnight.closing import settle_item
from overnight.ledger import Ledger
from overnight.ledger.flow import Circuit, LedgerRows
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.rollups import Move, spent
from overnight.ledger.runs import latest_run
from overnight.ledger.tables import call, effect, entry, histogram, lease, occurrence, run
from overnight.occurrences import register, set_pause
from overnight.outcome import Outcome, Scope, State
from overnight.schedule import Schedule, loads
from overnight.triggers import Listed
from tests.slots import NOW, ManualClock, begin

DAY = timedelta(days=1)
JOBS = 'version: 1\njobs: { greet: { at: "06:00" }, other: { at: "05:00" } }\n'


def found(ledger: Ledger, rule: Rule, alerts: str = "{}") -> dict[str, bool]:
    """What a rule says now, by key: whether it is wrong."""
    return {alarm.key: alarm.firing for alarm in alarms(ledger, rule, alerts)}


def alarms(ledger: Ledger, rule: Rule, alerts: str = "{}") -> list[Alarm]:
    return ledger.reading(lambda connection: list(rule(connection, schedule(alerts), ledger.clock.now())))


def schedule(alerts: str = "{}") -> Schedule:
    return loads(f"{JOBS}alerts: {alerts}\n", {})


def ran(ledger: Ledger, slot: str = "2026-11-22", *, rehearsal: bool = False, **counts: int) -> Scope:
    scope = begin(ledger, slot=slot, rehearsal=rehearsal)
    states: list[State] = [state for state, n in counts.items() for _ in range(n)]  # type: ignore[misc]
    ledger.writing(lambda connection: plan(connection, scope, [(n, f"k{n}", "1") for n, _ in enumerate(states)]))
    now = ledger.clock.now()
    entries = [Recorded(scope, "pending", Outcome(f"k{n}", state), now) for n, state in enumerate(states)]
    ledger.writing(lambda connection: record(connection, entries))
    return scope


def move(ledger: Ledger, span: timedelta) -> None:
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.move(span.total_seconds())


@pytest.mark.parametrize(
    ("counts", "firing"),
    [
        ({"ok": 94, "failed": 6}, True),
        ({"ok": 95, "failed": 5}, None),
        ({"ok": 96, "failed": 4}, None),
        ({"ok": 97, "failed": 3}, False),
        ({"failed": 19}, None),
        ({"failed": 20}, True),
        ({"ok": 18, "unknown": 1, "retry": 1}, True),
        ({"ok": 20, "skipped": 500}, False),
    ],
    ids=str,
)
def test_when_a_success_rate_is_too_low(ledger: Ledger, counts: dict[str, int], firing: bool | None) -> None:
    ran(ledger, **counts)
    assert found(ledger, rules.success_rates) == ({} if firing is None else {"success_rate:greet": firing})


def test_the_message_names_figures_and_target(ledger: Ledger) -> None:
    ran(ledger, ok=15, failed=5)
    [alarm] = alarms(ledger, rules.success_rates)
    assert alarm.message == "greet: 15 of 20 items succeeded within 1d (75.0%); the target is 95%"


def test_other_jobs_rehearsals_and_older_slots_do_not_count(ledger: Ledger) -> None:
    ran(ledger, "2026-11-20", failed=50)
    move(ledger, DAY + timedelta(seconds=1))
    ran(ledger, "2026-11-22~abc", rehearsal=True, failed=50)
    ran(ledger, "2026-11-23", ok=20)
    assert found(ledger, rules.success_rates) == {"success_rate:greet": False}


@pytest.mark.parametrize(
    ("slowest", "firing"),
    [(timedelta(minutes=6), True), (timedelta(minutes=4, seconds=50), None), (timedelta(seconds=9), False)],
    ids=str,
)
def test_a_slow_twentieth_of_a_jobs_items_is_too_slow(ledger: Ledger, slowest: timedelta, firing: bool | None) -> None:
    from overnight.histogram import bucket_of

    scope = ran(ledger, ok=20)
    rows = [{"run_id": scope.run_id, "bucket": bucket_of(1000), "n": 18}]
    rows.append({"run_id": scope.run_id, "bucket": bucket_of(int(slowest.total_seconds() * 1000)), "n": 2})
    ledger.writing(lambda connection: connection.execute(histogram.delete()))
    ledger.writing(lambda connection: connection.execute(insert(histogram), rows))
    assert found(ledger, rules.durations) == ({} if firing is None else {"p95_duration:greet": firing})


def spend(ledger: Ledger, *cents: int) -> None:
    """Money of today, yesterday, and so on back."""
    for n, amount in enumerate(cents):
        day = (NOW - n * DAY).date().isoformat()
        row = {
            "id": f"c{n}", "job": "greet", "slot": day, "key": "k", "hash": "h", "nth": 0, "run_id": "r", "role": "r",
            "model": "m", "status": "ok", "cost_nano": amount * 10_000_000, "budget_day": day, "started_at": NOW,
        }  # fmt: skip
        ledger.writing(lambda connection, row=row: _paid(connection, row))  # type: ignore[misc]


def _paid(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(insert(call).values(row))
    spent(connection, [(row["id"], Move(calls=1, cost_nano=row["cost_nano"]))])


@pytest.mark.parametrize(
    ("cents", "alerts", "firing"),
    [
        ((301, 200, 200, 200), "{}", True),
        ((300, 200, 200, 200), "{}", False),
        ((900, 200, 200), "{}", None),
        ((301, 200, 0, 200, 0, 0, 0, 200), "{}", True),
        ((99, 2, 2, 2), "{}", False),
        ((801,), "{ daily_cost: { above: 80%, of: budget } }", True),
        ((800,), "{ daily_cost: { above: 80%, of: budget } }", False),
    ],
)
def test_when_a_day_is_too_dear(ledger: Ledger, cents: tuple[int, ...], alerts: str, firing: bool | None) -> None:
    spend(ledger, *cents)
    assert found(ledger, rules.daily_cost, alerts) == ({} if firing is None else {"daily_cost:project": firing})


def test_a_run_that_finishes_nothing_and_asks_nothing_is_stuck(ledger: Ledger) -> None:
    scope = ran(ledger, ok=1)
    ledger.writing(lambda connection: connection.execute(update(lease).values(until=NOW + DAY)))
    move(ledger, timedelta(minutes=29))
    assert found(ledger, rules.stuck)["stuck:greet"] is False
    move(ledger, timedelta(minutes=1))
    [alarm] = [alarm for alarm in alarms(ledger, rules.stuck) if alarm.firing]
    assert alarm.message.startswith(f"greet 2026-11-22 ({scope.run_id}) has finished no item for 30m")
    for run_id in ("r_0", "r_z"):
        begin(ledger, "greet", f"of {run_id}", run_id=run_id)
        ledger.writing(lambda connection: connection.execute(update(lease).values(until=NOW + DAY)))
        ledger.writing(lambda c: c.execute(update(run).where(run.c.id != scope.run_id).values(started_at=NOW + DAY)))
        assert found(ledger, rules.stuck)["stuck:greet"], "another run of the job gets on"
    spend(ledger, 1)
    ledger.writing(lambda connection: connection.execute(update(call).values(started_at=ledger.clock.now())))
    assert found(ledger, rules.stuck)["stuck:greet"] is False


def test_a_breaker_that_may_be_asked_again_is_neither_open_nor_closed(ledger: Ledger) -> None:
    until = NOW + timedelta(minutes=1)

    def happen(circuit: Circuit) -> None:
        ledger.writing(lambda connection: LedgerRows(connection).put_circuit("anthropic", circuit))

    happen(Circuit("open", 1, 1, until))
    assert found(ledger, rules.breakers) == {"breaker:anthropic": True}
    move(ledger, timedelta(minutes=2))
    assert found(ledger, rules.breakers) == {}
    happen(Circuit("closed", 2))
    assert found(ledger, rules.breakers) == {"breaker:anthropic": False}


def test_the_alert_of_a_side_that_nobody_asks_any_more_ends(ledger: Ledger) -> None:
    down = Circuit("open", 1, 1, NOW + timedelta(minutes=10))
    ledger.writing(lambda connection: LedgerRows(connection).put_circuit("smtp:old.example.org:587", down))
    move(ledger, timedelta(minutes=69))
    assert found(ledger, rules.breakers) == {}
    move(ledger, timedelta(minutes=1))
    assert found(ledger, rules.breakers) == {"breaker:smtp:old.example.org:587": False}


def test_effects_of_unknown_fate_are_told_with_the_way_to_settle_them(ledger: Ledger) -> None:
    scope = ran(ledger, unknown=1)
    row = {
        "id": "e", "job": "greet", "slot": "2026-11-22", "key": "k0", "kind": "mail", "name": "m", "target": "t",
        "ref": "<m>", "state": "unknown", "run_id": scope.run_id, "intent_at": NOW,
    }  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(effect).values(row)))
    [alarm] = [alarm for alarm in alarms(ledger, rules.unknown) if alarm.firing]
    assert f"overnight settle {scope.run_id} KEY sent|unsent" in alarm.message
    of = ledger.reading(latest_run, "greet")
    ledger.writing(lambda connection: settle_item(connection, of, "k0", "sent", NOW))
    assert found(ledger, rules.unknown) == {"unknown:greet": False, "unknown:other": False}


def test_items_in_doubt_are_counted_slot_by_slot_beside_the_effects_that_tell_of_them(ledger: Ledger) -> None:
    both = ran(ledger, unknown=2)  # one of them by its effect, the other because its own code says so
    row = {
        "id": "e", "job": "greet", "slot": "2026-11-22", "key": "k0", "kind": "mail", "name": "m", "target": "t",
        "ref": "<m>", "state": "unknown", "run_id": both.run_id, "intent_at": NOW,
    }  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(effect).values(row)))
    last = ran(ledger, slot="2026-11-23", unknown=1)
    ran(ledger, slot="2026-11-24~a", rehearsal=True, unknown=1)
    [alarm] = [alarm for alarm in alarms(ledger, rules.unknown) if alarm.firing]
    assert "what became of 3 mails or steps" in alarm.message
    assert f"overnight show {max(both.run_id, last.run_id)}" in alarm.message


def known_since(ledger: Ledger, since: timedelta) -> None:
    hashes = dict.fromkeys(("greet", "other", "former"), Listed("h", enabled=True))
    ledger.writing(lambda connection: register(connection, hashes, NOW - since))


def happened(ledger: Ledger, state: str) -> None:
    row = {"job": "greet", "scheduled_for": NOW - timedelta(hours=1), "id": "o", "slot": "2026-11-22", "noted_at": NOW}
    ledger.writing(lambda connection: connection.execute(insert(occurrence).values(row | {"state": state})))


@pytest.mark.parametrize(
    ("state", "firing"),
    [("", True), ("queued", True), ("claimed", False), ("ran", False), ("missed", False), ("skipped", False)],
)
def test_an_occurrence_that_nobody_has_begun_is_late(ledger: Ledger, state: str, firing: bool) -> None:
    known_since(ledger, timedelta(hours=1, minutes=30))
    if state:
        happened(ledger, state)
    assert found(ledger, rules.late)["late:greet"] is firing
    assert not any(found(ledger, rules.late, "{ missed: { after: 2h } }").values()), "not yet"


def test_neither_paused_nor_unknown_nor_new_jobs_are_late(ledger: Ledger) -> None:
    assert not any(found(ledger, rules.late).values())
    known_since(ledger, timedelta(minutes=10))
    assert not any(found(ledger, rules.late).values())
    ledger.writing(lambda connection: connection.execute(update(entry).values(effective_since=NOW - DAY)))
    ledger.writing(lambda connection: set_pause(connection, "greet", NOW, "why", NOW))
    assert found(ledger, rules.late) == {"late:greet": False, "late:other": True}, "what was late is over"


def test_the_alerts_of_a_job_that_was_taken_out_of_the_file_are_over(ledger: Ledger) -> None:
    from overnight.alerts import note

    known_since(ledger, DAY)
    for job in ("former", "greet"):
        ledger.writing(lambda c, job=job: note(c, Alarm("bug", job, "oops"), NOW, DAY))  # type: ignore[misc]
    assert found(ledger, rules.gone) == {"bug:former": False}


def test_reports_that_wait_are_told_after_an_hour(tmp_path: Path) -> None:
    (tmp_path / "0000001").mkdir(parents=True)
    alarm = spooled(tmp_path, schedule())
    assert (alarm.firing, alarm.hold) == (True, timedelta(hours=1))
    assert not spooled(tmp_path / "none", schedule()).firing


def test_a_rule_that_fails_does_not_blind_the_others(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    ran(ledger, failed=20)

    def broken(*_: object) -> Iterator[Alarm]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(rules, "ALWAYS", (broken, *rules.ALWAYS[1:]))
    keys = {alarm.rule for alarm in ledger.reading(standing, schedule(), NOW)}
    assert keys == {"p95_duration", "stuck", "unknown", "not_undone"}
    assert {alarm.firing for alarm in ledger.reading(scheduled, schedule(), NOW)} == {False}


def test_every_rule_can_be_told_to_wait(ledger: Ledger) -> None:
    ran(ledger, failed=20)
    [alarm] = alarms(ledger, rules.success_rates, "{ success_rate: { for: 10m } }")
    assert alarm.hold == timedelta(minutes=10)


def test_a_run_that_is_over_is_not_stuck(ledger: Ledger) -> None:
    ran(ledger, ok=1)
    ledger.writing(lambda connection: connection.execute(update(lease).values(until=None)))
    ledger.writing(lambda connection: connection.execute(update(run).values(status="ok", ended_at=NOW)))
    move(ledger, DAY)
    assert not any(found(ledger, rules.stuck).values())
