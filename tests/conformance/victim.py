"""Publishes to a bucket in processes that are killed: reads a JSON line, forks, and says how the child ended.

One process without threads, in which boto3 is loaded already, so that a child costs some milliseconds. A child keeps
a publication in the spool, says so, and uploads what waits. `kill_at` is the file operation or connection of ours at
which SIGKILL comes; `room` is how many bytes a file may have: more than that, and the disk is full.
"""

import asyncio
import gc
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from overnight.dependency import Dependencies
from overnight.errors import OvernightError
from overnight.storage import Spool
from overnight.storage.s3 import S3
from tests.slots import ManualClock

STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "socket.connect"}


def child(order: dict[str, Any], store: S3, say: int) -> None:
    """Live through one night."""
    root, left = order["spool"], [order["kill_at"]]

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and (event == "socket.connect" or root in str(arguments[0])):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if order["kill_at"]:
        sys.addaudithook(step)
    if order["room"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], order["room"]))
    spool = Spool(Path(root), store)
    try:
        spool.add([(key, text.encode()) for key, text in order["files"]])
        os.write(say, b"kept\n")
    except OSError:
        os.write(say, b"full\n")
    drained = asyncio.run(spool.drain(order["deadline"]))
    os.write(say, json.dumps([drained.left, drained.error]).encode())


def warm() -> None:
    """Load what the first request loads, once for all children; nobody listens there."""
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    store = S3("s3://bucket", environ, Dependencies({}, ManualClock()))
    with suppress(OvernightError):
        asyncio.run(store.put("x", b"x"))
    gc.collect()
    gc.freeze()


def main() -> None:
    stores: dict[str, S3] = {}
    warm()
    for line in sys.stdin:
        order = json.loads(line)
        name = json.dumps(order["environ"])
        if name not in stores:
            dependencies = Dependencies({}, ManualClock())
            stores[name] = S3(order["url"], order["environ"], dependencies, connect_timeout=0.3, read_timeout=0.3)
            stores[name]._connected()
        heard, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(heard)
            child(order, stores[name], say)
            os._exit(0)
        os.close(say)
        with os.fdopen(heard, "rb") as said:
            told = said.read().decode()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"told": told, "killed": os.WIFSIGNALED(status)}) + "\n")
        sys.stdout.flush()


main()
