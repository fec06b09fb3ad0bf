"""The command in forks of a process that has the engine loaded: a second of imports less for each call.

Usage: warm.py SOCKET. Each connection brings one line of JSON, {"arguments": [...], "cwd": "...", "env": {...}, "said":
FOLDER}, and gets {"code": 0} when the command has ended and has written `out` and `err` into that folder. It is the
engine's own `main` in a process of its own; how an interpreter starts is left to the tests that start the installed
command itself. `stdin` in the order is what it reads; without it, nothing.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

LOADED = ("overnight.cli.run", "overnight.dispatcher", "overnight.project", "overnight.ports", "pandas", "feedparser")


class Warm:
    """The loaded process, as its callers see it."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "warm")
        command = [sys.executable, __file__, self.address]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def call(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float
    ) -> "subprocess.CompletedProcess[str]":
        """Call the command and wait for it. Raises TimeoutError."""
        with tempfile.TemporaryDirectory() as said, socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(seconds)
            wire.connect(self.address)
            order = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "said": said}
            wire.sendall(json.dumps(order).encode() + b"\n")
            with wire.makefile() as answer:
                code = int(json.loads(answer.readline())["code"])
            out, err = ((Path(said) / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def serve(address: str) -> None:
    """Fork for each connection; who waits for the command there is a fork, too, so that commands run side by side."""
    for name in LOADED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            wire, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(wire)
            wire.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    """One that has answered."""


def _answer(wire: socket.socket) -> None:
    with wire.makefile() as lines:
        order = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        wire.close()
        _command(order)
    _, status = os.waitpid(pid, 0)
    wire.sendall(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
    os._exit(0)


def _command(order: dict[str, Any]) -> None:
    """Be the command; never returns."""
    from overnight.cli import main  # loaded long ago

    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    random.seed()
    for descriptor, name in enumerate((order.get("stdin", os.devnull), "out", "err")):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
        opened = os.open(Path(order["said"]) / name, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    code = 1
    try:
        main(order["arguments"])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
