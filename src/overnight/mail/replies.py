"""What the replies of a mail server mean: the same code says different things in different phases.

Enhanced status codes decide where they are given: 5.7.26 is about our configuration and stops the run, where 5.1.1 is
about one mailbox. A 4xx is tried again after 5, 15 and 60 minutes, then each hour, for a day.
"""

import re
from typing import Literal

from overnight.errors import Deferred, OvernightError, Permanent, Stop

Phase = Literal["greeting", "auth", "sender", "recipient", "data"]
Verdict = Literal["hard", "soft"]

CLOSING = 421  # whatever it is about, the server hangs up after it
RETRY_FOR = 86_400.0  # seconds: what a day's greylisting and full queues need, and an edition is still worth reading
_ENHANCED = re.compile(r"\s*#?([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")  # first of all (RFC 2034); IronPort writes a #
# authentication, relaying, DKIM/SPF/DMARC, missing PTR, and what Microsoft and Yahoo say for the same
_POLICY = re.compile(r"5\.7\.(?:0|1|8|9|2[0-9]|3[0-2]|5\d\d|60[0-9])")
SENDER = re.compile(r"[45]\.1\.[78]")  # of all x.1.x the ones that are about us
_HARD = re.compile(r"5\.1\.\d{1,3}|5\.2\.1")
# full; no mail server for the domain (4, 310); no such mailbox, as Microsoft says it (1)
_SOFT = re.compile(r"5\.2\.2|5\.4\.(?:1|4|310)")
_AUTH = frozenset({530, 534, 535, 538})
_SIZE = frozenset({552})


class Bounced(Permanent):
    """The mailbox does not take it: `hard` when there is no such mailbox, `soft` when that may change.

    `status` is the enhanced status code, or the plain one where there is none.
    """

    def __init__(self, message: str, *, code: str, verdict: Verdict, status: str) -> None:
        super().__init__(message, code=code)
        self.verdict, self.status = verdict, status


class Throttled(Deferred):
    """The other side has had too much from us for this recipient (421)."""


class Unwanted(Stop):
    """Our mail as such is refused, by the answer to one recipient or text: it may be about that one after all."""

    def of(self, who: str) -> "Unwanted":
        """The same, and what to do when only the mail of this reader is refused so."""
        remedy = f"if others get theirs, it is about this one: overnight subscribers suppress {who}"
        return Unwanted(f"{self}; it was said of the mail to {who}: {remedy}", code=self.code)


def enhanced(code: int, message: str) -> str:
    """The enhanced status code of a reply (RFC 3463), of the same class as its code; "" when there is none."""
    found = _ENHANCED.match(message)
    return found[1] if found and found[1][0] == str(code)[0] else ""


def classify(phase: Phase, code: int, message: str) -> OvernightError:
    """Name the error for a refusing reply in this phase; the reply's text is quoted, cut to 200 characters."""
    said, status, name = f"{code} {' '.join(message.split())}"[:200], enhanced(code, message), f"smtp_{code}"
    if not 400 <= code < 600:
        what = f"the mail server answers what makes no sense here: {said}; check host and port in `mail: transport`"
        return Deferred(what, code="smtp_garbage", within=RETRY_FOR)
    if phase == "auth" or code in _AUTH:
        return _auth(code, said)
    if code < 500:
        return _later(phase, code, f"the mail server says {said}: will be tried again")
    if ours := _about_us(phase, code, status):
        refused = f"the mail server refuses {ours.format(said)}"
        return Unwanted(refused, code=name) if phase in ("recipient", "data") else Stop(refused, code=name)
    verdict = _verdict(phase, code, status)
    if verdict is None:
        return Permanent(f"the mail server says {said}", code=name)
    return Bounced(f"the mail server says {said}", code=name, verdict=verdict, status=status or str(code))


def _later(phase: Phase, code: int, said: str) -> OvernightError:
    if code == CLOSING and phase in ("recipient", "data"):
        return Throttled(said, code=f"smtp_{code}", within=RETRY_FOR)
    return Deferred(said, code=f"smtp_{code}", within=RETRY_FOR)


def _about_us(phase: Phase, code: int, status: str) -> str:
    """What is refused with all our mail, and what to look at; "" when it is about this one message."""
    if _POLICY.fullmatch(status):
        return "our mail as such: {}; check SPF, DKIM, DMARC and the relay's rules"
    if phase == "greeting" or SENDER.fullmatch(status) or (phase == "sender" and code not in _SIZE):
        return "us: {}; check `mail: transport` and `from`"
    return ""


def verdict_of(status: str) -> Verdict | None:
    """What an enhanced status code says of a mailbox; None: nothing."""
    if _HARD.fullmatch(status) and not SENDER.fullmatch(status):
        return "hard"
    return "soft" if _SOFT.fullmatch(status) else None


def _verdict(phase: Phase, code: int, status: str) -> Verdict | None:
    """Without an enhanced code, a refused recipient is taken for a mailbox that may come back: three times of five."""
    if status:
        return verdict_of(status)
    return "soft" if phase == "recipient" and code in (550, 551, 552, 553) else None


def _auth(code: int, said: str) -> OvernightError:
    if 400 <= code < 500:  # 454: the server cannot check passwords just now
        return Deferred(f"the mail server cannot log us in now: {said}", code=f"smtp_{code}", within=RETRY_FOR)
    return Stop(
        f"the mail server refuses our login: {said}; correct user and password in MAIL_URL, nothing was sent",
        code="smtp_auth",
    )
