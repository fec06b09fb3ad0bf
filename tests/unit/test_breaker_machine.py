"""Breakers against a plain model of them, and over two ledgers and processes: of a hundred callers one probes."""

import asyncio
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from overnight.breaker import Breakers, Permit, Policy
from overnight.errors import Deferred
from overnight.ledger import Ledger
from tests.slots import ManualClock, open_ledger
from tests.unit.test_breaker import opened, tried


class Moving(ManualClock):
    """A clock whose chance is its own, too."""

    chance = 0.5

    def random(self) -> float:
        return self.chance


@dataclass
class Model:
    """What a breaker of one process should do, written as plainly as possible."""

    calls: list[tuple[float, bool]] = field(default_factory=list)
    in_a_row: int = 0
    open_until: float | None = None
    times: int = 0
    generation: int = 0
    probe: tuple[str, float] | None = None  # who, until

    def full(self, now: float) -> bool:
        recent = [failed for at, failed in self.calls if int(at) > int(now) - 60]
        return self.in_a_row >= 5 or (len(recent) >= 10 and sum(recent) * 2 >= len(recent))

    def open(self, now: float, chance: float) -> None:
        self.times += 1
        self.generation += 1
        self.open_until = now + min(600, 60 * 2 ** (self.times - 1)) * (1 + chance / 10)
        self.calls, self.in_a_row, self.probe = [], 0, None

    def close(self) -> None:
        self.open_until, self.probe, self.times = None, None, 0
        self.generation += 1

    def lets_through(self, now: float) -> bool:
        return self.open_until is None or now >= (self.probe[1] if self.probe else self.open_until)


class BreakerMachine(RuleBasedStateMachine):
    """Callers that come, end in any way and any order, while time passes."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Moving()
        self.breaker = Breakers(self.clock).of("api")
        self.model = Model()

    def teardown(self) -> None:
        self.loop.close()

    @rule(target=permits)
    def ask(self) -> Permit | None:
        now = self.clock.monotonic()
        if not self.model.lets_through(now):
            with pytest.raises(Deferred) as refused:
                self.loop.run_until_complete(self.breaker._permit())
            assert 0 < (refused.value.after or 0) <= 660
            return None
        permit = self.loop.run_until_complete(self.breaker._permit())
        assert permit.generation == self.model.generation
        assert (permit.probe is not None) == (self.model.open_until is not None)
        if permit.probe is not None:
            self.model.probe = (permit.probe, now + 60)
        return permit

    @rule(permit=consumes(permits), success=st.sampled_from([True, False, False, None]), chance=st.floats(0, 0.999))
    def end(self, permit: Permit | None, success: bool | None, chance: float) -> None:
        if permit is None:
            return
        self.clock.chance = chance
        now, model = self.clock.monotonic(), self.model
        if permit.generation == model.generation:
            self.judge(permit, success, now)
        self.loop.run_until_complete(self.breaker.report(permit, success))

    def judge(self, permit: Permit, success: bool | None, now: float) -> None:
        model = self.model
        if permit.probe is None and success is not None:
            model.calls.append((now, not success))
            model.in_a_row = 0 if success else model.in_a_row + 1
            if not success and model.full(now):
                model.open(now, self.clock.chance)
        elif permit.probe is not None and model.open_until is not None:
            if success and model.probe is not None:
                model.close()
            elif model.probe and model.probe[0] == permit.probe and success is False:
                model.open(now, self.clock.chance)
            elif model.probe and model.probe[0] == permit.probe:
                model.probe = None

    @rule(count=st.integers(1, 12), successes=st.integers(0, 6))
    def a_row(self, count: int, successes: int) -> None:
        for number in range(count):
            permit = self.ask()
            self.end(permit, number < successes, 0.5)

    @rule(seconds=st.sampled_from([0.001, 0.9, 1.0, 10.0, 59.0, 60.0, 61.0, 67.0, 131.0, 661.0]))
    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)

    @invariant()
    def open_or_closed_as_the_model(self) -> None:
        heard = self.breaker._circuit
        if heard.generation < 0:  # before the first call
            return
        assert (heard.state == "closed") == (self.model.open_until is None)
        assert heard.generation == self.model.generation


def test_it_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        BreakerMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )


async def probes_of(breakers: Breakers, callers: int, sent: list[int]) -> int:
    """Let many ask at once, with a probe that takes a moment; returns how many were deferred."""

    async def probe() -> None:
        sent.append(1)
        await asyncio.sleep(0.3)

    endings = await asyncio.gather(*(tried(breakers.of("api"), probe) for _ in range(callers)))
    return endings.count("deferred")


def test_of_a_hundred_callers_with_two_ledgers_one_probes(tmp_path: Path) -> None:
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    asyncio.run(opened(Breakers(clock, ledger).of("api")))
    ledger.close()
    clock.move(70)
    sent: list[int] = []
    deferred: list[int] = []
    barrier = threading.Barrier(2)

    def process() -> None:
        own = open_ledger(tmp_path, clock)
        barrier.wait()
        deferred.append(asyncio.run(probes_of(Breakers(clock, own), 50, sent)))
        own.close()

    threads = [threading.Thread(target=process) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(sent), sum(deferred)) == (1, 99)


PROCESS = """
import asyncio, sys
from pathlib import Path
from overnight.breaker import Breakers, Policy
from overnight.clock import SystemClock
from overnight.errors import Deferred
from overnight.ledger import Ledger

folder, number = Path(sys.argv[1]), sys.argv[2]
ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
breaker = Breakers(SystemClock(), ledger, policy=Policy(open_for=0.1)).of("api")

async def caller():
    try:
        async with breaker.guard():
            with (folder / "probes").open("a") as log:
                log.write("sent\\n")
            await asyncio.sleep(2)
    except Deferred:
        return 1
    return 0

async def main():
    (folder / f"ready{number}").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.001)
    print(sum(await asyncio.gather(*(caller() for _ in range(50)))))

asyncio.run(main())
ledger.close()
"""


@pytest.mark.slow
def test_of_a_hundred_callers_in_two_processes_one_probes(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    asyncio.run(opened(Breakers(ledger.clock, ledger, policy=Policy(open_for=0.1)).of("api")))
    ledger.close()
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    while not all((tmp_path / f"ready{number}").exists() for number in range(2)):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    deferred = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert (tmp_path / "probes").read_text() == "sent\n"
    assert sum(deferred) == 99
