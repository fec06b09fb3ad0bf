"""From rendered parts to the bytes of a message that nobody can inject a header into.

The standard library alone is not enough: it lets NUL through, accepts two recipients, and some versions of it turn an
encoded word with a line break into a real header. So text is checked before, and the finished bytes are parsed again:
only the headers we wrote may be there.
"""

import hashlib
import hmac
import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from email_validator import EmailNotValidError, validate_email

from overnight.errors import Permanent
from overnight.mail.templates import Rendered
from overnight.outcome import Scope

HEADERS = frozenset({
    "From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    "List-Id", "List-Unsubscribe", "Precedence", "Auto-Submitted",
})  # fmt: skip
SUBJECT_MAX = 200
ADDRESS_MAX = 254  # RFC 5321: a path of 256 with its angle brackets
# C0, DEL, C1 and the line separators of Unicode: some reader takes each of them for the end of a line
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _Verbatim(UnstructuredHeader):
    """A header of machine-readable ASCII: folding would turn a long link into encoded words that no client follows."""

    def fold(self, *, policy: Any) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]


def _policy() -> "EmailPolicy[EmailMessage]":  # generic for type checkers only
    registry = HeaderRegistry()
    for name in ("list-unsubscribe", "list-id", "message-id"):
        registry.map_to_type(name, _Verbatim)  # type: ignore[arg-type]  # typeshed wants a mixin to be the whole
    return SMTP.clone(header_factory=registry, cte_type="7bit")


