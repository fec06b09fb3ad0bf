"""A place in the queue for a file's lock, given up after a while: whoever holds it may be a stopped process."""

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from overnight.threads import OwnThread


@contextmanager
def turn(file: Path | str, patience: float) -> Iterator[bool]:
    """Hold the lock of this file for the length of the block; False when nobody let go of it within `patience` seconds.

    Who has to wait does so in the kernel's queue, in a thread of its own: to ask again and again would be the lottery
    in which a busy process starves the others.
    """
    lock = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)  # an open() of Python's costs 20 us
    try:
        yield _at_once(lock) or (patience > 0 and _in_the_queue(lock, patience))
    finally:
        os.close(lock)


def _at_once(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_the_queue(lock: int, patience: float) -> bool:
    thread = OwnThread("turn")
    waiting: Future[None] = thread.submit(_wait, os.dup(lock))  # the lock is of both; the last one closed frees it
    thread.shutdown()
    try:
        waiting.result(patience)
    except TimeoutError:
        return False
    return True


def _wait(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)
