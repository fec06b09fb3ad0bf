"""What the log says of a task or run, also in the files it was turned over into."""

import gzip
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from overnight.logbook import END, FOLDER, coming, events, latest

LINE = '{"timestamp":"2026-11-22T07:00:00Z","level":"info","message":"%s","run_id":"r_1","n":{"x":1}}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    return folder


def written(file: Path, content: bytes, age: int = 0) -> None:
    file.write_bytes(content)
    os.utime(file, (10**9 - age, 10**9 - age))


def test_the_end_of_a_log_is_read_whatever_stands_in_it(folder: Path, tmp_path: Path) -> None:
    junk = b'\xff\xfe r_1\nnull r_1\n[1, "r_1"]\n{"run_id": "r_1"}\n{"timestamp": 7, "level": [], "run_id": "r_1"}\n'
    written(folder / "overnight.jsonl", (LINE % "m").encode() * 80 + junk)
    found = latest(tmp_path, "r_1", 40)
    at = datetime(2026, 11, 22, 7, tzinfo=UTC)
    assert (len(found), found[0].more(), found[0].at) == (40, 'n="{\\"x\\": 1}"', at)
    assert found[-1].at is None
    assert latest(tmp_path, "r_2", 40) == []
    assert list(events(tmp_path, "r_2")) == []


@pytest.mark.parametrize(
    "names",
    [("overnight.jsonl.2.gz", "overnight.jsonl.1"), ("overnight.jsonl-20261120.gz", "overnight.jsonl-20261121")],
)
def test_files_that_were_turned_over_are_read_in_their_order_packed_ones_too(
    folder: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    written(folder / names[0], gzip.compress((LINE % "first").encode()), age=2)
    written(folder / names[1], (LINE % "second").encode(), age=1)
    written(folder / "overnight.jsonl", (LINE % "third").encode())
    assert [event.message for event in events(tmp_path, "r_1")] == ["first", "second", "third"]
    assert [event.message for event in latest(tmp_path, "r_1", 2)] == ["second", "third"]


def test_the_end_of_a_file_is_all_that_is_read_of_it_for_the_page(folder: Path, tmp_path: Path) -> None:
    written(folder / "overnight.jsonl", (LINE % "early").encode() + b"x" * END + b"\n" + (LINE % "late").encode())
    assert [event.message for event in latest(tmp_path, "r_1", 2)] == ["late"]
    assert [event.message for event in events(tmp_path, "r_1")] == ["early", "late"]


def test_who_follows_hears_what_is_written_also_after_the_file_was_turned_over(folder: Path, tmp_path: Path) -> None:
    file = folder / "overnight.jsonl"
    file.write_text(LINE % "before")

    def add(text: str) -> None:
        with file.open("a") as log:
            log.write(text)

    steps: Iterator[Callable[[], object]] = iter([
        lambda: add(LINE[:20]),  # half a line
        lambda: add(LINE[20:] % "one"),
        lambda: file.rename(folder / "overnight.jsonl.1"),
        lambda: file.write_text(LINE % "two"),
        lambda: None,
    ])  # fmt: skip

    def wait() -> None:
        next(steps)()

    following = coming(tmp_path, "r_1", wait)
    assert [next(following).message for _ in range(2)] == ["one", "two"]
    following.close()  # type: ignore[attr-defined]