_POLICY = _policy()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name and one checked ASCII address."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Everything about a message but its text.

    `unsubscribe` is a mailto: link or "" for mail to operators, which is no list mail; `list_id` goes with it.
    """

    sender: Mailbox
    recipient: Mailbox
    message_id: str
    date: datetime
    unsubscribe: str = ""
    list_id: str = ""


def message_id(secret: bytes, scope: Scope, template: str, target: str, domain: str) -> str:
    """`<hex32@domain>`, the same for every attempt at this mail; tells nothing of the address.

    `target` is part of it, because one item may write to several operators.
    """
    parts = (scope.job, scope.slot, scope.key, template, target)
    digest = hmac.new(secret, "\0".join(("message-id", *parts)).encode(), hashlib.sha256).hexdigest()[:32]
    return f"<{digest}@{domain}>"


def mailbox(address: str, name: str = "") -> Mailbox:
    """Check one address; an international domain becomes punycode. Raises Permanent (`address`)."""
    if _CONTROL.search(address) or _SURROGATE.search(address):
        raise Permanent("the address contains a control character: correct it, nothing was sent", code="address")
    if len(address) > ADDRESS_MAX:  # before anybody takes seconds over it
        raise Permanent(f"the address has {len(address)} characters, {ADDRESS_MAX} is the limit", code="address")
    try:
        checked = validate_email(address, check_deliverability=False, allow_smtputf8=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise Permanent(f"the address is not valid: {error} Nothing was sent.", code="address") from error
    if checked.ascii_email is None:
        raise Permanent("the address needs SMTPUTF8, which few relays speak; nothing was sent", code="address")
    return Mailbox(_plain("name", name), checked.ascii_email)


def mailto(address: str, subject: str) -> str:
    """Make a mailto: link that opens a message with this subject."""
    return f"mailto:{quote(address, safe='@')}?subject={quote(subject, safe='')}"


def build(envelope: Envelope, content: Rendered) -> bytes:
    """Write the message as it goes over the wire (CRLF, lines of at most 76); same input, same bytes.

    Raises Permanent (`header`) when a header would not come out as it went in.
    """
    try:
        data = _compose(envelope, content)
    except (UnicodeError, HeaderParseError, ValueError) as error:
        raise Permanent(f"the message cannot be written: {error}; nothing was sent", code="header") from error
    _verify(data, envelope)
    return data


def _compose(envelope: Envelope, content: Rendered) -> bytes:
    """Headers by the standard library, the MIME around the parts by hand: `EmailMessage` takes three times as long."""
    plain = _part("text/plain", content.text)
    if content.html is None:
        return _head(envelope, content.subject) + plain
    page = _with_images(envelope, content.html, content.images)
    # "=_" cannot occur in quoted-printable, so no text can forge the boundary
    boundary = f"=_{hashlib.sha256(envelope.message_id.encode()).hexdigest()[:32]}"
    kind = f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'.encode()
    line = f"--{boundary}\r\n".encode()
    parts = b"".join(line + part + b"\r\n" for part in (plain, page))
    return _head(envelope, content.subject) + kind + parts + f"--{boundary}--\r\n".encode()


def _with_images(envelope: Envelope, html: str, images: Mapping[str, bytes]) -> bytes:
    """The page, and the pictures in it: they come with the mail, so that opening it tells nobody."""
    page = _part("text/html", html)
    if not images:
        return page
    boundary = f"=_r{hashlib.sha256(envelope.message_id.encode()).hexdigest()[:31]}"
    kind = f'Content-Type: multipart/related;\r\n boundary="{boundary}"; type="text/html"\r\n\r\n'.encode()
    parts = [page, *(_image(name, content) for name, content in images.items())]
    line = f"--{boundary}\r\n".encode()
    return kind + b"".join(line + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def _image(name: str, content: bytes) -> bytes:
    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"{name!r} is no name of an image: use letters, digits and _")
    head = (
        f"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <{name}>\r\n"
        f'Content-Disposition: inline; filename="{name}.png"\r\n\r\n'
    )
    return head.encode() + encodebytes(content).replace(b"\n", b"\r\n")


def _head(envelope: Envelope, subject: str) -> bytes:
    headers = (_POLICY.header_factory(name, value) for name, value in _headers(envelope, subject))
    return "".join(header.fold(policy=_POLICY) for header in headers).encode("ascii")


def _part(kind: str, text: str) -> bytes:
    head = f'Content-Type: {kind}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    return head.encode() + b2a_qp(lines.encode(), istext=True).replace(b"\n", b"\r\n")


def _headers(envelope: Envelope, subject: str) -> list[tuple[str, str | Address]]:
    listed = [
        ("List-Id", envelope.list_id),
        ("List-Unsubscribe", f"<{envelope.unsubscribe}>"),
        ("Precedence", "bulk"),
    ]
    return [
        ("From", _address("From", envelope.sender)),
        ("To", _address("To", envelope.recipient)),
        ("Subject", _subject(subject)),
        ("Date", format_datetime(envelope.date)),
        ("Message-ID", _ascii("Message-ID", envelope.message_id)),
        *[(name, _ascii(name, value)) for name, value in listed if envelope.unsubscribe],
        ("Auto-Submitted", "auto-generated"),
        ("MIME-Version", "1.0"),
    ]


def _subject(text: str) -> str:
    text = text.strip(" ")
    if not text:
        raise Permanent("the subject is empty: look at the .subject.j2 template; nothing was sent", code="header")
    if len(text) > SUBJECT_MAX:
        raise Permanent(f"the subject has {len(text)} characters, {SUBJECT_MAX} is the limit", code="header")
    return _plain("subject", text)


def _plain(field: str, text: str) -> str:
    """Return the text, when neither it nor what its encoded words stand for contains a control character."""
    if _SURROGATE.search(text):
        raise Permanent(f"the {field} is not valid Unicode: nothing was sent", code="header")
    if _CONTROL.search(text) or any(_CONTROL.search(word) for word in _decoded(text)):
        raise Permanent(f"the {field} contains a control character or a line break: nothing was sent", code="header")
    return text


def _decoded(text: str) -> list[str]:
    """Read encoded words as some client may: in their charset, and as bare bytes without the upper half."""
    try:
        parts = [(part, charset) for part, charset in decode_header(text) if isinstance(part, bytes)]
        words = [part.decode(charset or "ascii", "replace") for part, charset in parts]
    except (HeaderParseError, ValueError, LookupError) as error:
        raise Permanent(f"a header contains a broken encoded word: {error}; nothing was sent", code="header") from error
    return words + [part.decode("ascii", "ignore") for part, _ in parts]


def _ascii(field: str, text: str) -> str:
    if _CONTROL.search(text) or not text.isascii() or "=?" in text:
        raise Permanent(f"the header {field} contains a character that is not allowed there", code="header")
    return text


def _address(field: str, box: Mailbox) -> Address:
    try:
        return Address(_plain(f"name in {field}", box.name), addr_spec=box.address)
    except (ValueError, HeaderParseError) as error:
        raise Permanent(f"the header {field} cannot be written: {error}; nothing was sent", code="header") from error


def _verify(data: bytes, envelope: Envelope) -> None:
    """Parse what was built: each header one of ours and there once, one recipient, and it is the right one."""
    head = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    parsed = message_from_bytes(head, policy=SMTP)
    names = list(parsed.keys())
    if not HEADERS.issuperset(names) or len(set(names)) != len(names):
        strange = sorted({name for name in names if name not in HEADERS or names.count(name) > 1})
        raise Permanent(f"the message would carry the headers {strange}: somebody tried an injection", code="header")
    to = [address.addr_spec for address in parsed["To"].addresses]
    if to != [envelope.recipient.address] or parsed["Message-ID"] != envelope.message_id:
        raise Permanent("the header To would not come out as it went in: look at the name", code="header")
