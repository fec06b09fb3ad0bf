"""The wheel alone, in a new environment: what `overnight init` writes works at once, and is what the repository has."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import environment
from tests.acceptance.serving import ROOT

pytestmark = pytest.mark.slow

SHARED = ("schedule.yaml", "schedule.schema.json", ".env.example", "jobs", "reports", "templates", "content")
OF_A_PROJECT = {".gitignore"}  # the repository's names its tools as well


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, package_index: None) -> Path:
    """The folder `bin` of an environment with the wheel, the locked packages it runs on, and pytest."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "venv", "venv", cwd=folder)
    pip = (str(folder / "venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "wheel", "--no-deps", "--wheel-dir", "dist", str(ROOT), cwd=folder)
    [wheel] = (folder / "dist").iterdir()
    locks = [str(ROOT / "requirements.lock"), "--constraint", str(ROOT / "requirements-dev.lock")]
    call(*pip, "install", "--requirement", *locks, "pytest", cwd=folder)
    call(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    call(*pip, "check", cwd=folder)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def init(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project that this command has written, and what it said."""
    home = tmp_path_factory.mktemp("home")
    said = call("overnight", "init", "site", cwd=home, path=commands)
    return home / "site", said


def call(*command: str, cwd: Path, path: Path | None = None, code: int = 0) -> str:
    """What a command said; with `path`, in a clean environment where this folder comes first."""
    env = {**environment(cwd), "PATH": f"{path}:/usr/bin:/bin"} if path else None
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == code, f"{shlex.join(command)}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def files(folder: Path, *below: str) -> dict[str, bytes]:
    """The files below these names of a folder, without what a run of Python leaves."""
    found = (path for name in below for path in (folder / name, *(folder / name).rglob("*")))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_new_project_has_the_files_of_the_repository(init: tuple[Path, str]) -> None:
    project, _ = init
    written = {path.relative_to(project).as_posix(): path.read_bytes() for path in project.rglob("*") if path.is_file()}
    tests = {f"tests/{name}": text for name, text in files(ROOT / "tests" / "project", ".").items()}
    assert {name: text for name, text in written.items() if name not in OF_A_PROJECT} == files(ROOT, *SHARED) | tests
    assert set(written) > OF_A_PROJECT
    ignored = written[".gitignore"].decode().split()
    assert set(ignored) <= set((ROOT / ".gitignore").read_text(encoding="utf-8").split())
    assert {"/var/", ".env"} <= set(ignored)


def test_what_init_prints_next_works_as_it_stands(init: tuple[Path, str], commands: Path) -> None:
    project, said = init
    steps = [re.split(" {2,}", line.strip())[0] for line in said.splitlines() if line.startswith("  ")]
    assert steps[:2] == ["cd site", "overnight run hello"]
    partial = "overnight subscribers import content/subscribers.csv"  # one line of the sample is wrong on purpose
    answers = [
        call(*shlex.split(step), cwd=project, path=commands, code=3 if step == partial else 0) for step in steps[1:]
    ]
    assert "ok: 3 ok" in answers[0]
    assert "24 added" in answers[1]
    assert list((project / "var" / "outbox" / "daily_email").rglob("*.eml"))


def test_the_tests_of_a_new_project_pass_under_plain_pytest(init: tuple[Path, str], commands: Path) -> None:
    project, _ = init
    assert "2 passed" in call("pytest", "-q", "-p", "no:cacheprovider", cwd=project, path=commands)
