"""The processes of runs: begun, waited for, asked to end, ended."""

import asyncio
import errno
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from overnight import logs
from overnight.clock import Clock
from overnight.ledger.runs import LEASE
from overnight.liveness import state_of
from overnight.occurrences import Slot

STDERR = 2


@dataclass(slots=True)
class Processes:
    """Those that this process has begun and that have not ended yet, each with its slot and when it began."""

    clock: Clock
    of: dict[asyncio.subprocess.Process, Slot] = field(default_factory=dict)
    begun: dict[asyncio.subprocess.Process, float] = field(default_factory=dict)
    ending: bool = False

    async def run(self, slot: Slot, *arguments: str) -> int:
        """Begin `overnight ARGUMENTS` and wait for its end; its exit code. Raises OSError when it cannot be begun.

        A session of its own: Ctrl-C in the terminal reaches us alone, and we pass it on in order. What it says goes to
        stderr: stdout is for our own answer.
        """
        command = (sys.executable, "-m", "overnight", *arguments)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=STDERR, start_new_session=True
            )
        except RuntimeError as error:  # there is no thread left to wait for it in
            raise OSError(errno.EAGAIN, str(error)) from error
        self.of[process], self.begun[process] = slot, self.clock.monotonic()
        if self.ending:
            process.terminate()
        try:
            return await process.wait()
        except asyncio.CancelledError:  # we end before it does
            _spare(process)
            raise
        finally:
            del self.of[process], self.begun[process]

    def terminate(self) -> None:
        """Ask every one to finish what is in flight, also those that begin just now."""
        self.ending = True
        for process in self.of:
            if process.returncode is None:
                process.terminate()

    def kill(self) -> None:
        """End every one at once, also one that is too busy to listen: what it has recorded stands."""
        for process in self.of:
            if process.returncode is None:
                process.kill()

    def end_hung(self, silent: Mapping[Slot, int], *, only_stopped: bool = False) -> bool:
        """End those whose loop has stood still for the length of a lease: they could not write any more.

        `only_stopped`: those that the kernel says are. Until one has opened its run, the lease of its slot is ours or a
        dead run's: it has a minute for that. Returns whether any was ended.
        """
        hung = [p for p, of in self.of.items() if p.returncode is None and of in silent and self._opened(p, silent[of])]
        ended = [process for process in hung if not only_stopped or _is_stopped(process.pid)]
        for process in ended:
            job, slot = self.of[process]
            logs.get().error("a run was blocked for over a minute and is ended", job=job, slot=slot)
            process.kill()
        return bool(ended)

    def _opened(self, process: asyncio.subprocess.Process, holder: int) -> bool:
        since = self.clock.monotonic() - self.begun.get(process, -math.inf)
        return holder == process.pid or since >= LEASE.total_seconds()


def _spare(process: asyncio.subprocess.Process) -> None:
    """Let it live on: with its loop asyncio ends, and from Python 3.12 on kills, what it has not seen end.

    It may be uploading reports by then, or have a mail half sent, of which nobody would know.
    """
    transport: asyncio.BaseTransport | None = getattr(process, "_transport", None)
    if transport is not None:
        transport.get_extra_info("subprocess").returncode = 0  # that of a process which needs no end


def _is_stopped(pid: int) -> bool:
    """Whether the kernel keeps it from running (SIGSTOP, a debugger)."""
    return state_of(pid) in ("T", "t")


def remedy_of(error: OSError) -> str:
    """What to do when a process could not be begun."""
    if error.errno in (errno.ENOENT, errno.EACCES):
        return f"see to {sys.executable}: install overnight there again, and restart serve"
    return _REMEDIES.get(error.errno or 0, "see to it on this machine")


_FILES = "raise the limit of open files (LimitNOFILE, ulimit -n), or restart serve"
_REMEDIES = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: "make memory free",
    errno.EAGAIN: "raise the limit of processes (TasksMax, ulimit -u), or end some",
}
