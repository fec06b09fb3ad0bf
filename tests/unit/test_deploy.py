"""The files in deploy/ fit this program: a unit that systemd takes, an image that holds what the wheel needs."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from datetime import timedelta
from pathlib import Path

import pytest

from overnight.cli import cli
from overnight.cli.serve import serve
from overnight.schedule import loads

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DRAIN = loads("version: 1\njobs: { a: { every: 1d } }\n", {}).drain


def unit() -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(DEPLOY / "overnight.service")
    return parser


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze (Debian: systemd) is not installed")
    text = (DEPLOY / "overnight.service").read_text().replace("/opt/overnight/bin/overnight", sys.executable)
    copy = tmp_path / "overnight.service"
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "overnight.service" in line] == []


def test_prometheus_takes_the_rules_and_each_wakes_somebody_for_what_it_says() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    for words in (("check", "rules", DEPLOY / "alerts.yml"), ("test", "rules", ROOT / "tests" / "alerts.test.yml")):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_lets_runs_drain_and_its_commands_are_ours() -> None:
    service = unit()["Service"]
    assert timedelta(seconds=int(service["TimeoutStopSec"])) > DRAIN
    assert (service["KillMode"], service["ExecReload"]) == ("mixed", "/bin/kill -HUP $MAINPID")
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/overnight")
    assert_serves(words)
    assert service["ReadWritePaths"] == f"{service['WorkingDirectory']}/var"


def assert_serves(words: list[str]) -> None:
    assert words[0] == "serve"
    assert cli.get_command(None, "serve") is serve  # type: ignore[arg-type]
    serve.make_context("serve", words[1:], obj=None)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_has_whatever_the_wheel_is_made_of() -> None:
    copies = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    copied = {source for sources in copies for source in sources}
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    of_package = project["project"]
    wanted = {"pyproject.toml", "requirements.lock", "src", of_package["readme"], *of_package["license-files"]}
    wanted |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert copied == wanted
    assert all((ROOT / source).exists() for source in copied)


def test_the_container_is_no_root_and_its_health_is_asked_where_serve_listens() -> None:
    final = dict(instructions()[max(n for n, (word, _) in enumerate(instructions()) if word == "FROM") :])
    assert final["USER"] == "overnight"
    assert "http://127.0.0.1:8650/livez" in final["HEALTHCHECK"]
    assert final["VOLUME"] == "/site/var"
    words = re.findall(r'"([^"]*)"', final["CMD"])
    assert_serves(words)
    assert words[1:] == ["--port", "8650"]


def test_a_rotated_log_is_reopened() -> None:
    text = (DEPLOY / "logrotate.conf").read_text()
    assert "/var/log/overnight.jsonl {" in text
    assert "systemctl reload overnight.service" in text
    assert "delaycompress" in text
