"""The command, whose runs are forks of a process that has the engine loaded: hundreds of them take seconds.

Usage: schedulers.py COMMAND...; `serve` and `tick` are the real ones, and so is each run, in a process of its own with
its own ledger, locks and leases. Only how that process is made differs: a fork, where the engine starts an interpreter.
"""

import asyncio
import multiprocessing
import sys
from collections.abc import Sequence

from overnight.cli import main
from overnight.dispatcher import Dispatcher

LOADED = ["overnight.cli.run", "overnight.dispatcher", "overnight.project", "sqlalchemy.dialects.sqlite"]


async def fork(self: Dispatcher, job: str, slot: str, arguments: Sequence[str]) -> None:
    """Start a run as the dispatcher would, and wait for it."""
    command = ["--config", str(self.work.file), "run", job, "--yes", *arguments]
    process = multiprocessing.get_context("forkserver").Process(target=main, args=(command,))
    process.start()
    await asyncio.to_thread(process.join)
    self.codes.append(process.exitcode or 0)


if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(LOADED)
    Dispatcher._child = fork  # type: ignore[method-assign]
    main(sys.argv[1:])
