"""Logs: the shape of a line, nothing secret in it, and nothing that breaks the job."""

import asyncio
import io
import json
import logging
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from overnight import Run, job, logs
from overnight.batch import Batch, Picked
from overnight.errors import ConfigError
from overnight.jobs import Options
from overnight.redact import REDACTED, Redactor
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, run_in

CANARY = "canary-7Q2xV9-value"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Claim so."""
        return True


class Unprintable:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError(CANARY)


class Revealing:
    """An object whose repr holds a secret."""

    def __repr__(self) -> str:
        """Reveal it."""
        return f"<Client {CANARY}>"


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Whatever a test configures is undone."""
    root = logging.getLogger()
    level, levels = root.level, {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.setLevel(level)
    for name, each in levels.items():
        logging.getLogger(name).setLevel(each)
    for handler in [h for h in root.handlers if isinstance(h, logs.Bridge)]:
        root.removeHandler(handler)


def configured(stream: io.StringIO | None = None, *, level: str = "info", **options: Any) -> io.StringIO:
    """Send logs into a stream of ours, with a known secret."""
    stream = stream or io.StringIO()
    logs.configure(level=level, stream=stream, redactor=Redactor([CANARY]), **options)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_keys_come_in_one_order_and_the_time_is_utc_with_milliseconds() -> None:
    stream = configured()
    values = {"zebra": 1, "duration": 1.5, "cost": 0.1, "tokens": 9, "status": "ok", "model": "m", "role": "r"}
    logs.get().info("task end", **values, worker_id="w", run_id="r_1", task_id="t")
    [line] = lines(stream)
    assert list(line) == ["timestamp", "level", "message", *logs.FIRST, "zebra"]
    assert line["timestamp"].endswith("Z")
    assert len(line["timestamp"]) == len("2026-11-22T02:31:07.412Z")
    assert (line["level"], line["message"]) == ("info", "task end")


def test_an_authors_own_message_field_is_kept_beside_the_event() -> None:
    stream = configured()
    logs.get().info("event", message="mine")
    assert [(line["message"], line["message_"]) for line in lines(stream)] == [("event", "mine")]


@pytest.mark.parametrize(
    ("level", "written"), [("debug", 5), ("INFO", 4), ("Warning", 3), ("error", 2), ("critical", 1)]
)
def test_the_level_is_respected_by_ours_and_by_the_standard_library(level: str, written: int) -> None:
    stream = configured(level=level)
    for log in (logs.get(), logging.getLogger("jobs.mine")):
        for name in logs.LEVELS:
            getattr(log, name)("x")
    assert [line["level"] for line in lines(stream)] == list(logs.LEVELS[-written:]) * 2


def test_an_unknown_level_is_an_error_that_lists_the_levels() -> None:
    with pytest.raises(ConfigError, match="LOG_LEVEL is 'loud'; use one of debug, info, warning, error, critical"):
        configured(level="loud")


async def test_bound_values_follow_into_tasks_and_end_with_the_block() -> None:
    stream = configured()
    log = logs.get()

    async def item(number: int) -> None:
        with logs.bound(task_id=number):
            await asyncio.sleep(0)
            log.info("in")

    with logs.bound(run_id="r_1"):
        await asyncio.gather(item(1), item(2))
    log.info("out")
    assert [(line.get("run_id"), line.get("task_id")) for line in lines(stream)] == [
        ("r_1", 1),
        ("r_1", 2),
        (None, None),
    ]


async def test_whatever_is_said_while_an_item_is_worked_on_bears_its_id(tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        run.log.info("an edition is made")
        return "news"

    @job(items=lambda _run: ["first", "second"])
    async def greet(name: str, run: Run) -> None:
        await run.once(edition)
        run.log.info("of the job", name=name)
        logging.getLogger("library").warning("of a library")

    stream, ledger = configured(level="info"), open_ledger(tmp_path, ManualClock())
    scope = begin(ledger)
    batch = Batch(greet, run_in(ledger, scope, tmp_path), Options(), expires_at=NOW + timedelta(days=1))
    await batch.plan()
    await batch.work(Picked())
    ledger.close()
    told = lines(stream)
    for name in ("first", "second"):
        mine = [line for line in told if line.get("task_id") == f"greet/{SLOT}/{name}"]
        assert [line["message"] for line in mine] == ["task started", "of the job", "of a library", "task ended"]
        assert {line["run_id"] for line in mine} == {scope.run_id}
    assert [line["task_id"] for line in told if line["message"] == "an edition is made"] == [
        f"greet/{SLOT}/once:edition"
    ]


def test_the_standard_library_gets_the_context_too() -> None:
    stream = configured()
    with logs.bound(run_id="r_1"):
        logging.getLogger("aiosmtplib").warning("lost %s", "connection")
    [line] = lines(stream)
    assert (line["run_id"], line["message"], line["logger"]) == ("r_1", "lost connection", "aiosmtplib")


def test_chatty_libraries_are_heard_below_warning_only_when_debugging() -> None:
    stream = configured(level="info")
    logging.getLogger("apscheduler.scheduler").info("Added job")
    assert lines(stream) == []
    configured(stream, level="debug")
    logging.getLogger("apscheduler.scheduler").info("Added job")
    assert [line["message"] for line in lines(stream)] == ["Added job"]


def test_configuring_again_replaces_and_does_not_double() -> None:
    first, second = configured(), configured()
    logging.getLogger("x").warning("once")
    logs.get().info("once")
    assert (len(lines(first)), len(lines(second))) == (0, 2)


def test_warnings_become_lines() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old call", UserWarning, stacklevel=1)
    [line] = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "old call" in line["message"]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_secret_appears_nowhere(stream: type[io.StringIO], tmp_path: Path) -> None:
    file = tmp_path / "log" / "overnight.jsonl"
    out = configured(stream(), level="debug", file=file)
    log, foreign = logs.get(), logging.getLogger("botocore")
    with logs.bound(context=CANARY):
        log.info(CANARY, value=CANARY, nested={"a": [CANARY]}, path=Path("/x") / CANARY, object=Revealing())
        log.info("x", raw=CANARY.encode(), long="x" * (logs.LONGEST - 5) + CANARY + "y" * 99_999, **{CANARY: 1})
        foreign.debug("%s %r", CANARY, {"Authorization": CANARY})
        try:
            _fail(CANARY)
        except ValueError:
            log.exception("failed", error=sys.exception())
            foreign.exception("failed too")
    text = out.getvalue() + file.read_text()
    assert CANARY not in text
    assert CANARY[:10] not in text
    assert text.count(REDACTED) > 10


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_shows_lines_but_no_locals(stream: type[io.StringIO]) -> None:
    out = configured(stream())
    try:
        _fail("no")
    except ValueError:
        logs.get().exception("failed")
    assert "Traceback" in out.getvalue()
    assert "ValueError" in out.getvalue()
    assert "local-value" not in out.getvalue()


def test_a_value_with_newlines_stays_one_line() -> None:
    hostile = 'a\nb\r\n{"level":"info"}\u2028c\x85d'
    for kind in (io.StringIO, Terminal):
        stream = configured(kind())
        logs.get().info(hostile, value=hostile)
        assert len(stream.getvalue().splitlines()) == 1


def test_a_terminal_never_receives_a_foreign_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = configured(Terminal())
    hostile = "\x1b[2Jgone\x07\x9b31m\u202egnp.exe\r\b"
    try:
        _fail(hostile)
    except ValueError:
        logs.get().exception(hostile, value=hostile, **{hostile: [hostile]})
    assert not set(stream.getvalue()) & set("\x1b\x07\x9b\u202e\r\b")
    assert "\\x1b[2Jgone" in stream.getvalue()


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = configured(Terminal())
    logs.get().warning("hot", task_id="t 1", n=2)
    pipe = configured(io.StringIO(), json=False)
    logs.get().warning("hot", task_id="t 1", n=2)
    assert "\x1b[33m" in terminal.getvalue()
    assert pipe.getvalue()[8:] == 'Z warning  hot  task_id="t 1"  n=2\n'


def test_json_can_be_asked_for_on_a_terminal() -> None:
    stream = configured(Terminal(), json=True)
    logs.get().info("x")
    assert lines(stream)[0]["message"] == "x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Unprintable(), "<Unprintable: its repr raised RuntimeError>"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (10**400, "<int of 1329 bits>"),
        (Decimal("0.10"), "Decimal('0.10')"),
        ("\ud800x", "\\ud800x"),
        (b"\xffab", "\\xffab"),
        ({1}, [1]),
        ({("a",): "\x00"}, {"('a',)": "\x00"}),
        (Path("/a/b"), "/a/b"),
        (ValueError("no"), "no"),
    ],
)
def test_any_value_has_a_form_in_json(value: Any, shown: Any) -> None:
    stream = configured()
    logs.get().info("x", value=value)
    assert lines(stream)[0]["value"] == shown


