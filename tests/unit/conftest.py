"""A clock and a ledger for each test that asks; one with more in it has a fixture of its own by that name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from overnight.ledger import Ledger
from tests.slots import ManualClock, open_ledger


@pytest.fixture
def clock() -> ManualClock:
    """A clock whose sleeps take no time."""
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[Ledger]:
    """An empty ledger, by that clock."""
    opened = open_ledger(tmp_path, clock)
    yield opened
    opened.close()
