"""The contract with scripts: `--json` is one document on stdout, and every exit code means one thing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from overnight.cli import COMMANDS, _guarded
from overnight.scaffold import write_project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCHEDULE = """version: 1
channels: { ops: { email: [ops@example.org] } }
alerts: { to: [ops] }
roles: { editor: { model: [claude-haiku-5-5] }, analyst: { model: [claude-haiku-5-5] } }
jobs:
  hello: { every: 1d }
  hurt: { every: 1d }
  mixed: { every: 1d }
  interrupted: { every: 1d }
  daily_email: { every: 1d, params: { feeds: [content/feed.xml], window: 3650d } }
"""
JOBS = {
    "hurt": "@job\nasync def hurt(slot: str, run: Run) -> None:\n    raise Permanent('no')\n",
    "mixed": (
        "@job(items=lambda _run: ['a', 'b'])\nasync def mixed(name: str, run: Run) -> None:\n"
        "    if name == 'a':\n        raise Permanent('no')\n"
    ),
    "interrupted": (
        "@job(items=lambda _run: [str(n) for n in range(40)], concurrency=1)\n"
        "async def interrupted(name: str, run: Run) -> None:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await asyncio.sleep(0.05)\n"
    ),
}
HEAD = "import asyncio\nimport os\nimport signal\n\nfrom overnight import Permanent, Run, job\n\n\n"

CALLS: list[tuple[str, int]] = [
    ("init {new}", 0),
    *((f"completion {shell}", 0) for shell in ("bash", "zsh", "fish")),
    *((word, 0) for word in ("validate", "schema", "next", "runs", "report", "costs", "budget", "alerts", "doctor")),
    ("roles", 0),
    ("run hello", 0),
    ("logs hello", 0),
    ("bounces {empty}", 0),
    ("run hurt", 1),
    ("run mixed", 3),
    ("run interrupted", 130),
    ("resume interrupted", 130),
    ("retry hurt", 1),
    ("show mixed", 0),
    ("show mixed a", 0),
    ("cancel hello", 4),
    ("settle hello key sent", 2),
    ("run hallo", 2),
    ("alerts --all", 0),
    ("subscribers import {people}", 3),
    ("subscribers list", 0),
    ("preview daily_email", 0),
    ("run daily_email --dry-run", 0),
    ("pause hello", 0),
    ("resume-job hello", 0),
    ("budget raise 1", 0),
    ("tasks add Read-it --role analyst", 0),
    ("tasks list", 0),
    *((word, 0) for word in ("tick", "backup", "rebuild", "vacuum")),
]
# What serves for ever, asks, mails for real or puts the ledger away has tests of its own.
ELSEWHERE = {"demo", "fake-model", "serve", "redo", "rehearse", "restore"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    write_project(root)
    (root / "schedule.yaml").write_text(SCHEDULE)
    for name, text in JOBS.items():
        (root / "jobs" / f"{name}.py").write_text(HEAD + text)
    return root


def test_every_command_answers_with_one_document_and_every_exit_code_is_met(site: Path, tmp_path: Path) -> None:
    values = {"new": str(tmp_path / "new"), "people": str(site / "content" / "subscribers.csv")}
    values["empty"] = str(tmp_path / "empty.mbox")
    (tmp_path / "empty.mbox").touch()
    lines = [["--config", str(site), "--json", *call.format(**values).split()] for call, _ in CALLS]
    environ = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("many.py"))],
        input=json.dumps(lines), capture_output=True, text=True, check=True, env=environ,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    assert [(call, code) for (call, _), (code, _) in zip(CALLS, answers, strict=True)] == CALLS, done.stderr
    for (call, _), (_, said) in zip(CALLS, answers, strict=True):
        assert "\x1b" not in said
        assert json.loads(said) is not None, call
    assert COMMANDS.keys() - {call.split()[0] for call, _ in CALLS} == ELSEWHERE
    assert {code for _, code in CALLS} == documented()


def documented() -> set[int]:
    """The codes of the table in the README."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


def test_a_shell_completes_commands_options_and_jobs(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def completed(line: str) -> str:
        monkeypatch.setenv("_OVERNIGHT_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
        with pytest.raises(SystemExit):
            _guarded([])
        return capsys.readouterr().out

    assert "plain,resume-job" in completed("overnight resu")
    assert "plain,silence" in completed("overnight alerts si")
    assert "plain,--dry-run" in completed("overnight run --dr")
    monkeypatch.chdir(site)
    assert completed("overnight run h").split() == ["plain,hello", "plain,hurt"]
    assert completed("overnight retry int").split() == ["plain,interrupted"]
    assert completed("overnight runs --job mi").split() == ["plain,mixed"]
    (site / "schedule.yaml").write_text(SCHEDULE.replace("every: 1d", "evry: 1d"))
    assert completed("overnight next da").split() == ["plain,daily_email"], "also where the file is wrong"
    for broken in ("jobs: [", "jobs: 7\n", "[]\n"):
        (site / "schedule.yaml").write_text(broken)
        assert completed("overnight run h").split() == []
    monkeypatch.chdir("/")
    assert completed(f"overnight --config {site} run h").split() == []
