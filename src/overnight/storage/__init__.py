"""Where reports go: a folder or an S3 bucket, by way of a spool that loses nothing."""

from collections.abc import Mapping
from pathlib import Path

from overnight.dependency import Dependencies
from overnight.errors import ConfigError
from overnight.storage.folder import Folder
from overnight.storage.spool import Drained, Spool, add_to, waiting
from overnight.storage.store import Store

__all__ = ["Drained", "Folder", "Spool", "Store", "add_to", "open_store", "waiting"]


def open_store(url: str, root: Path, environ: Mapping[str, str], dependencies: Dependencies) -> Store:
    """The store at `s3://bucket/prefix`, or at a folder relative to `root`; nothing is connected yet.

    Raises ConfigError for any other scheme.
    """
    if url.startswith("s3://"):
        from overnight.storage.s3 import S3  # noqa: PLC0415  boto3 costs 0.2 s and 40 MB: only for who has a bucket

        return S3(url, environ, dependencies)
    if "://" in url:
        raise ConfigError(f"reports.to: {url!r} is neither a folder nor s3://bucket/prefix")
    return Folder(root / url)
