"""Whoever names a figure names the bench that prints it, and a bound in README is the one that the bench holds."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
TABLE = (BENCH / "run.py").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
COSTS = README.partition("## What it costs")[2].partition("\n## ")[0]
BOUNDS = re.findall(r"^\| .* \| ([≥≤] [\d.]+[^|]*?) \| `(.*?)` \|$", COSTS, flags=re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", BENCH / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What is measured, not set: small times, memory, rates, and words of speed.
MEASURED = re.compile(
    r"\d\s?(ms|us|µs|MiB|GiB)\b|\d (an?|per) second|\d ?% at\b|\d times (as|more|less)\b|\bunder a (second|minute)\b"
)


def blocks(page: Path) -> list[str]:
    """Paragraphs, items of lists and rows of tables; no code, and no chapter of others' figures that has their date."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^## Peers\nMeasured in \w+ 20\d\d .*?^##", "##", text, flags=re.MULTILINE | re.DOTALL)
    return [block.strip() for block in re.split(r"\n\s*\n|\n(?=[|#-])", text) if MEASURED.search(block)]


def test_a_row_of_what_it_costs_has_a_bound_and_a_line_of_the_bench() -> None:
    rows = [line for line in COSTS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(BOUNDS) >= 8


@pytest.mark.parametrize(("bound", "line"), BOUNDS, ids=[line for _, line in BOUNDS])
def test_a_bound_in_readme_is_the_one_the_bench_holds(bound: str, line: str) -> None:
    number = " ".join(bound.split()[:2])
    assert re.search(re.escape(line) + r'[^§]{0,240}?"' + re.escape(number) + r'[ "]', TABLE), f"{line}: no {number}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_measured_figure_names_its_bench(page: Path) -> None:
    for block in blocks(page):
        programs = re.findall(r"`(?:bench/)?(\w+\.py)\b", block)
        lines = [line for line in re.findall(r"`([^`]+)`", block) if len(line) > 12 and line in TABLE]
        assert programs or lines or "`make bench`" in block, f"no bench is named for: {block}"
        assert all((BENCH / name).is_file() for name in programs), block


def test_the_check_finds_a_figure_without_a_bench(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("It is fast.\n\n- It takes 3 ms.\n- It waits 30 s.\n\n`sqlite3`: 40 MiB.\n", encoding="utf-8")
    assert blocks(page) == ["- It takes 3 ms.", "`sqlite3`: 40 MiB."]
    with pytest.raises(AssertionError, match="no bench is named"):
        test_a_measured_figure_names_its_bench(page)
