"""What an item raises decides what becomes of it, and of it alone."""

import asyncio
from typing import Any

import pytest

from overnight import Run, job
from overnight.batch import Picked
from overnight.errors import (
    ConfigError,
    Deferred,
    Downstream,
    Invalid,
    Permanent,
    Refused,
    Skip,
    Stop,
    Transient,
    Unknown,
)
from overnight.outcome import Scope
from tests.unit.batch.conftest import Slot, raising


class Odd(BaseException):
    """What a library keeps out of Exception."""


@pytest.mark.parametrize(
    ("error", "state", "error_class", "code"),
    [
        (Skip("no news"), "skipped", None, None),
        (Transient("503", code="http_503"), "retry", "transient", "http_503"),
        (Deferred("later", after=7200), "retry", "transient", "deferred"),
        (Deferred("tomorrow", after=100_000), "failed", "transient", "deferred"),
        (TimeoutError(), "retry", "transient", "timeout"),
        (Permanent("no such user", code="smtp_550"), "failed", "permanent", "smtp_550"),
        (Invalid("not the shape"), "failed", "invalid", "invalid"),
        (Downstream("the CRM refused"), "failed", "downstream", "downstream"),
        (Unknown("lost after DATA"), "unknown", None, "unknown"),
        (ValueError("oops"), "failed", "bug", "ValueError"),
        (KeyError("name"), "failed", "bug", "KeyError"),
        (MemoryError(), "failed", "bug", "MemoryError"),
        (RecursionError("deep"), "failed", "bug", "RecursionError"),
        (StopIteration(), "failed", "bug", "RuntimeError"),
        (asyncio.CancelledError(), "failed", "bug", "CancelledError"),
        (SystemExit(1), "failed", "bug", "SystemExit"),
        (Odd("strange"), "failed", "bug", "Odd"),
        (ExceptionGroup("two", [ValueError(), OSError()]), "failed", "bug", "ExceptionGroup"),
        (OSError(28, "No space left on device"), "failed", "bug", "OSError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else value,
)
async def test_what_an_item_raises_decides_what_becomes_of_it_and_of_it_alone(
    here: Slot, error: BaseException, state: str, error_class: str | None, code: str | None
) -> None:
    batch = await here.work(raising(ill=error))
    assert here.states == {"ill": state, "well": "ok"}
    ill = here.one("ill")
    assert (ill["error_class"], ill["error_code"]) == (error_class, code)
    assert [bug.key for bug in batch.bugs] == (["ill"] if error_class == "bug" else [])
    assert batch.stopped is None
    assert here.one("well")["result"] == '"hello well"'


@pytest.mark.parametrize(
    "error", [Stop("the key is refused"), ConfigError("no such role"), Refused("the budget is spent")]
)
async def test_what_concerns_the_whole_run_leaves_the_rest_pending(here: Slot, error: BaseException) -> None:
    batch = await here.work(raising(first=error, second=error), concurrency=1)
    assert here.states == dict.fromkeys(["first", "second", "well"], "pending")
    assert str(batch.stopped) == str(error)
    assert here.told == []


async def test_a_result_that_is_no_json_is_a_bug_of_its_item(here: Slot) -> None:
    @job(items=lambda _run: ["ill", "well"])
    async def greet(name: str, run: Run) -> Any:
        return object() if name == "ill" else name

    await here.work(greet)
    assert here.states == {"ill": "failed", "well": "ok"}
    assert here.one("ill")["error_class"] == "bug"


async def test_secrets_in_errors_do_not_reach_the_ledger(here: Slot) -> None:
    batch = here.batch(raising(ill=ValueError("key sk-123 refused")))
    batch.redact = lambda text: text.replace("sk-123", "[secret]")
    await batch.plan()
    await batch.work(Picked())
    assert here.one("ill")["error"] == "ValueError: key [secret] refused"


def test_a_scope_names_its_task() -> None:
    assert Scope("greet", "2026-11-22", "ann", "r_1").task_id == "greet/2026-11-22/ann"
