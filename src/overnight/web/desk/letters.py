"""The mail of an item, as the outbox keeps it: its HTML with its pictures inside, its text, its headers."""

import re
from base64 import b64encode
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from overnight.mail.outbox import folder_of, safe_name

LARGEST = 2 * 1024 * 1024  # bytes of a message that is shown
_CID = re.compile(r"cid:([A-Za-z0-9._@+-]{1,200})")


@dataclass(frozen=True, slots=True)
class LetterShown:
    """What there is to show of one mail; None for a part it does not have."""

    subject: str
    html: str | None
    text: str | None
    headers: str


def kept_at(root: Path, transport: str, job: str, slot: str, ref: str) -> Path | None:
    """The file of a mail; None when its transport keeps none."""
    if not transport.startswith("outbox:"):
        return None
    folder = folder_of(root / transport.removeprefix("outbox:"), job, slot)
    return folder / f"{safe_name(ref.strip('<>'))}.eml"


def opened(file: Path) -> LetterShown | None:
    """The mail in a file; None when it is gone, or too large to be shown."""
    try:
        if file.stat().st_size > LARGEST:
            return None
        message = BytesParser(policy=policy.default).parsebytes(file.read_bytes())
    except OSError:
        return None
    headers = "\n".join(f"{name}: {value}" for name, value in message.items())
    html = _part(message, "html")
    return LetterShown(
        str(message.get("Subject", "")),
        None if html is None else _with_pictures(html, message),
        _part(message, "plain"),
        headers,
    )


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except LookupError:  # an encoding nobody knows
        return None


def _with_pictures(html: str, message: EmailMessage) -> str:
    pictures = {
        str(part["Content-ID"]).strip("<>"): part for part in message.walk() if part.get_content_maintype() == "image"
    }

    def inside(match: re.Match[str]) -> str:
        part = pictures.get(match[1])
        data = part.get_payload(decode=True) if part is not None else None
        if part is None or not isinstance(data, bytes):
            return match[0]
        return f"data:{part.get_content_type()};base64,{b64encode(data).decode()}"

    return _CID.sub(inside, html)
