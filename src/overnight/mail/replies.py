"""What the replies of a mail server mean: the same code says different things in different phases.

Enhanced status codes decide where they are given: 5.7.26 is about our configuration and stops the run, where 5.1.1 is
about one mailbox.
"""

import re
from typing import Literal

from overnight.errors import Deferred, OvernightError, Permanent, Stop

Phase = Literal["greeting", "auth", "sender", "recipient", "data"]

RETRY_AFTER = 300.0  # seconds: what most greylisting asks for
_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
# authentication, relaying, DKIM/SPF/DMARC, missing PTR, and what Microsoft and Yahoo say for the same
_POLICY = re.compile(r"5\.7\.(?:0|1|8|9|2[0-9]|3[0-2]|5\d\d|60[0-9])")
_AUTH = frozenset({530, 534, 535, 538})
_SIZE = frozenset({552})


def enhanced(message: str) -> str:
    """Find the enhanced status code of a reply (RFC 3463), or "" when there is none."""
    found = _ENHANCED.search(message[:40])
    return found.group(1) if found else ""


def classify(phase: Phase, code: int, message: str) -> OvernightError:
    """Name the error for a refusing reply in this phase; the reply's text is quoted, cut to 200 characters."""
    said = f"{code} {' '.join(message.split())}"[:200]
    if phase == "auth" or code in _AUTH:
        return _auth(code, said)
    if code < 500:
        return Deferred(f"the mail server says {said}: will be tried again", code=f"smtp_{code}", after=RETRY_AFTER)
    if _POLICY.fullmatch(enhanced(message)):
        return Stop(
            f"the mail server refuses our mail as such: {said}; check SPF, DKIM, DMARC and the relay's rules",
            code=f"smtp_{code}",
        )
    if phase == "greeting" or (phase == "sender" and code not in _SIZE):
        return Stop(f"the mail server refuses us: {said}; check `mail: transport` and `from`", code=f"smtp_{code}")
    return Permanent(f"the mail server says {said}", code=f"smtp_{code}")


def _auth(code: int, said: str) -> OvernightError:
    if 400 <= code < 500:  # 454: the server cannot check passwords just now
        return Deferred(f"the mail server cannot log us in now: {said}", code=f"smtp_{code}", after=RETRY_AFTER)
    return Stop(
        f"the mail server refuses our login: {said}; correct user and password in MAIL_URL, nothing was sent",
        code="smtp_auth",
    )
