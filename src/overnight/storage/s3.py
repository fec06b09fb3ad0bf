"""A bucket of S3 or of a server that speaks like it (MinIO, Ceph, R2, rclone).

Requests are repeated by us alone: the SDK's own repetitions would be seen by no breaker, no quota and no deadline.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as NotConnected

from overnight.dependency import Dependencies, Dependency
from overnight.errors import ConfigError, Deferred, OvernightError, Permanent, Transient
from overnight.retry import retry_after
from overnight.storage.address import bucket_of
from overnight.storage.store import checked
from overnight.threads import in_own_thread

T = TypeVar("T")

CHECKSUMS_REFUSED = (400, 403, 411, 501)  # what servers answer that do not know the SDK's checksum headers
UNREACHABLE = (NotConnected, HTTPClientError)  # timeouts are among them
TORN = (FlexibleChecksumError, IncompleteReadError)  # somebody else wrote while we read
AGAIN = (408, 409, 425, 429)
HIDDEN = ("AccessDenied",)  # what AWS says of a key that is not there to whom it grants no s3:ListBucket
TYPES = {  # by what a browser knows a page of the archive, to which mails link, from a file to save
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}
SLOWEST = 50_000  # bytes a second of a line that is slow and no drip: 20 MB at 1 Mbit/s take 160 s
PROBE = ".overnight-doctor"  # the key that is written when somebody asks what the store can do

ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
REMEDIES = {
    "AccessDenied": "the policy has to allow s3:PutObject and s3:GetObject there",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID in .env is not known there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY in .env does not belong to the key",
    "ExpiredToken": "AWS_SESSION_TOKEN in .env has expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "NoSuchBucket": "create the bucket, or correct reports.to",
}


@dataclass(slots=True)
class S3:
    """Files under `s3://bucket/prefix`.

    Credentials, region and `AWS_ENDPOINT_URL` come from `environ`; without keys there, from wherever the SDK finds
    them (profile, role of the machine). The SDK's default timeouts would hold a dead endpoint for minutes; with ours
    (seconds) three attempts at one that hangs are over within the 30 s that a run may be held. `deadline` bounds a
    whole request, with what a slow line needs for its file on top: an answer that drips never meets the other two.
    """

    url: str
    environ: Mapping[str, str]
    dependencies: Dependencies
    connect_timeout: float = 5.0
    read_timeout: float = 8.0
    deadline: float = 120.0
    bucket: str = field(init=False)
    prefix: str = field(init=False)
    side: Dependency = field(init=False)
    _checksums: str = field(init=False, default="when_supported")
    _client: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        try:
            self.bucket, self.prefix = bucket_of(self.url)
        except ValueError as error:
            raise ConfigError(f"reports.to: {self.url!r}: {error}") from error
        self.side = self.dependencies.of(f"s3:{self._host() or self._region()}")

    async def put(self, key: str, content: bytes) -> None:
        """Write in one request, then read back: no server tested refused a body that did not match its checksum.

        Reading first costs a request a file and saves the write when a report has not changed; files are small.
        """
        name = checked(key, self.prefix)
        size = len(content)
        if await self._read(name, size, hidden=HIDDEN) == content:
            return
        await self._call(
            lambda client: client.put_object(
                Bucket=self.bucket, Key=name, Body=content, ContentType=_content_type(name)
            ),
            size,
        )
        if await self._read(name, size) != content:
            raise Transient(f"{self.describe()} gave back other bytes than were written to {key}", code="s3_mismatch")

    async def get(self, key: str) -> bytes | None:
        """Read."""
        return await self._read(checked(key, self.prefix))

    async def traits(self) -> Sequence[str]:
        """Whether conditional writes are honoured, and checksums taken. Nothing here relies on either."""
        name = checked(PROBE, self.prefix)

        def twice(client: Any) -> int:
            try:
                client.put_object(Bucket=self.bucket, Key=name, Body=b"ok\n", IfNoneMatch="*")
            except ClientError as error:
                return _status(error)
            return 200

        await self.put(PROBE, b"ok\n")
        status = await self._call(twice)
        told = {412: "honours conditional writes", 200: "ignores conditional writes (not needed)"}
        conditional = told.get(status, f"refuses conditional writes with {status} (not needed)")
        checksums = self._checksums == "when_supported"
        return conditional, "takes checksums" if checksums else "is written to without checksums, which it refuses"

    def describe(self) -> str:
        """The bucket, and the endpoint when it is not AWS."""
        endpoint = self._endpoint()
        return f"{self.url} at {endpoint.rpartition('@')[2]}" if endpoint else self.url

    async def _read(self, name: str, size: int = 0, hidden: Collection[str] = ()) -> bytes | None:
        """What is there; None when nothing is, or the server answers with one of the codes `hidden`."""

        def read(client: Any) -> bytes | None:
            try:
                content: bytes = client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
            except ClientError as error:
                if _code(error) in hidden:
                    return None
                raise
            return content

        try:
            return await self._call(read, size)
        except _Missing:
            return None

    async def _call(self, request: Callable[[Any], T], size: int = 0) -> T:
        return await self.side.call(partial(self._in_time, request, self.deadline + size / SLOWEST), requests=1)

    async def _in_time(self, request: Callable[[Any], T], seconds: float) -> T:
        """One attempt; after this time its thread is left behind, and no other begins: what drips would do so again."""
        try:
            async with asyncio.timeout(seconds):
                return await in_own_thread("s3", partial(self._once, request))
        except TimeoutError as error:
            slow = f"{self.describe()} has not answered in full after {round(seconds, 2):g} s"
            raise Deferred(slow, code="s3_unreachable") from error

    def _once(self, request: Callable[[Any], T]) -> T:
        """One attempt; the SDK's errors become ours."""
        try:
            try:
                return request(self._connected())
            except ClientError as error:
                if not self._checksums_may_be_why(error):
                    raise
                return self._without_checksums(request, error)
        except ClientError as error:
            raise self._classified(error) from error
        except UNREACHABLE as error:
            raise Transient(f"{self.describe()} cannot be reached: {error}", code="s3_unreachable") from error
        except TORN as error:
            raise Transient(f"{self.describe()} gave back a damaged file: {error}", code="s3_mismatch") from error
        except (BotoCoreError, ValueError) as error:
            raise Permanent(
                f"{self.describe()}: {error}; check the AWS_* variables in .env", code="s3_setup"
            ) from error

    def _checksums_may_be_why(self, error: Any) -> bool:
        return bool(self._endpoint()) and self._checksums == "when_supported" and _status(error) in CHECKSUMS_REFUSED

    def _without_checksums(self, request: Callable[[Any], T], error: Exception) -> T:
        """Once more without the SDK's checksum headers; if that helps, this store stays so."""
        before, self._client, self._checksums = self._client, None, "when_required"
        try:
            return request(self._connected())
        except ClientError:
            self._client, self._checksums = before, "when_supported"
            raise error from None

    def _classified(self, error: Any) -> OvernightError:
        status, code = _status(error), _code(error)
        if code == "NoSuchKey":
            return _Missing(code=f"s3_{status}")
        said = f"{self.describe()} answered {status} {code}".rstrip()
        if status in AGAIN or status >= 500:
            after = retry_after(error.response["ResponseMetadata"].get("HTTPHeaders", {}), self.side.clock)
            return Transient(said, code=f"s3_{status}", after=after)
        return Permanent(f"{said}; {_remedy(error, status, code)}", code=f"s3_{status}")

    def _endpoint(self) -> str:
        return self.environ.get("AWS_ENDPOINT_URL_S3") or self.environ.get("AWS_ENDPOINT_URL") or ""

    def _host(self) -> str:
        return self._endpoint().partition("://")[2].partition("/")[0].rpartition("@")[2]

    def _region(self) -> str:
        return self.environ.get("AWS_REGION") or self.environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        endpoint = self._endpoint()
        session = boto3.Session(
            aws_access_key_id=self.environ.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environ.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.environ.get("AWS_SESSION_TOKEN"),
            region_name=self._region(),
        )
        return session.client(
            "s3",
            endpoint_url=endpoint or None,
            config=Config(
                connect_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
                retries={"mode": "standard", "total_max_attempts": 1},
                request_checksum_calculation=self._checksums,
                response_checksum_validation=self._checksums,
                s3={"addressing_style": "path" if endpoint else "auto"},
            ),
        )


class _Missing(Permanent):
    """There is no such key."""


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _remedy(error: Any, status: int, code: str) -> str:
    """What a person can do, by the server's code."""
    region = error.response.get("Error", {}).get("Region")
    region = region or error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if region or status == 301 or code in ELSEWHERE:
        return f"the bucket is in another region{f' ({region})' if region else ''}: set AWS_REGION in .env"
    return REMEDIES.get(code, "check the bucket, its policy and the AWS_* variables in .env")


def _content_type(name: str) -> str:
    return TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
