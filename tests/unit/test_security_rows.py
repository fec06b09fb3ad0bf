"""Bad input to money, keys, logs and checks of text, one line a row; the numbers are those of the security note.

Its other rows are elsewhere: paths, addresses and arguments of tools (39 to 49, 70 to 72, 77 to 79) in test_tools,
test_tools_web and test_tools_git, a model that obeys in test_injected, answers of a model (73 to 76) in
test_agent_requests, YAML and schedules (27 to 38) in test_schedule_errors, CSV (50, 51) in test_report, keys of files
(57, 58) in conformance/test_storage, headers and addresses (1 to 8, 12 to 14) in test_mail_message, bodies (9 to 11) in
test_mail_message and test_mail_smtp, templates (15 to 18, 24 to 26) in test_mail_templates, what strangers send to
serve (60 to 65, 68) in test_web_public. Templates are the operator's own files, so there are no rows 19 to 23.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from overnight import logs
from overnight.cells import guard
from overnight.errors import OvernightError
from overnight.mail.message import mailbox
from overnight.mail.templates import one_line, safe_url
from overnight.outputs import check_links
from overnight.prompts import fence, suspicious, unfence
from overnight.redact import REDACTED, Redactor
from overnight.retry import retry_after
from overnight.schedule import ScheduleErrors, loads
from tests.slots import ManualClock

# Row 38: an amount is written $10 or $0.50, and nothing else is one.
NO_AMOUNTS = [
    "-1", "-$1", "$-1", "NaN", ".nan", "inf", ".inf", "-.inf", "5 USD", "5", "5.5", "$1e9", "$", "€5", "$ 5", "''",
    "true", "[]", "{}", "$0.0000000001", "$99999999999999999999", "$٣", "0x10", "$1_000",
]  # fmt: skip
PLACES = {
    "budget.per_day": "budget: {{ per_day: {} }}",
    "jobs.good.budget.per_run": "jobs: {{ good: {{ every: 1h, budget: {{ per_run: {} }} }} }}",
    "jobs.good.budget.per_day": "jobs: {{ good: {{ every: 1h, budget: {{ per_day: {} }} }} }}",
    "roles.editor.budget.per_task": (
        "roles: {{ editor: {{ model: [claude-haiku-5-5], budget: {{ per_task: {} }} }} }}"
    ),
}


@pytest.mark.parametrize("amount", NO_AMOUNTS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_amount_is_refused_by_the_name_of_its_field(place: str, amount: str) -> None:
    text = f"version: 1\n{PLACES[place].format(amount)}\n"
    with pytest.raises(ScheduleErrors) as refused:
        loads(text if "jobs:" in text else f"{text}jobs: {{ good: {{ every: 1h }} }}\n", {})
    told = [str(problem).partition("\n")[0] for problem in refused.value.errors]
    assert all(f": error: {place}: " in line for line in told)
    assert len(told) == 1


@pytest.fixture
def log() -> Iterator[Callable[[bool], io.StringIO]]:
    """Start the log, as JSON or as on a terminal."""

    def start(json_lines: bool) -> io.StringIO:
        stream = io.StringIO()
        logs.configure(level="info", stream=stream, redactor=Redactor(), json=json_lines)
        return stream

    yield start
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, logs.Bridge)]:
        root.removeHandler(handler)


class Unprintable:
    """Row 55."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("no")


def _bridge() -> logs.Bridge:
    """The handler of ours: pytest has one, too, which a repr that raises would end."""
    return next(each for each in logging.getLogger().handlers if isinstance(each, logs.Bridge))


