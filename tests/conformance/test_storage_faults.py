"""Two hundred faults between a spool and a bucket: nothing is lost, nothing is doubled, once it has healed."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from overnight.storage.spool import waiting
from tests.conformance.test_storage import BUCKET, free_port, moto, rclone

pytestmark = pytest.mark.slow

FAULTS = 200
PREFIX = "faults"  # of no other test: all of moto's servers in a process have the same buckets
KINDS = ("refused", "hang", "403", "500", "cut", "lost", "kill", "kill", "kill", "full")
HERE = Path(__file__).parent


@dataclass
class Weather:
    """What the way to the bucket does: from the request `after` on, requests meet `fault`."""

    upstream: str
    fault: str = ""
    after: int = 0
    seen: int = 0
    port: int = 0
    let_go: Event = field(default_factory=Event)

    def next(self) -> str:
        self.seen += 1
        return self.fault if self.seen > self.after else ""


@contextmanager
def way_to(upstream: str) -> Iterator[Weather]:  # noqa: C901  a class inside
    """A proxy in front of the bucket that has weather; signatures hold, for the Host header is passed on."""
    weather = Weather(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = weather.next()
            if fault in ("403", "500"):
                text = b"<Error><Code>Injected</Code></Error>"
                self.answer(int(fault), {"Content-Type": "application/xml"}, text)
            elif fault == "hang":
                weather.let_go.wait(5)
                self.close_connection = True
            elif fault == "cut":
                self.close_connection = True
            else:
                status, headers, text = self.asked(body)
                if fault == "lost":  # carried out, and nobody hears of it
                    self.close_connection = True
                else:
                    self.answer(status, headers, text)

        do_GET = do_PUT = pass_on  # noqa: N815  as the library calls them

        def asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            with closing(HTTPConnection(urlsplit(weather.upstream).netloc, timeout=20)) as connection:
                connection.request(self.command, self.path, body or None, dict(self.headers.items()))
                reply = connection.getresponse()
                text = reply.read()
            return reply.status, {k: v for k, v in reply.getheaders() if k.lower() != "transfer-encoding"}, text

        def answer(self, status: int, headers: dict[str, str], text: bytes) -> None:
            self.send_response_only(status)
            for name, value in ({k: v for k, v in headers.items() if k.lower() != "content-length"}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            try:
                self.wfile.write(text)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients that were killed say no goodbye."""

    with Server(("127.0.0.1", 0), Handler) as server:
        weather.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield weather
        weather.let_go.set()
        server.shutdown()
        thread.join()


@contextmanager
def victim() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.conformance.victim"]
    with subprocess.Popen(
        command, cwd=HERE.parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def publication(number: int) -> list[tuple[str, str]]:
    """A report of one of seven days, and the newest one: each key is written again and again."""
    day, text = f"2026-11-{20 + number % 7}", f"night,{number}\n" * (1 + number % 50)
    return [(f"report=cost/date={day}/cost-{day}.csv", text), ("latest/cost.csv", text)]


def waits(folder: Path, number: int) -> bool:
    """Whether the spool holds this publication, although nobody said so."""
    (dated, text), _ = publication(number)
    return any((place / dated).is_file() and (place / dated).read_text() == text for place in waiting(folder))


def contents(environ: dict[str, str]) -> dict[str, bytes]:
    """Everything below our prefix: the bucket has other tests' things in it."""
    client = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/").get("Contents", [])
    found = {each["Key"]: client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in listed}
    client.close()
    return found


@pytest.mark.parametrize("kind", ["moto", "rclone"])
def test_after_two_hundred_faults_the_bucket_has_what_was_kept_byte_for_byte(kind: str, tmp_path: Path) -> None:
    chance, spool, kept = random.Random(6), tmp_path / "spool", []  # noqa: S311  faults that can be told again
    server = moto() if kind == "moto" else rclone(tmp_path / "data")
    happened: Counter[str] = Counter()
    with server as environ, way_to(environ["AWS_ENDPOINT_URL"]) as weather, victim() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        through = environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{weather.port}"}
        nowhere = environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}

        def night(number: int, fault: str) -> dict[str, Any]:
            weather.fault, weather.after, weather.seen = fault, chance.randint(0, 6), 0
            order = {
                "spool": str(spool),
                "url": f"s3://{BUCKET}/{PREFIX}",
                "environ": nowhere if fault == "refused" else through,
                "files": publication(number),
                "kill_at": chance.randint(1, 36) if fault == "kill" else 0,
                "room": chance.randint(1, 60) if fault == "full" else 0,
                "deadline": 0.2 if fault == "hang" else 10,
            }
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            told: dict[str, Any] = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            return told

        nights = iter(range(2 * FAULTS))  # a kill that comes after the last step is none
        while happened.total() < FAULTS:
            number = next(nights)
            fault = KINDS[number % len(KINDS)]
            end = night(number, fault)
            met = {"kill": end["killed"], "full": "full" in end["told"]}.get(fault, "null" not in end["told"])
            happened[fault] += met
            if end["told"].startswith("kept") or (end["killed"] and waits(spool, number)):
                kept.append(number)
        weather.fault = ""
        last = next(nights)
        healed = night(last, "")
        kept.append(last)
        assert (healed["killed"], healed["told"]) == (False, "kept\n[0, null]")
        wanted = {f"{PREFIX}/{key}": text.encode() for number in kept for key, text in publication(number)}
        assert contents(environ) == wanted
    assert waiting(spool) == []
    assert min(happened[fault] for fault in set(KINDS)) >= 10, happened
    assert len(kept) > FAULTS // 2
