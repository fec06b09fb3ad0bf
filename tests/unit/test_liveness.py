"""Who is alive: a lock dies with its process, a lease runs out, and nothing can stick."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from overnight import liveness
from overnight.errors import Fenced, Refused
from overnight.ledger.tables import lease
from overnight.ledger.turn import turn
from overnight.liveness import HOST, ask_to_end, is_dead, kept_lease, slot_lock
from tests.slots import NOW, SLOT, ManualClock, begin, open_ledger, rows

LATER = NOW + timedelta(seconds=30)
HOLDING = """
import sys, time
from pathlib import Path
from overnight.liveness import slot_lock
with slot_lock(Path(sys.argv[1]), "greet", "2026-11-22"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(root: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def dead(root: Path, pid: int, host: str = HOST, until: timedelta = timedelta(seconds=30)) -> bool:
    return is_dead(root, {"job": "greet", "slot": SLOT, "host": host, "pid": pid, "until": NOW + until}, NOW)


def test_a_slot_is_locked_once_and_free_again_afterwards(tmp_path: Path) -> None:
    with slot_lock(tmp_path, "greet", SLOT):
        with pytest.raises(Refused, match="greet 2026-11-22 is being run by another process"), _locked(tmp_path, SLOT):
            pass
        with _locked(tmp_path, "2026-11-23"):
            pass
    with _locked(tmp_path, SLOT):
        pass


def test_a_slot_leaves_no_file_behind_and_one_that_woke_takes_none_from_its_heir(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "locks"
    with _locked(tmp_path, SLOT), _locked(tmp_path, "2026-11-23"):
        assert len([*folder.glob("*.lock")]) == 2
    assert [path.name for path in folder.iterdir()] == ["turn"]
    assert dead(tmp_path, 2**22 + 1), "to ask leaves none either"
    woken = _locked(tmp_path, SLOT)
    woken.__enter__()
    with slot_lock(tmp_path, "greet", SLOT, lambda _pid: True):
        woken.__exit__(None, None, None)
        with pytest.raises(Refused), _locked(tmp_path, SLOT):
            pass
    assert [path.name for path in folder.iterdir()] == ["turn"]


def test_of_many_who_want_a_slot_at_once_one_has_it_at_a_time(tmp_path: Path) -> None:
    inside = tmp_path / "inside"

    def want(_number: int) -> int:
        times = 0
        for _ in range(100):
            try:
                with _locked(tmp_path, SLOT):
                    inside.touch(exist_ok=False)
                    inside.unlink()
                    times += 1
            except Refused:
                continue
        return times

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(want, range(6))) > 0


def _locked(root: Path, slot: str) -> AbstractContextManager[None]:
    return slot_lock(root, "greet", slot)


@pytest.mark.slow
def test_a_lock_dies_with_kill_9_of_its_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(Refused), _locked(tmp_path, SLOT):
            pass
        assert not dead(tmp_path, process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert dead(tmp_path, process.pid)
        with _locked(tmp_path, SLOT):
            pass


def test_a_process_that_got_the_dead_ones_number_holds_the_slot_up_for_a_minute_at_most(tmp_path: Path) -> None:
    assert not dead(tmp_path, os.getppid())
    assert dead(tmp_path, os.getppid(), until=timedelta(0))
    assert dead(tmp_path, os.getppid(), until=timedelta(hours=2)), "nor for longer, if the clock was ahead"
    with _locked(tmp_path, SLOT):
        assert not dead(tmp_path, os.getppid(), until=timedelta(hours=2)), "who lives has the lock, whatever the clock"


def test_a_scheduler_between_its_claim_and_its_childs_start_is_alive(tmp_path: Path) -> None:
    assert not dead(tmp_path, os.getpid())


def test_an_owner_on_another_machine_is_dead_when_its_lease_has_run_out(tmp_path: Path) -> None:
    gone = 2**22 + 1  # beyond the highest number a process can have
    assert not dead(tmp_path, gone, host="elsewhere")
    assert dead(tmp_path, gone, host="elsewhere", until=timedelta(0))
    assert dead(tmp_path, gone)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process does")
def test_an_owner_that_was_killed_and_is_not_waited_for_yet_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert dead(tmp_path, process.pid)


@pytest.mark.slow
def test_only_the_holder_of_the_lock_is_asked_to_end(tmp_path: Path) -> None:
    assert ask_to_end(tmp_path, job="greet", slot=SLOT, host=HOST) == 0, "the run has not begun"
    with holder(tmp_path) as process:
        assert ask_to_end(tmp_path, job="greet", slot=SLOT, host="elsewhere") == 0
        assert ask_to_end(tmp_path, job="greet", slot=SLOT, host=HOST) == process.pid, "whatever the lease says"
        assert process.wait(30) == -signal.SIGINT


async def test_a_lease_is_renewed_while_the_loop_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "RENEW_EVERY", 0.005)
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    scope = begin(ledger)
    clock.move(30)
    async with kept_lease(ledger, scope, clock, lambda _error: None):
        await _until(lambda: rows(ledger, lease)[0]["until"] == LATER + timedelta(seconds=60))
    ledger.close()


async def test_who_has_lost_the_slot_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "RENEW_EVERY", 0.005)
    ledger = open_ledger(tmp_path, ManualClock())
    scope = begin(ledger)
    lost: list[Fenced] = []
    async with kept_lease(ledger, scope, ledger.clock, lost.append):
        begin(ledger)
        await _until(lambda: bool(lost))
    assert "another process has taken over" in str(lost[0])
    ledger.close()


async def test_a_ledger_that_was_locked_for_a_while_does_not_end_the_renewals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "RENEW_EVERY", 0.005)
    clock = ManualClock()
    ledger = open_ledger(tmp_path, clock)
    scope = begin(ledger)
    await ledger.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=10"))
    async with kept_lease(ledger, scope, clock, lambda _error: None):
        with ledger.engine.begin():
            await asyncio.sleep(0.05)
        clock.move(30)
        await _until(lambda: rows(ledger, lease)[0]["until"] == LATER + timedelta(seconds=60))
    ledger.close()


@contextmanager
def keeping(file: Path) -> Iterator[None]:
    """Somebody who holds the lock of this file and does nothing more, as a stopped process would."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def test_a_stopped_process_that_keeps_the_turn_is_named_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "TURN_SECONDS", 0.05)
    with _locked(tmp_path, SLOT):
        pass
    with keeping(tmp_path / "var/locks/turn"):
        with pytest.raises(Refused, match="var/locks/turn"), _locked(tmp_path, SLOT):
            pass
        with pytest.raises(Refused, match="probably stopped"):
            dead(tmp_path, os.getpid())
    with _locked(tmp_path, SLOT):
        pass


def test_a_ledger_goes_on_without_its_turn_when_a_stopped_process_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overnight.ledger.TURN_SECONDS", 0.05)
    with keeping(tmp_path / "ledger.db-turn"):
        ledger = open_ledger(tmp_path, ManualClock())
        begin(ledger)
    begin(ledger)
    assert rows(ledger, lease)[0]["fence"] == 2
    ledger.close()


def test_who_waits_for_a_turn_gets_it_when_the_other_one_lets_go(tmp_path: Path) -> None:
    def wait() -> bool:
        with turn(tmp_path / "turn", 30) as mine:
            return mine

    with ThreadPoolExecutor() as pool, turn(tmp_path / "turn", 0) as first:
        waiting = pool.submit(wait)
        with turn(tmp_path / "turn", 0.01) as second:
            assert (first, second, waiting.done()) == (True, False, False)
    assert waiting.result()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for is a row
            await asyncio.sleep(0.005)