def test_a_huge_value_is_cut_and_says_how_much_is_gone() -> None:
    stream = configured()
    logs.get().info("x" * 10_000_000, many=list(range(1000)), deep=_nested(50), wide={str(n): n for n in range(1000)})
    [line] = lines(stream)
    assert line["message"].endswith(f"… [truncated {10_000_000 - logs.LONGEST} characters]")
    assert line["many"][-1] == line["wide"]["…"] == "[900 more]"
    assert "nested too deep" in json.dumps(line["deep"])
    assert len(stream.getvalue()) < 3 * logs.LONGEST


@pytest.mark.parametrize("gap", [1, 5, 18, 3_000, 4_100, 9_000])
def test_the_cut_never_leaves_half_a_secret(gap: int) -> None:
    stream = configured()
    for place in range(logs.LONGEST - 25, logs.LONGEST + 5):
        logs.get().info("x", value="x" * place + CANARY + "y" * gap)
        logs.get().info("x", value=CANARY * 300 + "x" * place + CANARY * 300)
    assert CANARY[:6] not in stream.getvalue()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats() | st.text() | st.binary(), st.lists)))
def test_any_event_is_one_valid_line(values: dict[str, Any]) -> None:
    """Warnings have no place here: one about what another test left open would be a third line, whenever it comes."""
    stream = configured()
    logging.captureWarnings(False)
    logging.getLogger("x").warning("x", extra=None)
    logs.get().info("x", nested=values)
    assert [line["message"] for line in lines(stream)] == ["x", "x"]
    stream.getvalue().encode()


