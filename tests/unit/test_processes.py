"""The processes of runs, and their scheduler."""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

import pytest

from overnight.clock import SystemClock
from overnight.processes import Processes


async def test_a_run_that_has_not_ended_lives_on_when_its_scheduler_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun, killed = asyncio.create_subprocess_exec, asyncio.Queue[asyncio.subprocess.Process](), []

    async def process(*_command: str, **settings: Any) -> asyncio.subprocess.Process:
        one = await begin("sleep", "60", **settings)
        begun.put_nowait(one)
        return one

    monkeypatch.setattr(asyncio, "create_subprocess_exec", process)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda popen: killed.append(popen.pid))
    following = asyncio.create_task(Processes(SystemClock()).run(("daily", "2026-11-22"), "run", "daily"))
    left = await begun.get()
    await asyncio.sleep(0)  # it is waited for
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    left._transport.close()  # as Python 3.12 does when it has ended the loop
    assert killed == []
    os.kill(left.pid, signal.SIGKILL)
    await left.wait()
