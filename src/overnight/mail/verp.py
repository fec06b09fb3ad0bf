"""Return paths that say whose mail it was that came back (VERP).

    bounces+s_abcdefghijklmnop.0123456789abcdef@example.org

A subscriber has the same one for ever: a server that greylists knows it the second time, and a bounce that comes after
weeks is still mapped. Which mail it was is said by ENVID, the left side of the Message-ID.
"""

import hmac
import re

_ID = re.compile(r"[a-z0-9_-]{1,40}")  # what survives a server that changes case, and fits into the 64 of a local part
_LOCAL_MAX = 64  # RFC 5321


def return_path(secret: bytes, bounces_to: str, subscriber_id: str) -> str:
    """The address to which bounces of this subscriber come back; `bounces_to` itself for an id that fits into none."""
    local, _, domain = bounces_to.rpartition("@")
    named = f"{local}+{subscriber_id}.{_signature(secret, subscriber_id)}"
    return f"{named}@{domain}" if _ID.fullmatch(subscriber_id) and len(named) <= _LOCAL_MAX else bounces_to


def subscriber_of(secret: bytes, bounces_to: str, address: str) -> str | None:
    """The id in a return path of ours, in whatever case it came back; None for any other address."""
    local, _, domain = bounces_to.lower().rpartition("@")
    given, _, host = address.strip("<> ").lower().rpartition("@")
    id_, _, signature = given.removeprefix(f"{local}+").rpartition(".")
    if host != domain or not given.startswith(f"{local}+") or not _ID.fullmatch(id_):
        return None
    return id_ if hmac.compare_digest(signature.encode(), _signature(secret, id_).encode()) else None


def _signature(secret: bytes, id_: str) -> str:
    """64 bits: who guesses one can at most suppress one address, after some 10^19 mails."""
    return hmac.digest(secret, b"bounce\0" + id_.encode(), "sha256").hex()[:16]