def test_a_record_whose_arguments_do_not_fit_is_still_written() -> None:
    stream = configured()
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%d items of %s", ("many",), None)
    [bridge] = [each for each in logging.getLogger().handlers if isinstance(each, logs.Bridge)]
    bridge.handle(record)
    assert lines(stream)[0]["message"] == "%d items of %s ('many',)"


def test_a_closed_stream_ends_logging_and_not_the_job() -> None:
    stream = configured()
    stream.close()
    logs.get().info("x")


def test_a_terminal_without_the_letters_gets_them_spelt_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    logs.configure(level="info", stream=stream, redactor=Redactor(), json=False)
    logs.get().info("Zoë ✓")
    assert b"Zo\\xeb \\u2713" in raw.getvalue()


def test_a_reader_that_goes_away_does_not_change_the_exit_code() -> None:
    code = """
import sys
from overnight import logs
from overnight.redact import Redactor
logs.configure(level="info", stream=sys.stderr, redactor=Redactor())
sys.stdin.readline()
for n in range(5):
    logs.get().info("x" * 5000, n=n)
print("finished")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    out, _ = process.communicate(b"go\n", timeout=30)
    assert (out, process.returncode) == (b"finished\n", 0)


def test_the_file_receives_json_lines_beside_the_stream_and_is_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "var" / "log" / "overnight.jsonl"
    for number in range(2):
        stream = configured(Terminal(), file=file)
        logs.get().info("x", number=number)
        assert "number=" in stream.getvalue()
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [0, 1]


@pytest.mark.slow
def test_processes_that_share_the_file_never_mix_their_lines(tmp_path: Path) -> None:
    code = """
import io, sys
from pathlib import Path
from overnight import logs
from overnight.redact import Redactor
logs.configure(level="info", stream=io.StringIO(), redactor=Redactor(), file=Path(sys.argv[1]))
for n in range(300):
    logs.get().info("x" * 7000, n=n)
"""
    file = tmp_path / "shared.jsonl"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 900


def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"overnight\.jsonl cannot be written .*; make its folder writable"):
        configured(file=tmp_path / "var" / "overnight.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110  a device, at import
def test_a_full_disk_loses_the_line_and_not_the_job() -> None:
    stream = configured(file=Path("/dev/full"))
    logs.get().info("x")
    assert len(lines(stream)) == 1


def test_unconfigured_logging_is_silent_below_warning_and_keeps_off_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log = logs.get()
    log.info("quiet")
    log.warning("loud", password="x")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["message"] for line in captured.err.splitlines()] == ["loud"]
    assert REDACTED in captured.err


def _fail(message: str) -> None:
    unknown_to_the_redactor = "local" + "-value"
    raise ValueError(message, len(unknown_to_the_redactor))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
