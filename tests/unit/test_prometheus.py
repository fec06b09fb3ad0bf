"""What `/metrics` says is what the ledger says, and what deploy/alerts.yml asks for is there."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from sqlalchemy import Connection, insert, update

from overnight.alerts import Alarm, note
from overnight.ledger import Ledger
from overnight.ledger.controls import budget, notice
from overnight.ledger.flow import Circuit, LedgerRows, Level
from overnight.ledger.journal import Ended, Sent, begin, book
from overnight.ledger.rollups import SUMS, Move, spent
from overnight.ledger.runs import close_run
from overnight.ledger.tables import call, effect, run
from overnight.occurrences import register
from overnight.outcome import RunStatus
from overnight.prometheus import Exposition
from overnight.runner import Workplace
from overnight.schedule import loads
from tests.slots import NOW, ManualClock
from tests.slots import begin as begin_run
from tests.unit.test_alert_rules import ran
from tests.unit.test_health import _Work

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEDULE = 'version: 1\njobs: { greet: { at: "08:00" }, off: { at: "09:00", enabled: false } }\n'
DAY = timedelta(days=1)


def exposition(ledger: Ledger, root: Path) -> Exposition:
    work = cast("Workplace", _Work(root, ledger, ledger.clock, loads(SCHEDULE, {})))
    return Exposition(lambda: work, lambda: None)


def samples(of: Exposition) -> dict[str, float]:
    """Every sample by `name{labels}`."""
    families = text_string_to_metric_families(of.text().decode())
    return {_named(sample): sample.value for family in families for sample in family.samples}


def _named(sample: Any) -> str:
    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"


def called(ledger: Ledger, id_: str, day: str, **columns: object) -> None:
    row = {
        "id": id_, "job": "greet", "slot": "2026-11-22", "key": "k", "hash": "h", "nth": 0, "run_id": "r", "role": "r",
        "model": "haiku", "status": "ok", "cost_nano": 5_000_000, "budget_day": day, "started_at": NOW,
        "input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 7, "cache_write_tokens": 3,
    }  # fmt: skip
    row |= columns
    sums = Move(calls=1, **{name: row[name] for name in row if name in SUMS})  # type: ignore[arg-type]

    def write(connection: Connection) -> None:
        connection.execute(insert(call).values(row))
        spent(connection, [(id_, sums)])

    ledger.writing(write)


def mailed(ledger: Ledger, id_: str, state: str) -> None:
    row = {
        "id": id_, "job": "greet", "slot": "2026-11-22", "key": id_, "kind": "mail", "name": "m", "target": "t",
        "ref": "<m>", "state": state, "run_id": "r", "intent_at": NOW,
    }  # fmt: skip
    ledger.writing(lambda connection: connection.execute(insert(effect).values(row)))


def a_night(ledger: Ledger) -> None:
    ledger.writing(lambda c: register(c, loads(SCHEDULE, {}).listed(), NOW - DAY))
    scope = ran(ledger, ok=3, failed=1, retry=1)
    ledger.writing(lambda connection: connection.execute(update(run).values(attempts=7)))
    ledger.writing(lambda connection: close_run(connection, scope, "ok", None, NOW + timedelta(seconds=90)))
    called(ledger, "c1", "2026-11-22")
    called(ledger, "c2", "2026-11-22", status="failed", cost_nano=0)
    called(ledger, "c3", "2026-11-01", model="sonnet")
    mailed(ledger, "e1", "done")
    mailed(ledger, "e2", "unknown")
    row = {"scope": "day:2026-11-22", "cap_nano": 0, "extra_nano": 10**10, "settled_nano": 10**10, "reserved_nano": 0}
    ledger.writing(lambda connection: connection.execute(insert(budget).values(row)))
    until = NOW + timedelta(minutes=1)
    ledger.writing(lambda c: LedgerRows(c).put_circuit("anthropic", Circuit("open", 1, 1, until)))
    ledger.writing(lambda c: LedgerRows(c).put_level("anthropic.tokens", Level(1.0, NOW, waited_ms=2500)))
    ledger.writing(lambda c: note(c, Alarm("bug", "greet", "oops"), NOW, DAY))
    waits = {"changes": "[]", "created_at": NOW, "next_at": NOW, "error": "x"}
    for id_, channel in (("d", "ops/email/1"), ("e", "ops/email/1"), ("f", "ops/webhook/2")):
        each = {**waits, "id": id_, "channel": channel}
        ledger.writing(lambda connection, each=each: connection.execute(insert(notice).values(each)))  # type: ignore[misc]


def test_the_figures_are_those_of_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    a_night(ledger)
    found = samples(exposition(ledger, tmp_path))
    expected = {
        "overnight_runs_total{job=greet,outcome=ok}": 1,
        "overnight_tasks_total{job=greet,outcome=ok}": 3,
        "overnight_tasks_total{job=greet,outcome=failed}": 1,
        "overnight_retries_total{job=greet}": 2,
        "overnight_calls_total{model=haiku}": 2,
        "overnight_cost_usd_total{job=greet,model=haiku}": 0.005,
        "overnight_cost_usd_total{job=greet,model=sonnet}": 0.005,
        "overnight_tokens_total{model=haiku,type=input}": 200,
        "overnight_tokens_total{model=haiku,type=cache_write}": 6,
        "overnight_emails_total{job=greet,outcome=done}": 1,
        "overnight_emails_total{job=greet,outcome=unknown}": 1,
        "overnight_budget_usd{scope=day}": 20,
        "overnight_budget_used_ratio{scope=day}": 0.5,
        "overnight_circuit_state{dependency=anthropic}": 2,
        "overnight_rate_limit_wait_seconds_total{limiter=anthropic.tokens}": 2.5,
        "overnight_queue_depth{state=retry}": 1,
        "overnight_alerts{rule=bug,state=firing}": 1,
        "overnight_alerts_undelivered{channel=ops}": 3,
        "overnight_run_duration_seconds{job=greet}": 90,
        "overnight_run_last_success_timestamp_seconds{job=greet}": (NOW + timedelta(seconds=90)).timestamp(),
        "overnight_run_next_timestamp_seconds{job=greet}": (NOW + timedelta(hours=1)).timestamp(),
        "overnight_schedule_valid{}": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert "overnight_run_next_timestamp_seconds{job=off}" not in found


def test_a_total_never_goes_down_nor_counts_twice_as_days_pass(ledger: Ledger, tmp_path: Path) -> None:
    of, cost = exposition(ledger, tmp_path), "overnight_cost_usd_total{job=greet,model=haiku}"
    assert isinstance(ledger.clock, ManualClock)
    told = []
    for n in range(6):
        called(ledger, f"c{n}", ledger.clock.now().date().isoformat())
        told += [samples(of)[cost], samples(of)[cost]]
        ledger.clock.move(DAY.total_seconds())
    assert told == pytest.approx([0.005 * (1 + n // 2) for n in range(12)])


def test_what_is_under_way_is_in_no_total_before_it_is_over(ledger: Ledger, tmp_path: Path) -> None:
    scope, of = replace(ran(ledger, ok=1), key="k0"), exposition(ledger, tmp_path)
    mailed(ledger, "e", "intent")
    request = Sent("c", scope, "h", "editor", "haiku", 50_000_000, NOW)
    ledger.writing(lambda c: begin(c, [(request, "2026-11-22")]))
    names = (
        *("overnight_cost_usd_total{job=greet,model=haiku}", "overnight_calls_total{model=haiku}"),
        *("overnight_runs_total{job=greet,outcome=running}", "overnight_emails_total{job=greet,outcome=intent}"),
    )
    under_way = samples(of)
    assert [under_way.get(name, 0) for name in names] == [0, 0, 0, 0]
    ledger.writing(lambda c: book(c, [(request, Ended("ok", 1_000_000, 5))]))
    assert [samples(of)[name] for name in names[:2]] == [0.001, 1]


def test_the_last_success_of_a_job_that_was_taken_out_pages_nobody(ledger: Ledger, tmp_path: Path) -> None:
    a_night(ledger)
    ledger.writing(lambda connection: connection.execute(update(run).values(job="gone")))
    found = samples(exposition(ledger, tmp_path))
    assert found["overnight_runs_total{job=gone,outcome=ok}"] == 1
    assert not [name for name in found if name.startswith("overnight_run_last_success")]


def test_a_side_that_nobody_asks_any_more_is_not_told_as_down(ledger: Ledger, tmp_path: Path) -> None:
    a_night(ledger)
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.move(2 * 3600)
    assert "overnight_circuit_state{dependency=anthropic}" not in samples(exposition(ledger, tmp_path))


def test_rehearsals_do_not_count(ledger: Ledger, tmp_path: Path) -> None:
    ran(ledger, "2026-11-22~abc", rehearsal=True, failed=5)
    ledger.writing(lambda connection: connection.execute(update(run).values(kind="dry")))
    found = samples(exposition(ledger, tmp_path))
    assert not [name for name in found if "job=greet" in name and name.startswith("overnight_tasks_total")]
    assert found["overnight_queue_depth{state=retry}"] == 0


def test_no_name_or_address_is_a_label(ledger: Ledger, tmp_path: Path) -> None:
    a_night(ledger)
    labels = {name for one in samples(exposition(ledger, tmp_path)) for name in re.findall(r"[{,](\w+)=", one)}
    assert labels == {
        *("job", "outcome", "model", "type", "scope", "dependency", "state", "rule", "channel", "version", "limiter"),
    }


def test_every_figure_that_the_rules_for_prometheus_and_the_page_name_exists(ledger: Ledger, tmp_path: Path) -> None:
    a_night(ledger)
    told = set(re.findall(r"^# TYPE (\w+)", exposition(ledger, tmp_path).text().decode(), re.MULTILINE))
    page = (DEPLOY.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(overnight_\w+)`", page))
    assert named == told
    rules = YAML(typ="safe").load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"overnight_\w+", rule["expr"])}
    there = {name.partition("{")[0] for name in samples(exposition(ledger, tmp_path))}
    assert len(asked) >= 8
    assert asked <= there
    assert all(rule["annotations"]["summary"] for rule in rules)


def test_every_label_that_a_rule_for_prometheus_names_is_one_of_the_figure_it_asks_for(
    ledger: Ledger, tmp_path: Path
) -> None:
    a_night(ledger)
    labels: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(exposition(ledger, tmp_path).text().decode()):
        for sample in family.samples:
            for name, value in sample.labels.items():
                labels.setdefault(sample.name, {}).setdefault(name, set()).add(value)
    rules = YAML(typ="safe").load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    for rule in rules:
        of_rule = set()
        for figure, matchers in re.findall(r"(overnight_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            of_rule |= labels.get(figure, {}).keys()
            for name, values in re.findall(r'(\w+)[!=~]+"([^"]*)"', matchers):
                assert set(values.split("|")) <= labels[figure][name], (rule["alert"], figure, name)
        by = {name.strip() for names in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]) for name in names.split(",")}
        told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert (by | told) - {"instance"} <= of_rule, rule["alert"]


@pytest.mark.parametrize(("status", "well"), [("ok", True), ("partial", True), ("failed", False), ("stopped", False)])
def test_a_job_that_was_due_and_never_ended_well_has_a_due_time_and_no_success(
    ledger: Ledger, tmp_path: Path, status: RunStatus, well: bool
) -> None:
    ledger.writing(lambda c: register(c, loads(SCHEDULE, {}).listed(), NOW - DAY))
    scope, some = ran(ledger, failed=1), "2026-11-21"
    ledger.writing(lambda c: close_run(c, scope, status, None, NOW))
    of_some = begin_run(ledger, slot=some, partial=True)
    ledger.writing(lambda c: close_run(c, of_some, "ok", None, NOW))
    found = samples(exposition(ledger, tmp_path))
    assert found["overnight_run_last_due_timestamp_seconds{job=greet}"] == (NOW - timedelta(hours=23)).timestamp()
    assert ("overnight_run_last_success_timestamp_seconds{job=greet}" in found) is well
    assert "overnight_run_last_due_timestamp_seconds{job=off}" not in found
