"""The architecture is a list: the same one for people and for the machine."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from overnight.ledger.tables import metadata

ROOT = Path(__file__).parents[2]
BROUGHT = {"botocore", "markupsafe", "pydantic_core", "pytest"}  # by boto3, Jinja2, pydantic; pytest brings us
HEAVY = ("anthropic", "boto3", "pandas", "sqlalchemy", "apscheduler", "jwt")


def enforced_layers() -> list[str]:
    """Read the list import-linter checks; parentheses mark a layer that may be absent."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [layer.replace("(", "").replace(")", "") for layer in layers]


def printed_layers() -> list[str]:
    """Read the list in CONTRIBUTING.md: the fenced block that begins with `cli`; remarks follow two spaces."""
    _, _, block = (ROOT / "CONTRIBUTING.md").read_text().partition("```text\ncli")
    lines = f"cli{block.partition('```')[0]}".splitlines()
    return [line.partition("  ")[0].strip() for line in lines]


def test_contributing_prints_the_layers_that_are_enforced() -> None:
    assert printed_layers() == enforced_layers()


def test_every_module_of_the_engine_has_a_place() -> None:
    placed = {name for layer in enforced_layers() for name in layer.split(" | ")}
    modules = (path.stem for path in (ROOT / "src" / "overnight").iterdir() if path.is_dir() or path.suffix == ".py")
    assert {module for module in modules if not module.startswith("_")} <= placed


def test_the_picture_of_an_items_life_names_modules_and_tables_that_exist() -> None:
    picture = (ROOT / "docs" / "images" / "life-of-an-item.svg").read_text(encoding="utf-8")
    modules = re.findall(r'class="code"[^>]*>([^<]*)<', picture)
    tables = re.findall(r'class="rows"[^>]*>([^<]*)<', picture)
    placed = {name for layer in enforced_layers() for name in layer.split(" | ")}
    assert {name for line in modules for name in line.split(" · ")} <= placed
    assert {part.partition(":")[0] for line in tables for part in line.split(" · ")} <= set(metadata.tables)
    assert (len(modules), len(tables)) == (11, 9)


def test_help_imports_no_heavy_library() -> None:
    code = f"""
import json, sys
from overnight.cli import main
sys.argv = ["overnight", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stderr.splitlines()[-1]) == []


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = f"import sys, overnight, overnight.logs; print([name for name in {HEAVY!r} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout.strip() == "[]"


def imported() -> set[str]:
    """The outermost names of all that the engine and the project's files import."""
    files = [path for folder in ("src", "jobs", "reports") for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def test_whatever_is_imported_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    declared = {plain(re.split(r"[\[<>=]", each)[0]) for each in wanted}
    ours = {"overnight", "jobs", "reports"}
    homes = packages_distributions()
    foreign = imported() - ours - sys.stdlib_module_names
    undeclared = {name for name in foreign if declared.isdisjoint(map(plain, homes.get(name, [name])))}
    assert undeclared == BROUGHT, "name it in pyproject.toml"


def plain(name: str) -> str:
    """A name of a distribution as indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()
