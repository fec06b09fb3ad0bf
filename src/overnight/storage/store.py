"""The port: a place for files that are known by a key."""

import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from overnight.errors import Permanent

LONGEST_KEY = 1024  # bytes, prefix included: what S3 allows


class Store(Protocol):
    """Files by key (`report=cost/date=2026-11-22/cost-2026-11-22.csv`).

    They raise Transient when another try may work, Deferred when it is too early for one, and Permanent when only a
    person can help.
    """

    async def put(self, key: str, content: bytes) -> None:
        """Write the file whole or not at all; returns once it is known to be there.

        The same bytes again are not written again.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """The file, None when there is no such key."""
        ...

    async def traits(self) -> Sequence[str]:
        """What this store can do, found out by trying, for the doctor: in words."""
        ...

    def describe(self) -> str:
        """Where this is, for people; without secrets."""
        ...


def checked(key: str, prefix: str = "") -> str:
    """The full key, if nothing can leave the prefix by it. Raises Permanent (`bad_key`) otherwise."""
    full = f"{prefix}/{key}" if prefix else key
    parts = key.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in key
        or any(unicodedata.category(letter) == "Cc" for letter in key)
        or len(full.encode()) > LONGEST_KEY
    ):
        raise Permanent(
            f"{key[:80]!r} cannot be the key of a file: no empty part, `.`, `..`, backslash or control character, "
            f"and at most {LONGEST_KEY} bytes with the prefix; rename the report",
            code="bad_key",
        )
    return full


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(content).hexdigest()
