"""What all tests share: the event loop, and skips that are not accepted in CI."""

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest

from overnight.mail.outbox import Outbox
from overnight.mail.transport import Letter
from tests.mailcheck import check

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

REQUIRED = tuple(word for word in os.environ.get("OVERNIGHT_TEST_REQUIRE", "").split(",") if word)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop: the engine is written for asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _mails_in_outboxes_are_checked() -> Iterator[None]:
    """Whatever a test is about: each mail that goes into an outbox of this process is one a mailbox would take."""
    deliver = Outbox._deliver

    def checked(self: Outbox, letter: Letter) -> None:
        check(letter.data)
        deliver(self, letter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "_deliver", checked)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test skipped for want of something in OVERNIGHT_TEST_REQUIRE (rclone,moto)."""
    report = yield
    return _unaccepted(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module skipped whole for the same reason."""
    report = yield
    return _unaccepted(report)


def _unaccepted(report: Report) -> Report:
    reason = str(report.longrepr).lower()
    missing = [word for word in REQUIRED if word in reason]
    if report.outcome == "skipped" and missing:
        report.outcome = "failed"
        report.longrepr = f"skipped for want of {', '.join(missing)}, which OVERNIGHT_TEST_REQUIRE asks for: {reason}"
    return report
