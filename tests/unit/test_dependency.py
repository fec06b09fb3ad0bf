"""Other sides that are asked once a night: repeated a little, then left alone by every process."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from overnight.dependency import Dependencies, dependencies
from overnight.errors import Deferred, Permanent, Transient
from tests.slots import ManualClock, open_ledger


class Side:
    """A server that does what it is told and counts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def down(code: str = "unreachable", after: float | None = None) -> Transient:
    return Transient("nobody is there", code=code, after=after)


@pytest.mark.parametrize(("name", "attempts"), [("s3:minio.example.org", 3), ("feed:news.example.org", 2)])
async def test_a_side_that_is_down_is_asked_as_often_as_agreed_and_then_not_at_all(name: str, attempts: int) -> None:
    side, others = Side(*[down()] * 10), Dependencies({}, ManualClock())
    with pytest.raises(Transient, match="nobody is there"):
        await others.of(name).call(side)
    assert side.asked == attempts
    with pytest.raises(Deferred, match="has failed too often: not asked for"):
        await others.of(name).call(side)
    assert side.asked == attempts


async def test_what_recovers_in_time_is_a_success_and_opens_nothing() -> None:
    clock = ManualClock()
    others = Dependencies({}, clock)
    for _ in range(5):
        clock.move(60)  # more than half of ten calls within a minute would open it
        side = Side(down(), down())
        assert await others.of("s3:minio.example.org").call(side) == "answer"
        assert side.asked == 3


async def test_a_refusal_is_no_failure_of_the_side_and_is_not_repeated() -> None:
    side, others = Side(*[Permanent("no", code="s3_403")] * 10), Dependencies({}, ManualClock())
    for _ in range(10):
        with pytest.raises(Permanent):
            await others.of("s3:minio.example.org").call(side)
    assert side.asked == 10


async def test_a_failed_probe_tells_what_is_wrong_and_not_only_that_the_circuit_is_open() -> None:
    clock = ManualClock()
    side, others = Side(*[down()] * 10), Dependencies({}, clock)
    with pytest.raises(Transient):
        await others.of("feed:news.example.org").call(side)
    clock.move(70)
    with pytest.raises(Deferred, match=r"nobody is there; feed:news\.example\.org .* not asked for") as caught:
        await others.of("feed:news.example.org").call(side)
    assert (caught.value.code, side.asked) == ("unreachable", 3)


async def test_a_wait_that_was_asked_for_holds_the_next_caller_too() -> None:
    clock = ManualClock()
    others = Dependencies({}, clock)
    with pytest.raises(Deferred, match="asked to wait"):
        await others.of("feed:news.example.org").call(Side(down("http_429", after=600)))
    with pytest.raises(Deferred, match="asked to wait another"):
        await others.of("feed:news.example.org").call(Side())
    clock.move(601)
    assert await others.of("feed:news.example.org").call(Side()) == "answer"


async def test_a_process_that_never_failed_itself_leaves_the_side_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    first, second = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock)
    with pytest.raises(Transient):
        await Dependencies({}, clock, first).of("s3:minio.example.org").call(Side(*[down()] * 3))
    side = Side()
    with pytest.raises(Deferred, match="has failed too often"):
        await Dependencies({}, clock, second).of("s3:minio.example.org").call(side)
    assert await Dependencies({}, clock, second).of("s3:other.example.org").call(side) == "answer"
    first.close()
    second.close()


async def test_a_rate_for_feeds_holds_for_each_host_by_itself() -> None:
    @dataclass(frozen=True)
    class Rate:
        count: int = 1
        per: int = 20

    clock = ManualClock()
    others = Dependencies({"feed": {"requests": Rate()}}, clock)
    for host in ("news.example.org", "other.example.org"):
        await others.of(f"feed:{host}").call(Side(), requests=1)
    assert clock.monotonic() < 1
    await others.of("feed:news.example.org").call(Side(), requests=1)
    assert clock.monotonic() >= 20


async def test_within_a_run_its_other_sides_are_used_and_outside_of_one_none_is_shared() -> None:
    others = Dependencies({}, ManualClock())
    with others.in_use():
        assert dependencies() is others
    assert dependencies() is not dependencies()
