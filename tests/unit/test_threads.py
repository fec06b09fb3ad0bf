"""Work that blocks, in a thread that nobody waits for."""

import asyncio
import subprocess
import sys
import threading

import pytest

from overnight.clock import chance, token
from overnight.threads import OwnThread


async def test_everything_is_done_in_one_thread_and_in_order() -> None:
    thread, loop = OwnThread("own"), asyncio.get_running_loop()
    done: list[int] = []
    found = [loop.run_in_executor(thread, lambda n=n: done.append(n) or threading.current_thread()) for n in range(20)]
    assert {each.name for each in await asyncio.gather(*found)} == {"own"}
    assert done == list(range(20))
    thread.shutdown()


async def test_an_error_reaches_the_one_who_waits_and_the_thread_goes_on() -> None:
    thread, loop = OwnThread("own"), asyncio.get_running_loop()
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(thread, lambda: 1 / 0)
    assert await loop.run_in_executor(thread, int, "7") == 7
    thread.shutdown()


def test_a_process_ends_while_its_thread_hangs() -> None:
    code = """
import asyncio, time
from overnight.threads import OwnThread
async def main():
    try:
        async with asyncio.timeout(0.05):
            await asyncio.get_running_loop().run_in_executor(OwnThread("hangs"), time.sleep, 3600)
    except TimeoutError:
        print("over")
asyncio.run(main())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (process.stdout, process.stderr) == ("over\n", "")


def test_tokens_are_drawn_from_what_is_handed_in_and_else_never_alike() -> None:
    with chance(lambda size: b"\x01" * size):
        assert token(3) == "010101"
    assert token(16) != token(16)
