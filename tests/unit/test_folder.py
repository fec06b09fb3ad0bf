"""A folder of reports keeps nothing of writers that were killed, and takes nothing from those that live."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from overnight.storage import Folder
from overnight.storage.folder import write_durably

# A process that gets a signal when its file is written, and has its name not yet.
WRITER = """
import os, sys
from pathlib import Path
from overnight.storage.folder import write_durably
os.fsync = lambda _handle: os.kill(os.getpid(), int(sys.argv[1]))
write_durably(Path(sys.argv[2]), b"theirs")
"""


def writer(number: int, file: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(int(number)), str(file)])
    until_it_stands(process)
    return process


def until_it_stands(process: "subprocess.Popen[bytes]") -> None:
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


async def test_what_a_killed_writer_has_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    for _ in range(2):
        assert writer(signal.SIGKILL, folder / "cost.csv").wait() == -signal.SIGKILL
    assert names(folder) == [".new"], "the second has removed what the first had left"
    await Folder(tmp_path).put("latest/cost.csv", b"ours")
    assert names(folder) == ["cost.csv"]


def test_what_a_living_writer_is_at_is_left_to_it_and_nobody_waits_for_it(tmp_path: Path) -> None:
    process = writer(signal.SIGSTOP, tmp_path / "theirs.csv")
    write_durably(tmp_path / "ours.csv", b"ours")
    assert names(tmp_path) == [".new", "ours.csv"]
    process.send_signal(signal.SIGCONT)
    while process.poll() is None:  # it stops once more: the folder is to be durable as well
        process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "ours.csv": b"ours",
        "theirs.csv": b"theirs",
    }
