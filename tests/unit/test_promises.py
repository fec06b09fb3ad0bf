"""What README and docs/promises.md promise is proved by tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
README = (TESTS.parent / "README.md").read_text(encoding="utf-8")
TEST = r"`(\w+/test_\w+\.py)::(test_\w+)`"
NAMED = re.findall(TEST, README)
EXPLAINED = re.findall(TEST, (TESTS.parent / "docs" / "promises.md").read_text(encoding="utf-8"))


def test_each_line_of_the_table_names_its_test() -> None:
    table = README.partition("## What it promises")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(lines) == len(NAMED) >= 15


@pytest.mark.parametrize(("file", "name"), sorted({*NAMED, *EXPLAINED}))
def test_a_promise_has_its_test(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
