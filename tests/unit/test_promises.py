"""What README and docs/promises.md promise is proved by tests that exist, and what README shows is there."""

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


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "bench/README.md"])
def test_every_link_and_picture_leads_to_a_file(page: str) -> None:
    file = TESTS.parent / page
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'\bsrc="([^"]+)"', text)
    missing = [each for each in targets if "://" not in each and not (file.parent / each).exists()]
    assert missing == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    text = (TESTS.parent / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_./]+/[a-z_]+\.(?:py|toml|yaml|sql))\b", text))
    places = (TESTS.parent, TESTS.parent / "src" / "overnight", TESTS)
    assert named
    assert {name for name in named if not any((place / name).is_file() for place in places)} == set()
