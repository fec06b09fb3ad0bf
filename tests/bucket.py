"""The other side of an upload: a bucket on this machine that counts what it is asked, and fails on demand."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote

KEYS = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "sesame-open", "AWS_REGION": "eu-west-1"}


@dataclass
class Bucket:
    """Its books: `asked` are all requests in order, `objects` what it has.

    `kinds` are their content types. `failure` is the status and S3 code of every answer while it is set; `lost` answers
    to PUT are dropped after the object was stored. `lists` is what AWS calls s3:ListBucket: whoever lacks it is refused
    where a key is missing. An answer takes `pause` seconds; with `drips` it comes a byte at a time until that is set.
    """

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    failure: tuple[int, str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    lists: bool = True
    pause: float = 0.0
    drips: Event | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What points the SDK here."""
        return KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    @property
    def written(self) -> list[str]:
        """The paths of all PUT requests, in order."""
        return [path for method, path in self.asked if method == "PUT"]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Status and body; None: the connection is closed without an answer."""
        self.asked.append((method, path))
        if self.failure is not None:
            status, code = self.failure
            return status, f"<Error><Code>{code}</Code></Error>".encode()
        if method == "PUT":
            self.objects[path] = body
            self.lost -= 1
            return None if self.lost >= 0 else (200, b"")
        if path not in self.objects and not self.lists:
            return 403, b"<Error><Code>AccessDenied</Code></Error>"
        if path not in self.objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        return 200, self.objects[path]


def _drip(answer: BufferedIOBase, end: Event) -> None:
    """Begin an answer that no timeout between two bytes ever meets."""
    with suppress(OSError):
        answer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not end.wait(0.01):
            answer.write(b"x")


@contextmanager
def counting_bucket() -> Iterator[Bucket]:
    """Serve a bucket until the end of the block."""
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply()

        def do_PUT(self) -> None:
            self._reply()

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if bucket.drips is not None:
                self.close_connection = True
                bucket.asked.append((self.command, self.path))
                _drip(self.wfile, bucket.drips)
                return
            time.sleep(bucket.pause)
            path = unquote(self.path.partition("?")[0])
            bucket.kinds[path] = self.headers["Content-Type"] or bucket.kinds.get(path, "")
            answer = bucket.answer(self.command, path, body)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            for name, value in ({"Content-Length": str(len(answer[1]))} | bucket.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        bucket.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield bucket
        server.shutdown()
        thread.join()
