"""What holds for every mail that a test makes, whatever the test is about."""

import re
from email import message_from_bytes
from email.policy import SMTPUTF8

from overnight.mail.message import HEADERS, LINE_MAX

PICTURE = {"Content-ID", "Content-Disposition"}
_LINK = re.compile(rb"[ ]?<[^<> ]+>,?")  # an address or a link that is too long by itself cannot be broken


def check(data: bytes) -> None:
    """One recipient, headers of ours and each once, short lines that end in CRLF, ASCII in the body."""
    lines = data.split(b"\r\n")
    assert not any(b"\n" in line or b"\r" in line for line in lines), "a line break that is no CRLF"
    long = [line for line in lines if len(line) > LINE_MAX and not _LINK.fullmatch(line)]
    assert not long, f"lines of more than {LINE_MAX} octets: {long[:3]}"
    head, _, body = data.partition(b"\r\n\r\n")
    assert body.isascii()
    message = message_from_bytes(data, policy=SMTPUTF8)
    names = list(message.keys())
    assert len(set(names)) == len(names), f"a header twice: {names}"
    assert set(names) <= HEADERS, f"headers that are not ours: {set(names) - HEADERS}"
    assert {"From", "To", "Subject", "Date", "Message-ID", "MIME-Version"} <= set(names)
    assert len(message["To"].addresses) == 1
    assert not message.defects, message.defects
    if "List-Unsubscribe-Post" in names:
        assert "<https://" in message["List-Unsubscribe"]
    assert b"\x00" not in head
    for part in message.walk():
        assert set(part.keys()) <= HEADERS | (PICTURE if part.get_content_maintype() == "image" else set())
        assert not part.defects, part.defects
        if not part.is_multipart():
            part.get_content()
