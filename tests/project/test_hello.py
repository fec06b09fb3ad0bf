"""The smallest job, tested with the bench: the real batch, retry and ledger, without waiting. Copy it with the job."""

from jobs.hello import Person, hello
from overnight.testing import Bench


def test_everybody_is_greeted(bench: Bench) -> None:
    """Each item has its outcome."""
    assert bench.batch(hello, Person("Ada")).results == {"Ada": f"Good morning Ada, today is {bench.slot}."}
