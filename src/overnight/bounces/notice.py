"""What one mail from outside says: that a mailbox does not take ours, that a reader leaves or complains, or nothing.

Anybody can write such a mail, so it counts only for the subscriber whom it proves to be about: by the signed address it
came back to, or by the Message-ID of a mail of ours, which only that reader and the servers between have seen. The
address of a reader proves nothing.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from typing import Literal

from overnight.mail.replies import SENDER, verdict_of
from overnight.mail.verp import leaving_subscriber, subscriber_of

Kind = Literal["hard", "soft", "delayed", "policy", "content", "left", "complained", "unclear"]

_BACK_TO = ("Delivered-To", "X-Original-To", "Envelope-To", "To")  # where a server may have noted the return path
_ADDRESS = re.compile(r"[^\s<>,;:\"()]+@[^\s<>,;:\"()]+")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_ID = re.compile(r"<[^<>\s]{1,250}>")
_ENVID = re.compile(r"[0-9a-f]{32}")
_TOLD = re.compile(r"(?:#|\b[45]\d\d[ -])([45]\.\d{1,3}\.\d{1,3})(?!\.?\d)")  # (#5.1.1), 550-5.7.26
_COPY = re.compile(
    r"^-{3,}.*\bmessage\b|^(?:Return-Path|Received|Message-ID|DKIM-Signature):", re.IGNORECASE | re.MULTILINE
)
_CAME_BACK = ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers")
_BROKEN = (MessageError, ValueError, LookupError)


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
            return (
                self._leaving(mail) or self._complaint(mail) or self._standard(mail) or self._customary(mail) or UNCLEAR
            )
        except (*_BROKEN, TypeError, AttributeError, RecursionError):
            return UNCLEAR

    def _leaving(self, mail: Message) -> Notice | None:
        who = leaving_subscriber(self.secret, _text(mail, "Subject"))
        return Notice("left", who) if who else None

    def _complaint(self, mail: Message) -> Notice | None:
        """RFC 5965: a reader has called our mail spam, and the mailbox provider passes that on.

        Who it was is hardly ever said; our mail that comes with it, or its return path, tells.
        """
        for part in mail.walk():
            if part.get_content_type() == "message/feedback-report":
                fields = next((block for block in part.walk() if block is not part), part)
                if str(fields.get("Feedback-Type", "")).strip().lower() == "abuse":
                    who = self._named(str(fields.get("Original-Mail-From", "")))
                    return Notice("complained", who, self._ref(mail, ""))
        return None

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
            found = _TOLD.search(_told(mail))
            status = found[1] if found else ""
            return self._of(mail, _kind("failed", status), status)
        return self._of(mail, "delayed", "") if temporary else None

    def _of(self, mail: Message, kind: Kind, status: str, envelope_id: str = "") -> Notice:
        return Notice(kind, self._subscriber(mail), self._ref(mail, envelope_id), status)

    def _subscriber(self, mail: Message) -> str:
        return self._named(*(str(value) for name in _BACK_TO for value in mail.get_all(name, [])))

    def _named(self, *texts: str) -> str:
        """Who is named by an address of ours in one of these texts; "" when nobody is."""
        if not self.bounces_to:
            return ""
        written = (address for text in texts for address in _ADDRESS.findall(text))
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
    if status[1:].startswith(".7.") or SENDER.fullmatch(status):
        return "policy"
    if status.startswith(("5.3.4", "5.6.", "5.2.3")):
        return "content"
    return verdict_of(status) or "soft"


def _told(mail: Message) -> str:
    """What a notice says in its own words: up to the copy of ours, where a status says nothing of the mailbox."""
    words: list[str] = []
    for part in mail.walk():
        if part.get_content_type() in _CAME_BACK:
            break
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            words.append(payload.decode("utf-8", "replace") if isinstance(payload, bytes) else "")
    return _COPY.split("\n".join(words), maxsplit=1)[0]


def _message_ids(mail: Message) -> Iterator[str]:
    """Of the mail that came back, as far as it came back: whole, or its headers."""
    for part in mail.walk():
        if part is mail:
            continue
        if part.get_content_type() in _CAME_BACK[1:]:
            payload = part.get_payload(decode=True)
            text = payload if isinstance(payload, bytes) else b""
            part = BytesParser(policy=policy.compat32).parsebytes(text, headersonly=True)  # noqa: PLW2901
        yield from _ID.findall(str(part.get("Message-ID", "")))


def _text(mail: Message, name: str) -> str:
    value = str(mail.get(name, ""))
    try:
        return " ".join(str(make_header(decode_header(value))).split())
    except _BROKEN:
        return " ".join(value.split())