# Rows 52 to 56: what is logged, and a part of what must be in the line in its place.
HOSTILE = {
    "52 another line": ('ok\n{"level":"error"}', "ok"),
    "52 a carriage return": ("ok\rerased", "ok"),
    "52 a line separator": ("ok\u2028second\u2029third\x85fourth", "ok"),
    "53 clear the screen": ("\x1b[2Jgone", "[2Jgone"),
    "53 a link of the terminal": ("\x1b]8;;https://evil.example\x07here\x1b]8;;\x07", "here"),
    "53 the title of the window": ("\x1b]0;root#\x07", "]0;root#"),
    "53 C1 and the other direction": ("\x9b31mred\u202eder", "31mred"),
    "54 half a character": ("a\ud800b", "a"),
    "54 the other half": ("\udfffb", "b"),
    "55 a repr that raises": (Unprintable(), "its repr raised RuntimeError"),
    "56 ten megabytes": ("x" * 10_000_000, "[truncated 9992000 characters]"),
    "56 a list without end": (list(range(1_000_000)), "[999900 more]"),
    "NUL": ("a\x00b", "a"),
}
ROUTES: dict[str, Callable[[Any], None]] = {
    "value": lambda what: logs.get().warning("said", value=what),
    "nested": lambda what: logs.get().warning("said", value={"deep": [what]}),
    "library": lambda what: _bridge().handle(logging.LogRecord("x", 30, "x.py", 1, "said %s", ([what],), None)),
    "bound": lambda what: logs.get().bind(who=what).warning("said"),
}


@pytest.mark.parametrize(("what", "kept"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("json_lines", [True, False], ids=["json", "terminal"])
def test_a_hostile_value_is_one_harmless_line(
    log: Callable[[bool], io.StringIO], json_lines: bool, route: str, what: Any, kept: str
) -> None:
    stream = log(json_lines)
    ROUTES[route](what)
    text = stream.getvalue()
    text.encode()
    assert text.count("\n") == len(text.splitlines()) == 1
    assert not set(text[:-1]) & {chr(code) for code in (*range(32), 0x7F, *range(0x80, 0xA0), 0x202E, 0x2028)}
    assert "said" in text
    assert len(text) < 20_000
    if route != "library":  # a library makes a text of it before we see it
        assert kept in text
    if json_lines:
        assert json.loads(text)["level"] == "warning"


# Row 80: a key as it is pasted from a web page or a shell. How it is sent, and that a broken one is not: test_model.
@pytest.mark.parametrize("pasted", ["{}\n", '"{}"', "'{}'", ' "{}"\r\n', "\t{} "])
def test_a_key_that_was_pasted_with_more_than_itself_is_known_by_itself(pasted: str) -> None:
    key = "plain-word-that-no-format-knows"
    text = "version: 1\njobs: { good: { every: 1h } }\n"
    schedule = loads(text, {"ANTHROPIC_API_KEY": pasted.format(key)})
    assert Redactor(schedule.secrets).text(f"x-key {key}.") == f"x-key {REDACTED}."


def _refused(check: Callable[[str], object], text: str) -> None:
    with pytest.raises((ValueError, OvernightError)):
        check(text)


# Row 82: texts that make a careless pattern take the square of their length, or worse. A quadratic one needs hours for
# so much, and this test would never end. The redactor has a test of its own, with more of them.
LONG = 200_000
CHECKS: dict[str, Callable[[str], object]] = {
    "fence": lambda text: unfence(fence(text, "feed", "0" * 32)) == text,
    "no fence": lambda text: _refused(unfence, text),
    "suspicious": suspicious,
    "guard": guard,
    "one_line": one_line,
    "safe_url": safe_url,
    "retry_after": lambda text: retry_after({"retry-after": text, "retry-after-ms": text}, ManualClock()),
    "address": lambda text: _refused(mailbox, f"{text}@"),
}
UNITS = ["a", "<", "<untrusted-", "\u200b", "\ufe01", "=", "1", "http://", "password=", "a@", '"', "\\", " ", "-", ",1"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("unit", UNITS)
def test_a_long_hostile_text_is_looked_at_in_no_time(check: str, unit: str) -> None:
    CHECKS[check](unit * (LONG // len(unit)))


@pytest.mark.parametrize("unit", UNITS)
def test_a_long_answer_is_checked_for_links(unit: str) -> None:
    assert isinstance(check_links(unit * (LONG // len(unit)), {}), list)
