"""A new project comes with tests of its own jobs, which pass as they are."""

import subprocess
import sys

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.slow


def pytest_in(project: Project, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=project.root,
        env=project.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_tests_of_a_new_project_pass(project: Project) -> None:
    done = pytest_in(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_test_of_a_job_fails_when_the_job_is_broken(project: Project) -> None:
    project.edit("jobs/hello.py", "Good morning {person.name}", "Good evening {person.name}")
    done = pytest_in(project, "-k", "greeted")
    assert done.returncode == 1, done.stdout + done.stderr
