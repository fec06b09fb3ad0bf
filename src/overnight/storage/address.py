"""What can be told of `s3://bucket/prefix` before anybody connects."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from overnight.errors import Permanent
from overnight.storage.store import checked

WRITE = "write s3://bucket/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NUMBERS = re.compile(r"\d+(\.\d+){3}")
_ELSEWHERE = (  # where the SDK finds keys besides the pair in the environment; a machine's role is seen by asking only
    "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def bucket_of(url: str) -> tuple[str, str]:
    """Bucket and prefix of an `s3://` address. Raises ValueError for what no server would take."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    if not bucket:
        raise ValueError(f"names no bucket; {WRITE}")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _NUMBERS.fullmatch(bucket):
        raise ValueError(
            f"{bucket!r} is no name of a bucket: 3 to 63 small letters, digits, hyphens and dots, and no address"
        )
    try:
        checked("x", prefix)
        if prefix:
            checked(prefix)
    except Permanent as error:
        raise ValueError(f"the prefix {prefix[:80]!r} has an empty part, `.`, `..`, or is too long") from error
    return bucket, prefix


def half_a_pair(url: str, environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """Say, as a finding for `refuse`, which half of the keys is missing."""
    there = [name for name in _PAIR if environ.get(name)]
    if url.startswith("s3://") and len(there) == 1:
        (missing,) = set(_PAIR) - set(there)
        yield ("reports", "to"), f"{there[0]} is set and {missing} is not", "put both into .env, or neither"


def keys_out_of_sight(url: str, environ: Mapping[str, str], home: Path) -> Iterator[str]:
    """Warn when no credentials are in sight: then only a role of this machine can help."""
    files = (environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials", home / ".aws/config")
    seen = any(map(environ.get, (_PAIR[0], *_ELSEWHERE))) or any(Path(file).is_file() for file in files)
    if url.startswith("s3://") and not seen:
        yield (
            f"{url}: no credentials are in sight; unless this machine has a role, reports will wait in the spool: put "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into .env, then ask `overnight doctor`"
        )
