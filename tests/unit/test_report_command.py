"""`overnight report` and `overnight costs`."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from overnight.cli.context import Cli
from overnight.cli.report import costs, report
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.rollups import fill
from overnight.ledger.tables import call, slot

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
DATE = ("--date", "2026-11-22")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's reports and two calls in its ledger."""
    shutil.copytree(ROOT / "reports", tmp_path / "reports", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "schedule.yaml").write_text("version: 1\njobs: {}\n")
    ledger = Ledger.open("sqlite:///var/overnight.db", root=tmp_path)
    common = {
        "job": "mail", "slot": "s", "key": "a", "hash": "h", "nth": 0, "run_id": "r", "role": "editor", "status": "ok",
        "started_at": AT, "input_tokens": 7, "budget_day": "2026-11-22",
    }  # fmt: skip
    rows = [
        common | {"id": "1", "model": "small", "cost_nano": 30},
        common | {"id": "2", "model": "=big", "cost_nano": 5},
    ]
    day = {"job": "mail", "slot": "s", "day": "2026-11-22", "scheduled_for": AT, "created_at": AT}
    ledger.writing(lambda connection: connection.execute(insert(slot), [day]))
    ledger.writing(lambda connection: connection.execute(insert(call), rows))
    ledger.writing(fill)
    ledger.close()
    return tmp_path


def told(project: Path, command: object, *words: str, as_json: bool = False, code: int = 0) -> str:
    cli = Cli(project, json=as_json, quiet=False, verbose=False)
    try:
        result = CliRunner().invoke(command, list(words), obj=cli, catch_exceptions=False)  # type: ignore[arg-type]
    finally:
        cli.close()
    assert result.exit_code == code
    return result.output


def test_costs_are_summed_by_model(project: Path) -> None:
    document = json.loads(told(project, costs, "--by", "model", as_json=True))
    assert [(row["model"], row["cost_usd"]) for row in document["rows"]] == [
        ("=big", "0.000000005"), ("small", "0.000000030"),
    ]  # fmt: skip
    assert document["total"]["cost_usd"] == "0.000000035"


def test_costs_are_a_table_for_people(project: Path) -> None:
    assert "0.000000035" in told(project, costs)
    assert told(project, costs, "--since", "2026-11-23") == "nothing spent yet\n"


def test_a_report_is_printed_as_the_csv_that_is_published(project: Path) -> None:
    printed = told(project, report, *DATE, "--csv", "cost")
    assert printed.splitlines()[1].startswith("2026-11-22,mail,s,editor,'=big,1,7,0,0,0,0.000000005,")


def test_days_share_one_header(project: Path) -> None:
    assert told(project, report, *DATE, "--since", "2026-11-20", "--csv", "cost").count("report_date") == 1


def test_people_and_machines_see_text_without_the_guard(project: Path) -> None:
    assert [row["model"] for row in json.loads(told(project, report, *DATE, as_json=True))["cost"]] == ["=big", "small"]
    assert " =big" in told(project, report, *DATE)
    assert "| =big |" in told(project, report, *DATE, "--md")


def test_a_long_report_is_cut_for_people_and_says_how_to_get_the_rest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.cli.report.SHOWN", 1)
    assert "and 1 more: overnight report --csv cost" in told(project, report, *DATE)
    assert len(json.loads(told(project, report, *DATE, as_json=True))["cost"]) == 2


def test_a_report_that_is_not_there_is_named_with_those_that_are(project: Path) -> None:
    with pytest.raises(ConfigError, match="no report 'money'; this project has cost, errors, items, runs"):
        told(project, report, "--csv", "money")


def test_a_report_of_the_project_that_fails_is_named_and_the_others_are_shown(project: Path) -> None:
    lines = [
        "from overnight.report import report",
        "",
        "",
        '@report({"n": "count"})',
        "def bad(day):",
        "    return {}[1]",
    ]
    (project / "reports/worse.py").write_text("\n".join(lines) + "\n")
    said = "the report bad of 2026-11-22 cannot be made: KeyError: 1; correct reports/worse.py"
    shown = told(project, report, *DATE, code=1)
    assert said in shown
    assert " =big" in shown
    with pytest.raises(ConfigError, match=said):
        told(project, report, *DATE, "--csv", "bad")


def test_a_csv_is_neither_markdown_nor_json(project: Path) -> None:
    assert "leave --md and --json out" in told(project, report, "--csv", "cost", "--md", code=2)
    assert "leave --md and --json out" in told(project, report, "--csv", "cost", as_json=True, code=2)
