"""A bucket or a feed's host that is down: asked as often as agreed, then by nobody, and nothing is lost."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.acceptance.conftest import Project, text_of
from tests.bucket import Bucket, counting_bucket

pytestmark = pytest.mark.slow

DOWN = (503, "SlowDown")
S3_ATTEMPTS, FEED_ATTEMPTS = 3, 2


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with counting_bucket() as bucket:
        yield bucket


@pytest.fixture
def site(project: Project, bucket: Bucket) -> Project:
    """A project whose reports go to the bucket."""
    project.env |= bucket.environ | {"REPORTS_TO": "s3://reports/nightly"}
    return project


def _spooled(project: Project) -> list[tuple[str, bytes]]:
    """The files that wait, in the order in which they are to be uploaded."""
    spool = project.root / "var" / "spool"
    places = sorted(path for path in spool.iterdir() if path.name.isdecimal())
    keys = [(place, key) for place in places for key, _ in json.loads((place / ".order").read_text())]
    return [(f"/reports/nightly/{key}", (place / key).read_bytes()) for place, key in keys]


def _changes(files: list[tuple[str, bytes]]) -> list[str]:
    """The paths that have to be written when these files are uploaded in order, each where it changes something."""
    there: dict[str, bytes] = {}
    written = []
    for path, body in files:
        if there.get(path) != body:
            written.append(path)
            there[path] = body
    return written


def _let_circuits_be_tried(project: Project, after: str = "2000-01-01T00:00:00.000Z") -> None:
    """Put the end of their time back: it stands for the minutes that a test cannot wait. Or forth: it may be slow."""
    with closing(sqlite3.connect(project.root / "var" / "overnight.db")) as connection, connection:
        connection.execute("UPDATE breaker SET opened_until = ?", (after,))


def _diagnosed(project: Project) -> dict[str, dict[str, object]]:
    return {row["check"]: row for row in json.loads(project.run("--json", "doctor").out)}


def test_a_bucket_that_is_down_is_left_alone_by_the_next_run_and_gets_everything_later(
    site: Project, bucket: Bucket
) -> None:
    bucket.failure = DOWN
    first = site.json("run", "hello", "--date", "2026-11-20")
    assert first["reports"] == ["var/spool (waiting for the store)"]
    assert len(bucket.asked) == S3_ATTEMPTS
    _let_circuits_be_tried(site, after="2099-01-01T00:00:00.000Z")

    site.subscribe("ada@example.org")
    assert site.json("run", "daily_email", "--date", "2026-11-22")["status"] == "ok"
    assert site.json("run", "hello", "--date", "2026-11-21")["status"] == "ok"
    site.json("tick")
    assert len(bucket.asked) == S3_ATTEMPTS, "three processes more, and none has asked"
    told = _diagnosed(site)["breakers"]
    assert told["ok"] is False
    assert f"s3:127.0.0.1:{bucket.port} open until 20" in str(told["message"])

    waiting = _spooled(site)
    bucket.failure = None
    _let_circuits_be_tried(site)
    site.json("tick")
    assert _spooled(site) == []
    doctors = "/reports/nightly/.overnight-doctor"
    assert {path: body for path, body in bucket.objects.items() if path != doctors} == dict(waiting)
    assert _diagnosed(site)["breakers"]["ok"] is True


def test_three_nights_without_the_bucket_arrive_in_order_and_none_is_overwritten(site: Project, bucket: Bucket) -> None:
    bucket.failure = DOWN
    for night in ("2026-11-19", "2026-11-20", "2026-11-21"):
        asked = len(bucket.asked)
        assert site.json("run", "hello", "--date", night)["status"] == "ok"
        assert 1 <= len(bucket.asked) - asked <= S3_ATTEMPTS
        _let_circuits_be_tried(site)
    waiting = _spooled(site)
    assert bucket.objects == {}

    bucket.failure = None
    site.json("tick")
    assert bucket.objects == dict(waiting), "of several editions of a file, the last one"
    assert bucket.written == _changes(waiting)
    for night in ("2026-11-19", "2026-11-20", "2026-11-21"):
        assert f"/reports/nightly/report=runs/date={night}/manifest.json" in bucket.objects


def test_a_bucket_that_refuses_us_keeps_its_circuit_and_the_operators_are_told_once(
    site: Project, bucket: Bucket
) -> None:
    bucket.failure = (403, "AccessDenied")
    assert site.json("run", "hello", "--date", "2026-11-20")["status"] == "ok"
    each = len(bucket.asked)
    bucket.failure = (404, "NoSuchBucket")
    assert site.json("run", "hello", "--date", "2026-11-21")["status"] == "ok"
    assert len(bucket.asked) > each, "an answer proves life: the second run has asked again"
    [mail] = site.outbox("alert")
    assert "publications of reports: s3://reports/nightly at" in text_of(mail)
    assert "answered 403 AccessDenied; the policy has to allow s3:PutObject and s3:GetObject there" in text_of(mail)
    told = _diagnosed(site)
    assert (told["reports"]["ok"], told["breakers"]["ok"]) == (False, True)
    assert "create the bucket, or correct reports.to" in str(told["reports"]["message"])
    waiting = _spooled(site)
    bucket.failure = None
    site.json("tick")
    assert dict(waiting).items() <= bucket.objects.items()
    assert len(site.outbox("alert")) == 2, "and that it is over"


def test_a_dead_host_of_a_feed_is_asked_by_the_first_run_alone(project: Project, bucket: Bucket) -> None:
    bucket.failure = (503, "")
    dead = f"http://127.0.0.1:{bucket.port}/feed.xml"
    project.schedule("feeds: []", f'feeds: ["{dead}"]')
    project.subscribe("ada@example.org")
    assert project.json("run", "daily_email", "--date", "2026-11-21")["status"] == "ok"
    assert bucket.asked == [("GET", "/feed.xml")] * FEED_ATTEMPTS
    assert project.json("run", "daily_email", "--date", "2026-11-22")["status"] == "ok"
    assert len(bucket.asked) == FEED_ATTEMPTS
    assert f"feed:127.0.0.1:{bucket.port} open" in str(_diagnosed(project)["breakers"]["message"])
    assert [text_of(mail) for mail in project.outbox("daily_email")], "the other feeds were read"

    rehearsed = project.run("run", "daily_email", "--dry-run")
    assert rehearsed.code == 0
    assert len(bucket.asked) == 2 * FEED_ATTEMPTS, "a rehearsal shares nothing: it tries for itself"
