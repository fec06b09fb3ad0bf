"""What one mail from outside says: that a mailbox does not take ours, that a reader leaves, or nothing we understand.

Anybody can write such a mail, so it counts only for the subscriber whom it proves to be about: by the signed address it
came back to, or by the Message-ID of a mail of ours, which only that reader and the servers between have seen. The
address of a reader proves nothing.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from typing import Literal

from overnight.mail.replies import verdict_of
from overnight.mail.verp import leaving_subscriber, subscriber_of

Kind = Literal["hard", "soft", "delayed", "policy", "content", "left", "unclear"]

_BACK_TO = ("Delivered-To", "X-Original-To", "Envelope-To", "To")  # where a server may have noted the return path
_ADDRESS = re.compile(r"[^\s<>,;:\"()]+@[^\s<>,;:\"()]+")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_ID = re.compile(r"<[^<>\s]{1,250}>")
_LEAVES = re.compile(r"unsubscribe\s+(s_[a-z2-7]{16})")  # as mails said before the subject was signed
_ENVID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Notice:
    """What a mail says. `subscriber` is "" when it does not name one; `ref` is the Message-ID of our mail, or ""."""

    kind: Kind
    subscriber: str = ""
    ref: str = ""
    status: str = ""


UNCLEAR = Notice("unclear")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads for one project: what signs its addresses, where its bounces go, and the domain of its Message-IDs."""

    secret: bytes
    bounces_to: str
    domain: str

    def read(self, data: bytes) -> Notice:
        """Understand one mail; what is broken on purpose is as unclear as what was never meant for us."""
        try:
            mail = BytesParser(policy=policy.compat32).parsebytes(data)
            return self._leaving(mail) or self._standard(mail) or self._customary(mail) or UNCLEAR
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return UNCLEAR

    def _leaving(self, mail: Message) -> Notice | None:
        subject = _text(mail, "Subject")
        who = leaving_subscriber(self.secret, subject)
        if who is None and (plain := _LEAVES.fullmatch(subject.strip().lower())):
            who = plain.group(1)
        return Notice("left", who) if who else None

    def _standard(self, mail: Message) -> Notice | None:
        """RFC 3464: a part that programs can read."""
        for part in mail.walk():
            if part.get_content_type() == "message/delivery-status":
                blocks = [block for block in part.walk() if block is not part]
                fields = {name.lower(): value for block in blocks for name, value in block.items()}
                found = _STATUS.search(str(fields.get("status", "")))
                status = found[0] if found else ""
                kind = _kind(str(fields.get("action", "")).strip().lower(), status)
                return self._of(mail, kind, status, str(fields.get("original-envelope-id", "")))
        return None

    def _customary(self, mail: Message) -> Notice | None:
        """The notices of servers that have a form of their own."""
        from flufl.bounce import all_failures  # noqa: PLC0415  late: most are standard

        logging.getLogger("flufl.bounce").disabled = True  # it tells of each detector that stumbles over a mail
        temporary, permanent = all_failures(mail)
        if permanent:
            return self._of(mail, "hard", "5.0.0")
        return self._of(mail, "delayed", "") if temporary else None

    def _of(self, mail: Message, kind: Kind, status: str, envelope_id: str = "") -> Notice:
        return Notice(kind, self._subscriber(mail), self._ref(mail, envelope_id), status)

    def _subscriber(self, mail: Message) -> str:
        if not self.bounces_to:
            return ""
        written = (
            address for name in _BACK_TO for value in mail.get_all(name, []) for address in _ADDRESS.findall(str(value))
        )
        known = (subscriber_of(self.secret, self.bounces_to, address) for address in written)
        return next((who for who in known if who), "")

    def _ref(self, mail: Message, envelope_id: str) -> str:
        if found := _ENVID.fullmatch(envelope_id.strip().lower()):
            return f"<{found[0]}@{self.domain}>"
        return next(_message_ids(mail), "")


def _kind(action: str, status: str) -> Kind:
    """What becomes of a mailbox by the action and status of a notification; the rest of 5.x.x may change: soft."""
    if action in ("delayed", "delivered", "relayed", "expanded"):
        return "delayed"
    if status.startswith("5.7."):
        return "policy"
    if status.startswith(("5.3.4", "5.6.", "5.2.3")):
        return "content"
    return verdict_of(status) or "soft"


def _message_ids(mail: Message) -> Iterator[str]:
    """Of the mail that came back, as far as it came back: whole, or its headers."""
    for part in mail.walk():
        if part is mail:
            continue
        if part.get_content_type() in ("text/rfc822-headers", "message/rfc822-headers"):
            payload = part.get_payload(decode=True)
            text = payload if isinstance(payload, bytes) else b""
            part = BytesParser(policy=policy.compat32).parsebytes(text, headersonly=True)  # noqa: PLW2901
        yield from _ID.findall(str(part.get("Message-ID", "")))


def _text(mail: Message, name: str) -> str:
    value = str(mail.get(name, ""))
    try:
        return " ".join(str(make_header(decode_header(value))).split())
    except (ValueError, LookupError):
        return " ".join(value.split())
