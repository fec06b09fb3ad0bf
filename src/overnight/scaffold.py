"""New projects: written from the very files that the repository of overnight runs itself."""

import shutil
from importlib.resources import files
from pathlib import Path

from overnight.errors import ConfigError

PARTS = ("schedule.yaml", "schedule.schema.json", ".env.example", "jobs", "reports", "templates", "content")
TESTS = "tests"
GITIGNORE = "/var/\n.env\n__pycache__/\n.pytest_cache/\n"
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")


def write_project(folder: Path) -> list[Path]:
    """Write a project into `folder` and return its files. Raises ConfigError when something is in the way."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty: name a new folder, so that nothing of yours is overwritten")
    source, tests = _source()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            _copy(source / part, folder / part)
        _copy(tests, folder / TESTS)
        (folder / ".gitignore").write_text(GITIGNORE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=IGNORED)
    else:
        shutil.copyfile(source, target)


def _source() -> tuple[Path, Path]:
    """The copy in the wheel; in a checkout, which has none, the repository itself."""
    shipped = Path(str(files("overnight"))) / "_project"
    if shipped.is_dir():
        return shipped, shipped / TESTS
    root = Path(__file__).resolve().parents[2]
    return root, root / "tests" / "project"
