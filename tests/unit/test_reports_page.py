"""docs/reports.md names the columns that there are, in their order."""

import re
from pathlib import Path

import pytest

from overnight.report import Report
from reports.cost import cost
from reports.errors import errors
from reports.items import items
from reports.runs import runs
from reports.success_rate import success_rate

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("report", [cost, errors, items, runs, success_rate], ids=lambda report: report.name)
def test_the_page_has_the_columns_of_each_report(report: Report) -> None:
    section = PAGE.partition(f"### {report.name}\n")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", section) == list(report.columns)
