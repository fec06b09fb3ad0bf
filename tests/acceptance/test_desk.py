"""What reaches whoever is on call: one message, a heartbeat, and a `serve` that takes changes while it runs."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from overnight.ledger.tables import occurrence
from tests.acceptance.serving import COMMAND, Place, due_once, end, wait_until

pytestmark = pytest.mark.slow

JOB = """
from overnight import Permanent, Run, job


@job(items=lambda run: [f"k{n:02}" for n in range(57)], concurrency=20)
async def work(name: str, run: Run) -> None:
    if not (run.root / "well").exists():
        raise Permanent("the other side says no", code="no")
"""


class Books(ThreadingHTTPServer):
    """A chat's webhook and a ping service on this machine: what they were told, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.told: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, place: str) -> list[str]:
        return [text for path, text in self.told if path == place]


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        assert isinstance(self.server, Books)
        self.server.told.append((self.path, text))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def books() -> Iterator[Books]:
    server = Books()
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_fifty_seven_failures_are_one_message_and_their_end_another_with_its_duration(
    place: Place, books: Books
) -> None:
    place.write(work=f'at: "07:00", heartbeat: "{books.url}/ping/uuid"')
    (place.root / "jobs" / "work.py").write_text(JOB)
    text = (place.root / "schedule.yaml").read_text()
    (place.root / "schedule.yaml").write_text(
        text.replace("channels: {", 'channels: { chat: { webhook: "${CHAT}" },').replace("to: [ops]", "to: [ops, chat]")
    )
    (place.root / ".env").write_text(f"CHAT={books.url}/hook\n")
    assert place.call("run", "work")["items"]["failed"] == 57
    [message] = books.of("/hook")
    assert "work: 0 of 57 items succeeded within 1d (0.0%); the target is 95%" in message
    assert len(place.alerts()) == 1
    assert [path for path, _ in books.told if "ping" in path] == ["/ping/uuid/start", "/ping/uuid/fail"]
    assert "57 total, 0 ok, 57 failed" in books.of("/ping/uuid/fail")[0]
    (place.root / "well").touch()
    assert place.call("retry", "work")["items"]["ok"] == 57
    assert books.of("/hook")[1:] == [message for message in books.of("/hook") if "Resolved after" in message]
    assert len(books.of("/ping/uuid")) == 1
    assert place.call("alerts") == []
    assert [row["state"] for row in place.call("alerts", "--all")] == ["resolved"]
    assert place.call("alerts", "silence", "success_rate:work", "2h")["key"] == "success_rate:work"
    words = [COMMAND, "alerts", "silence", "succes_rate:work", "2h"]
    wrong = subprocess.run(words, check=False, cwd=place.root, capture_output=True)
    assert (wrong.returncode, b"did you mean 'success_rate:work'?" in wrong.stderr) == (2, True)


def status_of(place: Place, path: str) -> tuple[int, str]:
    try:
        with urlopen(place.urls()[-1] + path, timeout=10) as answer:  # noqa: S310  our own server
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_serve_takes_changes_and_rotated_logs_while_a_run_keeps_the_settings_it_began_with(place: Place) -> None:
    due_once(place, work="concurrency: 2, params: { items: 40, seconds: 0.2 }")
    serve, file = place.serve(), place.root / "schedule.yaml"
    wait_until(lambda: len(place.done()) >= 4, "the first items")
    good = file.read_text()
    file.write_text(good.replace("items: 40", "items: 2") + "  new: { every: 12h }\n")
    wait_until(lambda: changes(place), "the change to be taken")
    assert changes(place) == [["+ job new", "~ work.params.items 40 -> 2"]]
    file.write_text(good.replace("concurrency", "concurency"))
    wait_until(lambda: status_of(place, "/readyz")[0] == 503, "the mistake to be seen")
    code, report = place.health()
    assert (code, report["status"], report["checks"]["schedule"]["status"]) == (200, "degraded", "degraded")
    assert "did you mean 'concurrency'?" in report["checks"]["schedule"]["output"]
    assert status_of(place, "/livez")[0] == 200
    log = place.root / "var" / "log" / "overnight.jsonl"
    kept = Path(f"{log}.1")
    log.rename(kept)
    file.write_text(good)
    serve.send_signal(signal.SIGHUP)
    wait_until(log.exists, "the log to be opened anew", 20)
    wait_until(lambda: changes(place), "the file to be read again")
    wait_until(lambda: place.rows(occurrence, job="work", state="ran"), "the run")
    assert Counter(one.key for one in place.done()) == Counter(f"k{n:02}" for n in range(40))
    assert end(serve) == 0
    assert "the one before stays in force" in kept.read_text()


def test_a_terminal_that_is_closed_ends_serve_as_politely_as_sigterm(place: Place) -> None:
    place.write(work='at: "07:00"')
    parent, child = os.openpty()
    with (place.root / "stderr").open("a") as stderr:
        serve = subprocess.Popen(
            ["setsid", "--ctty", str(COMMAND), "serve", "--port", "0"],
            cwd=place.root, stdin=child, stdout=child, stderr=stderr,
        )  # fmt: skip
    os.close(child)
    place.processes.append(serve)
    wait_until(place.urls, "serve to start")
    os.close(parent)
    assert serve.wait(30) == 0


def changes(place: Place) -> list[list[str]]:
    return [line["changes"] for line in place.log() if "read again" in line["message"]]
