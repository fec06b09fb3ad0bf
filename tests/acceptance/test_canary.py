"""Secrets of `.env` are let loose in every way a job can: none of them comes out anywhere.

Each is a canary, a value that occurs once in the world and has the shape of nothing, so that only its owner can know it
for a secret. They are read back from what the command prints, from every file of the project, and from the ledger.
"""

import json
import re
import secrets
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.acceptance.conftest import COMMAND, ModelBooks, Project

pytestmark = pytest.mark.slow

LEAKY = '''"""A job that spills its secrets in every way a job can."""

import asyncio
import logging
import urllib.request
import warnings

from dotenv import dotenv_values

from overnight import Downstream, Permanent, Run, Skip, Stop, Transient, job

KINDS = ["message", "local", "chained", "url", "key", "permanent", "downstream", "transient", "skip", "log", "notes"]


def kinds(run: Run) -> list[str]:
    """One item for each way."""
    return KINDS


@job(items=kinds, key=lambda kind: kind)
async def leaky(kind: str, run: Run) -> str:
    """Spill."""
    for name, value in dotenv_values(run.root / ".env").items():
        spill(kind, run, name, value)
    return "nothing spilled"


def spill(kind, run, name, value):
    """Spill one value."""
    if kind == "message":
        raise RuntimeError(f"cannot log in with {value}")
    if kind == "local":
        secret_in_a_local_variable = value
        return 1 / 0 if secret_in_a_local_variable else 1
    if kind == "chained":
        try:
            raise ValueError(f"bad {value!r}")
        except ValueError as error:
            raise KeyError({"headers": {"x": value}}) from error
    if kind == "url":
        return urllib.request.urlopen(f"htp://ann:{value}@wrong.example/{value}?q={value}")
    if kind == "key":
        return {}[value]
    if kind == "notes":
        error = RuntimeError("see the note")
        error.add_note(f"tried {value}")
        raise error
    if kind == "log":
        run.log.warning("tried", tried=value, more={"deep": [value]})
        logging.getLogger("aiosmtplib").warning("AUTH %s", value)
        warnings.warn(f"old {value}", stacklevel=1)
        run.warn("topic", f"notice of {value}")
        return None
    kinds = {"permanent": Permanent, "downstream": Downstream, "transient": Transient, "skip": Skip}
    if kind in kinds:
        raise kinds[kind](f"refused {value}")
'''
STOPPED = '''"""A job that cannot go on, and says why."""

from dotenv import dotenv_values

from overnight import Run, Stop, job


async def shared(run: Run) -> str:
    """Fail for all items together."""
    raise RuntimeError(f"no value for all of us: {dict(dotenv_values(run.root / '.env'))}")


@job
async def stopped(_item: object, run: Run) -> str:
    """Stop."""
    return await run.once(shared)
'''
JOBS = """
  leaky: { every: 1d, enabled: false, retry: { attempts: 1 } }
  stopped: { every: 1d, enabled: false }
"""


@pytest.fixture
def canaries() -> dict[str, str]:
    """One secret for each variable, no two runs of the test with the same."""
    return {name: f"{secrets.token_hex(6)}qZ{secrets.token_urlsafe(9)}Xk" for name in ("key", "password", "token")}


@pytest.fixture
def site(project: Project, canaries: dict[str, str]) -> Project:
    """A project with secrets in its `.env` and two jobs that cannot keep them."""
    write_env(project, "outbox:var/outbox", canaries)
    (project.root / "jobs" / "leaky.py").write_text(LEAKY, encoding="utf-8")
    (project.root / "jobs" / "stopped.py").write_text(STOPPED, encoding="utf-8")
    with (project.root / "schedule.yaml").open("a", encoding="utf-8") as file:
        file.write(JOBS)
    return project


