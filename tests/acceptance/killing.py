"""The command, in processes that kill themselves at a named point of the send path.

Usage: killing.py, then lines of JSON on stdin: {"arguments": [...], "cwd": "...", "point": "created", "nth": 3} or, in
place of a point, "delay": 0.2 (seconds until SIGKILL), or neither. Each line is a fork of this process, which has the
engine loaded already, so that hundreds of kills take minutes; the answer is {"code": 0} or {"code": -9}.

Beside that the child keeps books of its own, in the file BOOKS of its working directory: a line for each rendering of a
mail of `daily_email` (`rendered MESSAGE-ID DIGEST`), and for each that it created exclusively (`created NAME`).
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import anthropic
import feedparser
import genai_prices
import pandas as pd

import overnight.feeds.parse
import overnight.pricing
import overnight.report
import overnight.service
from overnight import batch, run, runner
from overnight.batch import Batch
from overnight.cli import main
from overnight.effects import Effects
from overnight.mail import outbox
from overnight.mail.conversation import Conversation
from overnight.storage import Spool

BOOKS, JOB = "books.log", "daily_email"

# name -> what is wrapped, and on which side of it the process dies; in the order of the send path
PLAN: dict[str, tuple[Any, str, str]] = {
    "before the plan": (batch, "plan", "before"),
    "after the plan": (batch, "planned", "after"),
    "edition made, not stored": (run, "keep_once", "before"),
    "edition stored": (run, "_compute", "after"),
}
INTENT: dict[str, tuple[Any, str, str]] = {
    "before the intent": (Effects, "begin", "before"),
    "intent stored": (Effects, "begin", "after"),
}
REST: dict[str, tuple[Any, str, str]] = {
    "mail sent, not noted": (Effects, "done", "before"),
    "mail noted": (Effects, "done", "after"),
    "item not recorded": (Batch, "_keep", "before"),
    "item recorded": (Batch, "_keep", "after"),
    "before the run is closed": (runner, "close_run", "before"),
    "before the reports": (runner, "publish", "before"),
    "reports in the spool": (Spool, "drain", "before"),
}
FILES: dict[str, tuple[Any, str, str]] = {
    "file begun": (outbox, "_temporary", "before"),
    "file written, not in place": (outbox, "_temporary", "after"),
    "file in place": (outbox, "_create", "after"),
}
CONVERSATION: dict[str, tuple[Any, str, str]] = {
    "recipient taken": (Conversation, "_envelope", "after"),
    "text not sent": (Conversation, "_text", "before"),
    "text taken": (Conversation, "_text", "after"),
}
POINTS = {"outbox": PLAN | INTENT | FILES | REST, "smtp": PLAN | INTENT | CONVERSATION | REST}
ALL = {name: point for points in POINTS.values() for name, point in points.items()}


def die() -> None:
    """End as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def dying(function: Callable[..., Any], side: str, nth: int) -> Callable[..., Any]:
    """The function, before or after whose nth call the process dies."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            die()

    if asyncio.iscoroutinefunction(function):

        async def wrapped(*arguments: Any, **more: Any) -> Any:
            if side == "before":
                count()
            result = await function(*arguments, **more)
            if side == "after":
                count()
            return result

        return wrapped

    def plain(*arguments: Any, **more: Any) -> Any:
        if side == "before":
            count()
        result = function(*arguments, **more)
        if side == "after":
            count()
        return result

    return plain


def keep_books() -> None:
    """Count what is rendered, and what is created exclusively, beside the engine."""
    deliver, link = outbox.Outbox._deliver, os.link

    def note(line: str) -> None:
        descriptor = os.open(BOOKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    def delivered(self: Any, letter: Any) -> None:
        if letter.folder[0] == JOB:
            note(f"rendered {letter.message_id.strip('<>')} {digest(letter.data)}")
        deliver(self, letter)

    def linked(source: Any, target: Any, **more: Any) -> None:
        link(source, target, **more)
        if Path(target).suffix == ".eml" and JOB in Path(target).parts:
            note(f"created {Path(target).stem}")

    outbox.Outbox._deliver = delivered  # type: ignore[method-assign]
    os.link = linked


def digest(message: bytes) -> str:
    """Of what a reader sees: everything but the time of sending and the borders of the parts."""
    parsed = message_from_bytes(message)
    seen = [parsed["Subject"], parsed["To"], *(part.get_payload() for part in parsed.walk() if not part.is_multipart())]
    return hashlib.sha256("\0".join(map(str, seen)).encode()).hexdigest()


def child(order: dict[str, Any]) -> None:
    """Run the command; never returns."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    keep_books()
    if order.get("point"):
        owner, name, side = ALL[order["point"]]
        setattr(owner, name, dying(getattr(owner, name), side, order["nth"]))
    code = 1
    try:
        main(order["arguments"])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


def serve() -> None:
    """Fork a child for each line, and say how it ended."""
    assert all((overnight.service, anthropic, feedparser, genai_prices, pd)), "loaded before the first fork"
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        if "delay" in order:
            threading.Timer(order["delay"], _kill, (pid,)).start()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    serve()
