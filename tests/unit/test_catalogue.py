"""Models that are unknown, deprecated, retired or asked for too much are named, each with its role."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from overnight.catalogue import deprecated, ending, models_of, refused, retiring, unpriced
from overnight.cli import _guarded, common_first
from overnight.fake_model import serve
from overnight.model import Listed
from overnight.schedule import Schedule, ScheduleErrors, load, loads, refuse

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
ACTIVE = Listed("active", max_tokens=128_000)
HEAD = "version: 1\njobs: { greet: { every: 1d } }\n"

Command = Callable[..., tuple[int, str, str]]


def schedule(*models: str, more: str = "") -> Schedule:
    return loads(f"{HEAD}roles: {{ editor: {{ model: [{', '.join(models)}], max_tokens: 2000 }} }}\n{more}", {})


def test_a_model_without_a_price_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "schedule.yaml"
    path.write_text(f"{HEAD}roles:\n  editor:\n    model:\n      - {HAIKU}\n      - claude-haiku-55\n")
    with pytest.raises(ScheduleErrors) as caught:
        refuse(path, unpriced(load(path, {}), NOW), ())
    [problem] = caught.value.errors
    assert (problem.line, problem.column, problem.path) == (7, 9, "roles.editor.model.1")
    assert "no price is known for the model 'claude-haiku-55'" in str(problem)
    assert "add its price under `prices:`" in str(problem)


def test_a_model_with_a_price_of_the_operator_is_not_refused(tmp_path: Path) -> None:
    price = "{ input: $1, output: $1, cache_write: $1, cache_read: $1 }"
    assert list(unpriced(schedule("my-model", more=f"prices: {{ my-model: {price} }}"), NOW)) == []
    later = price.replace(" }", ", from: 2026-12-01 }")
    assert len(list(unpriced(schedule("my-model", more=f"prices: {{ my-model: {later} }}"), NOW))) == 1


def test_the_list_of_deprecated_models_is_the_sdks_own() -> None:
    from anthropic.resources.messages.messages import DEPRECATED_MODELS

    ours = deprecated()
    assert set(ours) == set(DEPRECATED_MODELS)
    assert ours["claude-sonnet-4-5"] == date(2026, 11, 30)
    for model, day in ours.items():
        assert day is not None
        assert f"{day:%B} {day.day}" in DEPRECATED_MODELS[model]
        assert str(day.year) in DEPRECATED_MODELS[model]


def test_reading_it_does_not_import_the_sdk() -> None:

    code = (
        "import sys; from overnight.catalogue import deprecated; assert deprecated(); print('anthropic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("today", "said"),
    [(TODAY, "its last day is 2026-11-30, in 8 days"), (date(2026, 12, 1), "its last day was 2026-11-30")],
)
def test_a_deprecated_model_is_warned_about_without_asking_anybody(today: date, said: str) -> None:
    [warning] = ending(schedule(HAIKU, "claude-sonnet-4-5"), today)
    assert warning.startswith("roles.editor: the model claude-sonnet-4-5 is deprecated: ")
    assert said in warning


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (None, f"roles.editor: the API knows no model {HAIKU}; check its name"),
        (replace(ACTIVE, lifecycle="retired"), f"roles.editor: the model {HAIKU} is retired; choose another one"),
        (replace(ACTIVE, max_tokens=1_999), f"roles.editor: max_tokens is 2000, and {HAIKU} gives at most 1999"),
    ],
)
def test_what_the_api_would_refuse_is_said_with_its_role(info: Listed | None, said: str) -> None:
    assert list(refused(schedule(HAIKU, SONNET), {HAIKU: info, SONNET: ACTIVE})) == [said]


@pytest.mark.parametrize("info", [ACTIVE, replace(ACTIVE, max_tokens=2_000), replace(ACTIVE, max_tokens=None)])
def test_what_the_api_accepts_is_fine(info: Listed) -> None:
    plan = schedule(HAIKU)
    assert [*refused(plan, {HAIKU: info}), *retiring(plan, {HAIKU: info}, TODAY)] == []


@pytest.mark.parametrize(
    ("lifecycle", "days", "told"),
    [
        ("active", 59, True),
        ("active", 60, False),
        ("deprecated", 200, True),
        ("deprecated", None, True),
        ("deprecated", -3, True),
        ("retired", -3, False),  # that is refused
    ],
)
def test_a_model_that_is_to_end_is_told_while_it_works(lifecycle: str, days: int | None, told: bool) -> None:
    ends = None if days is None else NOW + timedelta(days=days)
    assert len(list(retiring(schedule(HAIKU), {HAIKU: Listed(lifecycle, ends)}, TODAY))) == told


def test_a_model_of_several_roles_is_asked_for_once() -> None:
    both = loads(f"{HEAD}roles: {{ a: {{ model: [{HAIKU}, {SONNET}] }}, b: {{ model: {HAIKU} }} }}\n", {})
    assert models_of(both) == [HAIKU, SONNET]


@pytest.fixture
def overnight(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    (tmp_path / "jobs").mkdir()
    code = "from overnight import Run, job\n\n\n@job\nasync def greet(slot: str, run: Run) -> None: ...\n"
    (tmp_path / "jobs" / "greet.py").write_text(code)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)

    def call(text: str, *words: str) -> tuple[int, str, str]:
        (tmp_path / "schedule.yaml").write_text(HEAD + text)
        code = _guarded(common_first(["--config", str(tmp_path), *words]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("command", ["validate", "serve"])
def test_the_commands_refuse_a_model_without_a_price(overnight: Command, command: str) -> None:
    code, _, err = overnight("roles: { editor: { model: claude-haiku-55 } }\n", command)
    assert code == 2
    assert "schedule.yaml:3:27: error: roles.editor.model.0: no price is known" in err


def test_validate_warns_of_a_deprecated_model(overnight: Command) -> None:
    code, out, _ = overnight("roles: { editor: { model: claude-sonnet-4-5 } }\n", "validate", "--no-jobs")
    assert code == 0
    assert "warning: roles.editor: the model claude-sonnet-4-5 is deprecated" in out


def doctor(overnight: Command, roles: str, monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[bool, str]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sham-key")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    _, out, err = overnight(f"roles: {roles}\n", "--json", "doctor")
    assert out, err
    [row] = [row for row in json.loads(out) if row["check"] == "model"]
    return row["ok"], row["message"]


@pytest.mark.parametrize(
    ("role", "good", "said"),
    [
        (f"{{ model: [{HAIKU}, {SONNET}] }}", True, "the API takes the key and knows all 2 models of the roles"),
        ("{ model: claude-opus-4-1 }", False, "roles.editor: the API knows no model claude-opus-4-1"),
    ],
)
async def test_doctor_asks_the_api_about_the_models(
    overnight: Command, monkeypatch: pytest.MonkeyPatch, role: str, good: bool, said: str
) -> None:
    async with serve() as fake:
        ok, message = await asyncio.to_thread(doctor, overnight, f"{{ editor: {role} }}", monkeypatch, fake.url)
    assert ok is good
    assert said in message


def test_a_check_of_the_doctors_that_breaks_is_a_line_and_the_others_are_made(
    overnight: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.ledger.Ledger.check", lambda _: 1 / 0)
    _, out, _ = overnight("", "--json", "doctor")
    told = {row["check"]: (row["ok"], row["message"]) for row in json.loads(out)}
    assert told["ledger"] == (False, "ZeroDivisionError: division by zero")
    assert told["disk"][0]


@pytest.mark.parametrize("name", ["OVERNIGHT_TOKEN", "OVERNIGHT_SECRET"])
def test_doctor_says_that_a_token_of_the_page_or_a_secret_is_soon_guessed(
    overnight: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    _, out, _ = overnight("", "--json", "doctor")
    [row] = [row for row in json.loads(out) if row["check"] == "environment"]
    assert (row["ok"], "1 of at least 16 characters" in row["message"]) == (False, True)
    assert "openssl rand -hex 24" in row["message"]
    assert ("a new one ends the links of all mails that are out" in row["message"]) == (name == "OVERNIGHT_SECRET")


def test_doctor_says_when_the_api_cannot_be_reached(overnight: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, message = doctor(overnight, f"{{ editor: {{ model: {HAIKU} }} }}", monkeypatch, "http://127.0.0.1:9")
    assert not ok
    assert "cannot connect to the model at 127.0.0.1:9" in message