def write_env(project: Project, mail: str, canaries: dict[str, str]) -> None:
    """Write `.env`: a key that is asked for, a password in a URL, and a variable of the project's own."""
    lines = [
        f"ANTHROPIC_API_KEY={canaries['key']}",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:9",
        f"RELAY=smtp://news:{canaries['password']}@mail.example.org:587",
        f"MY_TOKEN={canaries['token']}",
        f"MAIL_URL={mail}",
    ]
    (project.root / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")


def call(project: Project, *arguments: str) -> str:
    """Everything the command prints."""
    done = subprocess.run(
        [str(COMMAND), *arguments], cwd=project.root, env=project.env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def everything(project: Project) -> Iterator[tuple[str, str]]:
    """Each file below `var` by its name, and each cell of the ledger's tables by `table.column`."""
    for path in (project.root / "var").rglob("*"):
        if path.is_file() and ".db" not in path.name:
            yield str(path.relative_to(project.root)), path.read_text(encoding="utf-8", errors="replace")
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608  our own tables
            columns = [each[0] for each in rows.description]
            for row in rows:
                yield from ((f"{table}.{name}", str(cell)) for name, cell in zip(columns, row, strict=True))


def holds(text: str, canaries: dict[str, str]) -> bool:
    """Whether a canary, or twelve characters in a row of one, is in a text, also URL-encoded or quoted-printable."""
    joined = re.sub(r"=\r?\n", "", text)
    return any(
        form[start : start + 12] in seen
        for canary in canaries.values()
        for form in (canary, quote(canary, safe=""))
        for seen in (text, joined)
        for start in range(len(form) - 11)
    )


def test_no_secret_comes_out_of_a_job_that_spills_them(site: Project, canaries: dict[str, str]) -> None:
    printed = {
        command: call(site, *command)
        for command in [
            ("run", "leaky", "--yes"),
            ("--json", "run", "stopped", "--yes"),
            ("-v", "run", "leaky", "--yes"),
            ("runs",),
            ("--json", "show", "leaky"),
            ("show", "leaky", "message"),
            ("--json", "show", "leaky", "chained"),
            ("show", "stopped"),
            ("alerts",),
            ("--json", "alerts"),
            ("report",),
            ("report", "--csv", "errors"),
            ("doctor",),
            ("validate",),
            ("next",),
        ]
    }
    assert "RuntimeError" in printed["run", "leaky", "--yes"], "it did spill"
    assert [name for name, text in printed.items() if holds(text, canaries)] == []
    assert {name for name, text in everything(site) if holds(text, canaries)} == set()


def test_the_log_the_reports_and_the_alerts_do_tell_what_happened(site: Project) -> None:
    call(site, "run", "leaky", "--yes")
    call(site, "run", "stopped", "--yes")
    names = {name for name, _ in everything(site)}
    assert "var/log/overnight.jsonl" in names
    assert any("errors" in name and name.endswith(".csv") for name in names)
    assert {"item.error", "run.reason", "alert.message"} <= names
    assert any(name.endswith(".eml") for name in names)
    traced = [line for line in site.log() if "Traceback" in line.get("exception", "")]
    assert traced
    assert "[redacted]" in json.dumps(traced)


@pytest.mark.parametrize(
    "wrong",
    [
        "smtp://news:{}@mail.example.org:notaport",
        "smtp://news:{}#x@mail.example.org:587",
        "smpt://news:{}@mail.example.org",
        "smtp://{}@mail.example.org",
        "smtp://news:{}@127.0.0.1:9",
    ],
)
def test_no_secret_comes_out_of_a_wrong_address(site: Project, canaries: dict[str, str], wrong: str) -> None:
    write_env(site, wrong.format(canaries["password"]), canaries)
    for command in [
        ("validate",),
        ("--json", "validate"),
        ("doctor",),
        ("--json", "doctor"),
        ("run", "leaky", "--yes"),
    ]:
        assert not holds(call(site, *command), canaries), command


def test_no_secret_comes_out_of_a_task_whose_title_has_it(
    site: Project, fake_model: ModelBooks, canaries: dict[str, str]
) -> None:
    """Titles are stored and listed as somebody wrote them; what the engine says of its work on them is cleaned."""
    site.env |= fake_model.env
    fake_model.faults({"fault": {"kind": "status", "code": 400, "message": f"bad header: {canaries['token']}"}})
    (site.root / "content" / "tasks.jsonl").write_text("", encoding="utf-8")
    title = f"Why does {canaries['token']} not work?"
    call(site, "tasks", "add", title, "--role", "analyst", "--body", f"The key is {canaries['key']}.")
    texts = [call(site, "run", "nightly_agents", "--yes"), call(site, "--json", "show", "nightly_agents")]
    assert not any(holds(text, canaries) for text in texts)
    kept = {name for name, text in everything(site) if holds(text, canaries)}
    assert kept <= {"task.title", "task.body", "item.payload"}


def test_the_tasks_file_of_a_project_is_no_way_out(site: Project, canaries: dict[str, str]) -> None:
    (site.root / "content" / "tasks.jsonl").write_text(f'{{"role": "{canaries["token"]}"}}\n', encoding="utf-8")
    assert not holds(call(site, "run", "nightly_agents", "--yes"), canaries)
