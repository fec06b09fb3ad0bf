"""What every store keeps to: a folder, a server that speaks S3 in this process, and rclone over real files."""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overnight.dependency import Dependencies
from overnight.errors import ConfigError, OvernightError, Permanent, Transient
from overnight.storage import Folder, Spool, Store, open_store
from overnight.storage.s3 import S3
from tests.bucket import counting_bucket
from tests.slots import ManualClock

pytestmark = pytest.mark.slow

KEY = "report=cost/date=2026-11-22/cost-2026-11-22.csv"
PAIR = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "sesame-open", "AWS_REGION": "eu-west-1"}
BUCKET = "overnight-reports"


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(200):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def make_bucket(environ: dict[str, str]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()


def alone() -> Dependencies:
    """Other sides that share nothing with another process, asked again without waiting."""
    return Dependencies({}, ManualClock())


def bucket_of(url: str, environ: dict[str, str]) -> S3:
    """A bucket that no earlier test has tried in vain."""
    return S3(url, environ, alone())


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """Moto in this process."""
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    environ = PAIR | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    try:
        make_bucket(environ)
        yield environ
    finally:
        server.stop()


def rclone_binary() -> str:
    """The one beside this Python, or the machine's."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is None:
        pytest.skip("rclone is not installed")
    return found


@contextmanager
def rclone(folder: Path) -> Iterator[dict[str, str]]:
    """Rclone over a folder: checks signatures, ignores conditional writes, keeps plain files."""
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    pair = f"{PAIR['AWS_ACCESS_KEY_ID']},{PAIR['AWS_SECRET_ACCESS_KEY']}"
    command = [rclone_binary(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", pair, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield PAIR | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        finally:
            process.terminate()


@pytest.fixture(scope="module", params=["moto", "rclone"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running S3 server with an empty bucket."""
    with moto() if request.param == "moto" else rclone(tmp_path_factory.mktemp("rclone")) as environ:
        yield environ


@pytest.fixture(params=["folder", "moto", "rclone"], scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Each store, opened as schedule.yaml opens it."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "folder":
        yield open_store("reports", folder, {}, alone())
        return
    with moto() if request.param == "moto" else rclone(folder) as environ:
        yield open_store(f"s3://{BUCKET}/night/reports", folder, environ, alone())


@pytest.fixture
def put_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all PUT requests that boto sends from here on."""
    sent: list[str] = []
    real = S3._call

    def counted(self: S3, request: Callable[[Any], Any], size: int = 0) -> Any:
        if "put_object" in request.__code__.co_names:
            sent.append(self.url)
        return real(self, request, size)

    monkeypatch.setattr(S3, "_call", counted)
    return sent


async def test_what_was_put_is_got_back(store: Store) -> None:
    await store.put(KEY, b"a,b\n1,2\n")
    assert await store.get(KEY) == b"a,b\n1,2\n"


async def test_an_empty_file_is_a_file(store: Store) -> None:
    await store.put("empty.csv", b"")
    assert await store.get("empty.csv") == b""


async def test_a_missing_key_is_none(store: Store) -> None:
    assert await store.get("report=cost/never.csv") is None


async def test_a_second_put_replaces_the_first(store: Store) -> None:
    await store.put("latest/cost.csv", b"old\n")
    await store.put("latest/cost.csv", b"new\n")
    assert await store.get("latest/cost.csv") == b"new\n"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=5000))
async def test_any_bytes_come_back_unchanged(store: Store, content: bytes) -> None:
    await store.put("any.csv", content)
    assert await store.get("any.csv") == content


@pytest.mark.parametrize(
    "key", ["../outside.csv", "a/../../b", "/etc/x", "a//b", "", "a/./b", "a\\b", "a\nb", "x" * 1100, "a/"]
)
async def test_no_key_leaves_the_prefix(store: Store, key: str) -> None:
    with pytest.raises(Permanent, match="cannot be the key"):
        await store.put(key, b"")


async def test_a_key_with_spaces_signs_and_accents_is_kept(store: Store) -> None:
    key = "report=été & co/date=2026-11-22/a+b %20=ü.csv"
    await store.put(key, b"x\n")
    assert await store.get(key) == b"x\n"


def test_writers_at_the_same_time_leave_one_whole_file_in_a_folder(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    contents = [str(n).encode() * 40_000 for n in range(4)]

    async def contest() -> bytes | None:
        await asyncio.gather(*(store.put("contested.csv", content) for content in contents))
        return await store.get("contested.csv")

    assert asyncio.run(contest()) in contents
    assert [path.name for path in tmp_path.iterdir()] == ["contested.csv"]


async def test_a_spool_leaves_the_same_bytes_in_every_store(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path, store)
    spool.add([("r/one.csv", b"1\n"), ("r/two.csv", b"1\n"), ("r/manifest.json", b"{}")])
    spool.add([("r/one.csv", b"2\n"), ("r/manifest.json", b"{ }")])
    drained = await spool.drain()
    assert (drained.uploaded, drained.left, drained.error) == (2, 0, None)
    assert (await store.get("r/one.csv"), await store.get("r/manifest.json")) == (b"2\n", b"{ }")


async def test_the_same_bytes_are_not_sent_twice(bucket: dict[str, str], put_requests: list[str]) -> None:
    for _ in range(3):  # a new process each time: nothing is remembered but in the bucket
        await bucket_of(f"s3://{BUCKET}/same", bucket).put(KEY, b"same\n")
    assert len(put_requests) == 1


async def test_a_bucket_that_is_not_there_needs_a_person(bucket: dict[str, str]) -> None:
    with pytest.raises(Permanent) as caught:
        await bucket_of("s3://no-such-bucket/x", bucket).put(KEY, b"x")
    assert caught.value.code == "s3_404"


async def test_a_wrong_secret_needs_a_person_and_is_not_told(tmp_path: Path) -> None:
    with rclone(tmp_path) as environ, pytest.raises(Permanent) as caught:
        await bucket_of(f"s3://{BUCKET}/x", environ | {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}).put(KEY, b"x")
    assert caught.value.code == "s3_403"
    assert "wrong-secret" not in str(caught.value)


async def test_a_server_that_is_down_is_worth_another_try() -> None:
    environ = PAIR | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(Transient) as caught:
        await bucket_of(f"s3://{BUCKET}", environ).put(KEY, b"x")
    assert caught.value.code == "s3_unreachable"


async def test_reports_made_while_the_bucket_is_down_arrive_unchanged_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    environ = PAIR | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    spool = Spool(tmp_path / "spool", bucket_of(f"s3://{BUCKET}/p", environ))
    spool.add([(KEY, b"night\n"), ("manifest.json", b"{}")])
    down = await spool.drain()
    assert (down.uploaded, down.left) == (0, 1)
    assert down.error is not None

    with moto() as healed:
        later = Spool(tmp_path / "spool", bucket_of(f"s3://{BUCKET}/p", healed))
        up = await later.drain()
        assert (up.uploaded, up.left, up.error) == (1, 0, None)
        assert await later.store.get(KEY) == b"night\n"
    assert later.waiting() == []


async def test_an_endpoint_that_is_no_url_needs_a_person() -> None:
    with pytest.raises(Permanent) as caught:
        await bucket_of(f"s3://{BUCKET}", PAIR | {"AWS_ENDPOINT_URL": "not a url"}).put(KEY, b"x")
    assert caught.value.code == "s3_setup"


class Silent:
    """A server that accepts connections and never answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.environ = PAIR | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.socket.getsockname()[1]}"}


async def test_a_bucket_that_hangs_holds_nobody_beyond_the_deadline(tmp_path: Path) -> None:
    silent = Silent()
    spool = Spool(tmp_path, S3(f"s3://{BUCKET}", silent.environ, alone(), connect_timeout=0.2, read_timeout=0.2))
    spool.add([(KEY, b"x")])
    drained = await spool.drain(deadline=0.05)
    assert drained.left == 1
    assert drained.error is not None
    assert "took longer than 0.05 s" in drained.error
    again = await spool.drain()
    assert (again.left, again.error) == (1, "another process is uploading")
    silent.socket.close()
    left = [task for task in asyncio.all_tasks() if task.get_name() == "spool"]
    await asyncio.gather(*left)  # the one that was left behind gives up, after three attempts
    assert "not asked for" in str((await spool.drain()).error)
    assert len(spool.waiting()) == 1


async def test_a_server_that_asks_for_less_is_waited_for_and_then_left_alone(tmp_path: Path) -> None:
    with counting_bucket() as bucket:
        bucket.failure, bucket.headers = (503, "SlowDown"), {"Retry-After": "20"}
        clock = ManualClock()
        store = S3(f"s3://{BUCKET}/p", bucket.environ, Dependencies({}, clock))
        spool = Spool(tmp_path, store)
        spool.add([(KEY, b"x")])
        first = await spool.drain()
        assert (first.left, len(bucket.asked)) == (1, 3)
        assert "answered 503 SlowDown" in str(first.error)
        assert sum(clock.slept) >= 40  # twice what was asked for
        assert "has failed too often: not asked for" in str((await spool.drain()).error)
        assert len(bucket.asked) == 3
        bucket.failure = None
        clock.move(70)
        assert (await spool.drain()).left == 0
    assert bucket.objects == {f"/{BUCKET}/p/{KEY}": b"x"}


async def test_an_answer_lost_after_the_upload_costs_the_same_bytes_once_more() -> None:
    with counting_bucket() as bucket:
        bucket.lost = 1
        await bucket_of(f"s3://{BUCKET}/p", bucket.environ).put(KEY, b"x")
        assert (bucket.written, list(bucket.objects.values())) == ([f"/{BUCKET}/p/{KEY}"] * 2, [b"x"])


async def test_who_may_not_list_a_bucket_writes_it_all_the_same(tmp_path: Path) -> None:
    with counting_bucket() as bucket:
        bucket.lists = False
        spool = Spool(tmp_path, bucket_of(f"s3://{BUCKET}/p", bucket.environ))
        for content in (b"1\n", b"2\n", b"2\n"):
            spool.add([(KEY, content)])
            assert (await spool.drain()).left == 0
        assert (len(bucket.written), bucket.objects) == (2, {f"/{BUCKET}/p/{KEY}": b"2\n"})


async def test_who_may_write_and_not_read_is_told_what_the_policy_lacks() -> None:
    with counting_bucket() as bucket:
        bucket.lists, real = False, bucket.answer
        bucket.answer = lambda method, path, body: real(method, path if method == "PUT" else "", body)  # type: ignore[method-assign]
        with pytest.raises(Permanent, match="s3:GetObject"):
            await bucket_of(f"s3://{BUCKET}/p", bucket.environ).put(KEY, b"x")


async def test_a_store_is_named_by_its_host_and_never_by_what_opens_it() -> None:
    secret = {"AWS_ENDPOINT_URL": "https://ann:s3same@minio.example.org:9000/x", "AWS_REGION": "eu-west-1"}
    names = [bucket_of("s3://bucket", environ).side.breaker.name for environ in (secret, PAIR, {})]
    assert names == ["s3:minio.example.org:9000", "s3:eu-west-1", "s3:us-east-1"]


def test_a_process_killed_while_spooling_and_uploading_loses_nothing(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from overnight.storage import Folder, Spool\n"
        "spool = Spool(Path(sys.argv[1]) / 'spool', Folder(Path(sys.argv[1]) / 'out'))\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; place = spool.add([(f'{n}.csv', b'x' * 1000), (f'{n}.json', b'{}')]); print(n, flush=True)\n"
        "    if n % 3 == 0: asyncio.run(spool.drain())\n"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(10)]
            process.kill()
        promised = int(lines[-1])
        out = Folder(tmp_path / "out")
        drained = asyncio.run(Spool(tmp_path / "spool", out).drain())
        assert (drained.left, drained.error) == (0, None)
        assert [asyncio.run(out.get(f"{n}.csv")) for n in range(1, promised + 1)] == [b"x" * 1000] * promised
        assert [asyncio.run(out.get(f"{n}.json")) for n in range(1, promised + 1)] == [b"{}"] * promised


def test_two_processes_drain_one_spool_without_harm(tmp_path: Path) -> None:
    out = Folder(tmp_path / "out")
    spool = Spool(tmp_path / "spool", out)
    for n in range(30):
        spool.add([(f"{n}.csv", str(n).encode()), ("latest.csv", str(n).encode())])
    program = (
        "import asyncio, sys; from pathlib import Path; from overnight.storage import Folder, Spool\n"
        "root = Path(sys.argv[1]); spool = Spool(root / 'spool', Folder(root / 'out'))\n"
        "while asyncio.run(spool.drain()).left: pass\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert asyncio.run(out.get("latest.csv")) == b"29"
    assert spool.waiting() == []


async def test_a_damaged_publication_is_named_and_the_others_go_out(tmp_path: Path) -> None:
    out = Folder(tmp_path / "out")
    spool = Spool(tmp_path / "spool", out)
    broken = spool.add([("one.csv", b"one")])
    spool.add([("two.csv", b"two")])
    (broken / "one.csv").write_bytes(b"oops")
    drained = await spool.drain()
    assert (drained.uploaded, drained.left) == (1, 1)
    assert drained.error is not None
    assert str(broken) in drained.error
    assert (await out.get("one.csv"), await out.get("two.csv")) == (None, b"two")


def test_the_order_of_a_publication_is_kept_on_disk(tmp_path: Path) -> None:
    place = Spool(tmp_path, Folder(tmp_path / "out")).add([("z.csv", b""), ("a/manifest.json", b"{}")])
    assert [key for key, _ in json.loads((place / ".order").read_text())] == ["z.csv", "a/manifest.json"]


async def test_a_folder_nobody_may_write_to_needs_a_person(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OvernightError, match="cannot use the folder"):
        await Folder(tmp_path / "file").put(KEY, b"x")


@pytest.mark.parametrize("url", ["s3://", "ftp://host/reports"])
def test_a_destination_we_do_not_know_is_an_error_of_the_file(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_store(url, tmp_path, {}, alone())


class Picky(S3):
    """A client whose server refuses checksum headers, as some do."""

    def _connected(self) -> Any:
        client = super()._connected()
        client.meta.events.register("before-send.s3", refuse_checksums)
        return client


def refuse_checksums(request: Any, **_: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    if "x-amz-checksum-crc32" in {name.lower() for name in request.headers}:
        body = b"<Error><Code>InvalidArgument</Code></Error>"
        return AWSResponse(request.url, 400, {}, type("Raw", (), {"stream": lambda *_, **__: iter([body])})())
    return None


async def test_a_server_that_refuses_checksums_is_written_to_without_them(bucket: dict[str, str]) -> None:
    store = Picky(f"s3://{BUCKET}/picky", bucket, alone())
    await store.put("one.csv", b"1")
    await store.put("two.csv", b"2")
    assert (await store.get("one.csv"), await store.get("two.csv")) == (b"1", b"2")
    assert store._checksums == "when_required"


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///prefix", "s3://Capital/x", "s3://ab", "s3://under_score", "s3://a..b", "s3://10.0.0.1/x",
        "s3://-dash", f"s3://{'x' * 64}", "s3://good/../evil", "s3://good/a//b", "s3://good/a\\b",
    ],
)  # fmt: skip
def test_a_bucket_or_prefix_that_cannot_be_is_refused_before_anybody_connects(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reports\.to"):
        open_store(url, tmp_path, PAIR, alone())


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        ((301, "PermanentRedirect"), "another region: set AWS_REGION"),
        ((400, "AuthorizationHeaderMalformed"), "another region: set AWS_REGION"),
        ((403, "AccessDenied"), "s3:PutObject and s3:GetObject"),
        ((403, "InvalidAccessKeyId"), "AWS_ACCESS_KEY_ID"),
        ((403, "SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY"),
        ((403, "RequestTimeTooSkewed"), "clock of this machine"),
        ((404, "NoSuchBucket"), "create the bucket"),
    ],
)
async def test_a_refusal_says_what_to_do(failure: tuple[int, str], remedy: str) -> None:
    with counting_bucket() as bucket:
        bucket.failure = failure
        with pytest.raises(Permanent, match=remedy):
            await bucket_of(f"s3://{BUCKET}/p", bucket.environ).put(KEY, b"x")


async def test_the_doctor_learns_whether_conditional_writes_are_honoured(tmp_path: Path) -> None:
    with moto() as honest, rclone(tmp_path) as forgetful:
        told = [await bucket_of(f"s3://{BUCKET}/probe", environ).traits() for environ in (honest, forgetful)]
    assert told == [
        ("honours conditional writes", "takes checksums"),
        ("ignores conditional writes (not needed)", "takes checksums"),
    ]


async def test_without_any_keys_the_reports_wait_and_the_error_says_where_keys_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    spool = Spool(tmp_path / "spool", bucket_of(f"s3://{BUCKET}/p", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}))
    spool.add([(KEY, b"x")])
    drained = await spool.drain()
    assert (drained.left, drained.refused) == (1, True)
    assert "check the AWS_* variables in .env" in str(drained.error)
