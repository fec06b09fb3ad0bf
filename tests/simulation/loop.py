"""An event loop on virtual time, with processes that can be killed.

Nothing waits: when nobody has anything to do, the clock jumps to the next timer. What blocks (`run_in_executor`) is
done at once. A process is a tree of tasks; to kill it, its tasks are cancelled while every port refuses its calls, so
that what its `finally` blocks do reaches nobody, and its file locks are let go as the system would.
"""

import asyncio
import contextvars
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

LIVELOCK = 200_000  # turns of the loop without time going on

_current: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Killed(asyncio.CancelledError):
    """The process that calls a port is dead: nothing it still does may be seen outside."""


class Stuck(Exception):
    """Nobody will ever do anything again, or somebody does too much."""


@dataclass(eq=False, slots=True)
class Process:
    """A process of the simulated machine. `fuse` counts down the steps after which it is killed; None: it is not."""

    pid: int
    name: str
    exited: asyncio.Future[int]
    fuse: int | None = None
    alive: bool = True
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    handlers: dict[int, Callable[[], None]] = field(default_factory=dict)

    def kill(self) -> None:
        """Kill it as SIGKILL does, whatever it is doing."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()

    def terminate(self) -> None:
        """Ask it to end, as SIGTERM does."""
        if (handler := self.handlers.get(signal.SIGTERM)) is not None:
            handler()
        else:
            self.kill()


def current() -> Process | None:
    """The process whose code is running; None: the world itself."""
    return _current.get()


def check() -> None:
    """Refuse the calls of a dead process. Raises Killed."""
    process = current()
    if process is not None and not process.alive:
        raise Killed


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. It starts at second 0: far from there, floats are too coarse for its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = 1e-6
        self._seconds = 0.0
        self._turns = 0
        self._selector.select = self._pass  # type: ignore[attr-defined]
        self.set_task_factory(_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._seconds

    def _pass(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("everybody waits for somebody else")
        if timeout > 0:
            self._seconds, self._turns = self._seconds + max(timeout, 1e-6), 0
        self._turns += 1
        if self._turns > LIVELOCK:
            raise Stuck(f"{LIVELOCK} turns at second {self._seconds} without time going on")
        return []

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do it at once, and tell in the next turn."""
        del executor
        check()
        process, done = current(), self.create_future()
        try:
            result = func(*args)
        except Killed:
            return done  # nobody is left to hear of it
        except Exception as error:  # noqa: BLE001  it belongs to the one who waits
            self.call_soon(_fail, done, error)
        else:
            self.call_soon(_tell, done, result)
        return self.create_future() if process is not None and not process.alive else done

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        if (process := current()) is not None:
            process.handlers[sig] = lambda: callback(*args)

    def remove_signal_handler(self, sig: int) -> bool:
        process = current()
        return process is not None and process.handlers.pop(sig, None) is not None


def _task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    *,
    context: contextvars.Context | None = None,
    name: str | None = None,
) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, context=context, name=name)
    process = context.get(_current) if context is not None else current()
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
    return task


def _tell(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


async def live(process: Process, main: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Let a process run `main()` to its end, its own or a violent one; its exit code is told to who waits for it."""
    context = contextvars.copy_context()
    context.run(_current.set, process)
    root = asyncio.get_running_loop().create_task(main(), context=context)
    await asyncio.wait({root})
    await bury(process)
    code = -signal.SIGKILL if not process.alive or root.cancelled() else root.result()
    process.alive = False
    process.exited.set_result(code)


async def bury(process: Process) -> None:
    """Wait until every task of an ended process is gone. A dead one is cancelled as often as it takes."""
    for _ in range(100):
        for task in list(process.tasks):
            task.cancel()
        if not process.tasks:
            return
        await asyncio.wait(list(process.tasks), timeout=0.001 if not process.alive else None)
    raise Stuck(f"{process.name} does not die: {list(process.tasks)}")
