"""A bucket that answers slowly, or never to the end, and what a browser makes of what is in it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from overnight.archive import Archive
from overnight.cli import _guarded, common_first, doctor
from overnight.errors import Deferred, Transient
from overnight.storage import Spool
from overnight.storage.s3 import S3
from tests.bucket import Bucket, counting_bucket
from tests.conformance.test_storage import BUCKET, KEY, alone

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with counting_bucket() as bucket:
        yield bucket


@pytest.fixture
def dripping(bucket: Bucket) -> Iterator[Bucket]:
    """Whoever asks gets a byte now and then, until the test is over."""
    bucket.drips = over = Event()
    yield bucket
    over.set()


def store_in(bucket: Bucket, deadline: float = 120.0) -> S3:
    return S3(f"s3://{BUCKET}/p", bucket.environ, alone(), deadline=deadline)


async def test_an_answer_that_drips_is_given_up_after_the_deadline_of_a_request(dripping: Bucket) -> None:
    with pytest.raises(Transient, match=r"has not answered in full after 0\.05 s") as caught:
        await store_in(dripping, deadline=0.05).put(KEY, b"x")
    assert caught.value.code == "s3_unreachable"


async def test_an_answer_that_drips_is_not_asked_for_again_in_the_same_breath(bucket: Bucket) -> None:
    store = store_in(bucket)
    await store.get(KEY)  # the SDK takes its time for the first one
    store.deadline, bucket.drips, asked = 0.2, Event(), len(bucket.asked)
    with pytest.raises(Deferred):
        await store.get(KEY)
    bucket.drips.set()
    assert len(bucket.asked) == asked + 1


async def test_a_large_file_has_the_time_that_a_slow_line_needs_for_it(bucket: Bucket) -> None:
    store, bucket.pause = store_in(bucket), 0.3
    await store.get(KEY)
    store.deadline = 0.05
    await store.put(KEY, b"x" * 500_000)
    assert bucket.written == [f"/{BUCKET}/p/{KEY}"]


async def test_a_bucket_that_drips_keeps_nobody_else_from_uploading(dripping: Bucket, tmp_path: Path) -> None:
    spool = Spool(tmp_path, store_in(dripping, deadline=0.05))
    spool.add([(KEY, b"x")])
    assert "has not answered in full" in str((await spool.drain()).error)
    dripping.drips = None
    assert (await Spool(tmp_path, store_in(dripping)).drain()).left == 0


async def test_the_doctor_does_not_wait_for_a_bucket_that_drips(
    dripping: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "STORE_TIMEOUT", 0.05)
    for name, value in dripping.environ.items():
        monkeypatch.setenv(name, value)
    settings = f"version: 1\nreports: {{ to: s3://{BUCKET}/p }}\njobs: {{}}\n"
    (tmp_path / "schedule.yaml").write_text(settings, encoding="utf-8")
    assert await asyncio.to_thread(_guarded, common_first(["--config", str(tmp_path), "--json", "doctor"])) == 1
    [row] = [row for row in json.loads(capsys.readouterr().out) if row["check"] == "reports"]
    said = f"s3://{BUCKET}/p at http://127.0.0.1:{dripping.port} took longer than 0.05 s to take and give back a file"
    assert (row["ok"], row["message"]) == (False, said)


async def test_a_slow_bucket_gets_everything_in_the_end_though_nobody_waits_for_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.pause = 0.02
    files = [(f"{n}.csv", bytes([n])) for n in range(3)]
    spool, patience = Spool(tmp_path, store_in(bucket)), 0.01
    spool.add(files)
    while (drained := await spool.drain(deadline=patience)).left:
        assert "took longer than" in str(drained.error)
        left = [task for task in asyncio.all_tasks() if task.get_name() == "spool"]
        await asyncio.gather(*left)  # what was begun is finished, and nothing more is begun
        patience *= 2
    assert patience > 0.01
    assert bucket.objects == {f"/{BUCKET}/p/{key}": content for key, content in files}
    assert len(bucket.written) == len(files)


async def test_a_browser_takes_a_page_of_the_archive_for_a_page(bucket: Bucket, tmp_path: Path) -> None:
    Archive.spooled(tmp_path, "https://news.example.org/archive").keep("daily_email", "2026-11-22", b"<p>News</p>")
    spool = Spool(tmp_path, store_in(bucket))
    spool.add([("cost.csv", b"n\n"), ("manifest.json", b"{}")])
    assert (await spool.drain()).left == 0
    kinds = {key.rpartition(".")[2]: kind for key, kind in bucket.kinds.items()}
    assert kinds == {"html": "text/html; charset=utf-8", "csv": "text/csv; charset=utf-8", "json": "application/json"}
