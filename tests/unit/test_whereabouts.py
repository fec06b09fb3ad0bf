"""`overnight doctor` finds the schedulers of its own project, wherever they listen, and takes no other for one."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from overnight.cli import _guarded, common_first
from overnight.ledger import Ledger
from overnight.runner import Workplace
from overnight.web import serving
from overnight.whereabouts import _folder, announced, schedulers
from tests.slots import NOW, ManualClock, open_ledger
from tests.unit.test_health import SCHEDULE, Heart, _Work

Doctor = Callable[[], tuple[bool, str]]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    ledger = open_ledger(tmp_path, ManualClock())
    yield ledger
    ledger.close()


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    def call() -> tuple[bool, str]:
        _guarded(common_first(["--config", str(tmp_path), "--json", "doctor"]))
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        [row] = [row for row in rows if row["check"] == "serve"]
        return row["ok"], row["message"]

    return call


@asynccontextmanager
async def served(ledger: Ledger, root: Path, heart: Heart | None = None, port: int = 0) -> AsyncIterator[str]:
    work = cast("Workplace", _Work(root, ledger, ledger.clock))
    async with serving(lambda: work, heart or Heart(), lambda: None, "127.0.0.1", port) as url:
        yield url


async def test_doctor_asks_serve_where_it_listens(
    ledger: Ledger, tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with served(ledger, tmp_path) as url:
        ok, message = await asyncio.to_thread(doctor)
    assert (ok, message.endswith(f"answers at {url}")) == (True, True)


async def test_an_address_of_the_new_kind_is_one_that_can_be_asked(
    ledger: Ledger, tmp_path: Path, doctor: Doctor
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "::1", 0) as url:
        assert url.startswith("http://[::1]:")
        assert (await asyncio.to_thread(doctor))[0]


async def test_doctor_takes_nobody_else_for_serve(ledger: Ledger, tmp_path: Path, doctor: Doctor) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with served(ledger, other) as url:
        with announced(tmp_path, url, "mine"):
            ok, message = await asyncio.to_thread(doctor)
    assert not ok
    assert "should listen, another program answers" in message


async def test_doctor_says_of_serve_that_it_does_not_look_or_has_no_page(
    ledger: Ledger, tmp_path: Path, doctor: Doctor
) -> None:
    async with served(ledger, tmp_path, Heart(NOW - timedelta(minutes=4))):
        ok, message = await asyncio.to_thread(doctor)
        assert (ok, "has not looked for due jobs" in message) == (False, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with served(ledger, tmp_path, port=taken.getsockname()[1]):
            ok, message = await asyncio.to_thread(doctor)
    assert (ok, "without a page" in message) == (False, True)


def test_doctor_says_when_serve_is_there_and_does_not_answer(ledger: Ledger, tmp_path: Path, doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    with announced(tmp_path, f"http://127.0.0.1:{port}", "mine"):
        ok, message = doctor()
    assert (ok, f"does not answer at http://127.0.0.1:{port}" in message) == (False, True)


@pytest.mark.parametrize("taken", [False, True])
def test_without_a_serve_doctor_looks_whether_its_port_is_free(
    ledger: Ledger, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr("overnight.cli.doctor.PORT", port := other.getsockname()[1])
        if not taken:
            other.close()
        ok, message = doctor()
    said = "another program has port" if taken else "is free for it"
    assert (ok, said in message, str(port) in message) == (True, True, True)


def test_what_a_killed_serve_has_left_is_nobody_and_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from overnight.whereabouts import announced\n"
        "with announced(Path('.'), 'http://127.0.0.1:1', 'm'): os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert len(list(_folder(tmp_path).iterdir())) == 1
    assert schedulers(tmp_path) == []
    with announced(tmp_path, "http://127.0.0.1:2", "mine"):
        [one] = schedulers(tmp_path)
        assert one.url == "http://127.0.0.1:2"
        assert len(list(_folder(tmp_path).iterdir())) == 1
    assert list(_folder(tmp_path).iterdir()) == []


def test_who_cannot_say_where_it_listens_works_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("no folder")
    with announced(tmp_path, "http://127.0.0.1:2", "mine"):
        pass
