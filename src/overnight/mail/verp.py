"""What comes back by mail says whose mail it was: the return path of a bounce (VERP), the subject of who leaves.

    bounces+s_abcdefghijklmnop.0123456789abcdef@example.org
    unsubscribe s_abcdefghijklmnop.0123456789abcdef

The id of a job's own reader, `User.42`, is spelled `x.kvzwk4rogqza` where it would not survive.
A subscriber has the same ones for ever: a server that greylists knows the path the second time, and what comes back
after weeks is still mapped. Which mail bounced is said by ENVID, the left side of the Message-ID.
"""

import hmac
import re
from typing import Literal

from overnight.tokens import id_of, word_of

_LEAVING = re.compile(r"unsubscribe\s+((?:x\.)?[a-z0-9_-]+\.[0-9a-f]{16})\b")
_LOCAL_MAX = 64  # RFC 5321


def return_path(secret: bytes, bounces_to: str, subscriber_id: str) -> str:
    """The address to which bounces of this subscriber come back; `bounces_to` itself for an id that is too long."""
    local, _, domain = bounces_to.rpartition("@")
    named = f"{local}+{_signed(secret, 'bounce', subscriber_id)}"
    return f"{named}@{domain}" if subscriber_id and len(named) <= _LOCAL_MAX else bounces_to


def subscriber_of(secret: bytes, bounces_to: str, address: str) -> str | None:
    """The id in a return path of ours, in whatever case it came back; None for any other address."""
    local, _, domain = bounces_to.lower().rpartition("@")
    given, _, host = address.strip("<> ").lower().rpartition("@")
    if host != domain or not given.startswith(f"{local}+"):
        return None
    return _read(secret, "bounce", given.removeprefix(f"{local}+"))


def leaving_subject(secret: bytes, subscriber_id: str) -> str:
    """The subject of the mail by which this subscriber leaves: for a `mailto:` link."""
    return f"unsubscribe {_signed(secret, 'unsubscribe', subscriber_id)}"


def leaving_subscriber(secret: bytes, subject: str) -> str | None:
    """Who leaves by a mail with this subject, `Re:` and the like before it allowed; None when it was not made here."""
    found = _LEAVING.search(subject.lower())
    return _read(secret, "unsubscribe", found.group(1)) if found else None


def _signed(secret: bytes, purpose: Literal["bounce", "unsubscribe"], id_: str) -> str:
    """With 64 bits: who guesses one can at most end one subscription, after some 10^19 mails."""
    signature = hmac.digest(secret, f"{purpose}\x00{id_}".encode(), "sha256").hex()[:16]
    return f"{word_of(id_)}.{signature}"


def _read(secret: bytes, purpose: Literal["bounce", "unsubscribe"], signed: str) -> str | None:
    try:
        id_ = id_of(signed.rpartition(".")[0])
    except ValueError:
        return None
    return id_ if hmac.compare_digest(signed.encode(), _signed(secret, purpose, id_).encode()) else None
