"""README is true for who has just come: its commands work as they stand, and an edition without news says so."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.serving import ROOT

pytestmark = pytest.mark.slow

NEEDED = ("useradd", "userdel", "setpriv")
READY = os.getuid() == 0 and all(map(shutil.which, NEEDED))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what a newcomer would clone is known to git only")
@pytest.mark.skipif(not READY, reason=f"a throw-away user needs root, and {', '.join(NEEDED)}")
def test_its_commands_bring_a_newcomer_to_a_mail_in_the_outbox(package_index: None) -> None:
    command = [sys.executable, str(ROOT / "bench" / "readme.py"), "--once"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout
    typed = [line.rsplit(maxsplit=1)[0] for line in done.stdout.partition("\ncommand ")[2].splitlines()[1:-1]]
    assert typed[0] == "make demo"
    assert typed[-2:] == ["overnight run daily_email", "overnight serve"]


def test_an_edition_without_news_says_why_nobody_got_mail(project: Project) -> None:
    project.subscribe("ada@example.org", "bob@example.org")
    project.run("run", "daily_email", "--date", "2026-10-01")
    said = project.run("run", "daily_email", "--date", "2026-10-02")
    assert "2 skipped" in said.out
    assert "skipped: no news (2)" in said.out
