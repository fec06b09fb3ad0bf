"""A short life of `serve` with faults and reloads; `make soak` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"


@pytest.mark.slow
def test_serve_misses_and_loses_nothing_while_its_file_is_edited_and_its_runs_are_killed() -> None:
    command = [sys.executable, str(SOAK), "--minutes", "0.35", "--every", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
