"""Threads for work that blocks, behind the one port that all of it takes: `loop.run_in_executor`.

A simulation's event loop runs such work at once, so that nothing depends on the moods of a real scheduler.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def in_own_thread(name: str, work: Callable[[], T]) -> T:
    """Return what `work()` returns. Who gives up waiting, or a process that ends, leaves it behind."""
    thread = OwnThread(name)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown()


class OwnThread(Executor):
    """One daemon thread, which does one thing after the other: database cursors insist on a single thread.

    Nobody waits for it, not even the end of the process, as for the pool of `asyncio.to_thread`. It begins with the
    first work and ends with `shutdown`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: Thread | None = None
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do this after what was submitted before."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the thread after what was submitted; waits for nothing."""
        del wait, cancel_futures
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            future, do = work
            if future.set_running_or_notify_cancel():
                try:
                    result = do()
                except BaseException as error:  # noqa: BLE001  it belongs to the one who waits
                    future.set_exception(error)
                else:
                    future.set_result(result)
