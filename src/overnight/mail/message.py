"""Addresses and headers, so that nobody can inject one.

The standard library alone is not enough: it lets NUL through, accepts two recipients, and some versions of it turn an
encoded word with a line break into a real header. So text is checked before, and what was written is read again: the
headers that all readers share by a parser, once, and those of each reader by a grammar that knows nothing else.
"""

import hmac
import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from email import message_from_string
from email.errors import HeaderParseError
from email.header import decode_header
from email.policy import SMTPUTF8
from email.utils import format_datetime
from textwrap import wrap
from urllib.parse import quote

from email_validator import EmailNotValidError, validate_email

from overnight.errors import ConfigError, Permanent
from overnight.outcome import Scope

SHARED = frozenset({
    "From", "Subject", "List-Id", "Feedback-ID", "List-Unsubscribe-Post", "Precedence", "Auto-Submitted",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
})  # fmt: skip
PERSONAL = frozenset({"To", "Subject", "Date", "Message-ID", "List-Unsubscribe"})
HEADERS = SHARED | PERSONAL
SUBJECT_MAX = 200
ADDRESS_MAX = 254  # RFC 5321: a path of 256 with its angle brackets
LINE_MAX = 100  # octets; only an address or a link that is longer by itself makes a longer line
_WORD_MAX = 45  # octets in an encoded word, so that a line of them has at most 76
# C0, DEL, C1 and the line separators of Unicode: some reader takes each of them for the end of a line
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# addresses that the validator returns unchanged, in a twentieth of its time; a test compares the two
_ORDINARY = re.compile(
    r"(?=.{1,64}@)[A-Za-z0-9_+]+(?:[.-][A-Za-z0-9_+]+)*"
    r"@(?:[a-z0-9]{1,63}\.)+(?!(?:test|local|localhost|invalid|onion|arpa)$)[a-z]{2,24}"
)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/^_`{|}~-]+)*")
_WORDS = re.compile(r"[\x21-\x7e]{1,60}(?: [\x21-\x7e]{1,60})*")
# an address or a link: printable, without blank, angle bracket or control; beyond ASCII only for SMTPUTF8
_ANGLE = rb"<[\x21-\x3b\x3d\x3f-\x7e\x80-\xff]+>"
_WORD = rb"=\?utf-8\?b\?[A-Za-z0-9+/=]+\?="
_PERSONAL = re.compile(
    rb"To: (?:(?:" + _ATOMS.pattern.encode() + rb"|\"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\"\\])*\"|"
    rb"" + _WORD + rb"(?:\r\n " + _WORD + rb")*)(?:\r\n)? )?" + _ANGLE + rb"\r\n"
    rb"Date: [A-Za-z0-9:,+ -]+\r\n"
    rb"Message-ID: <[\x21-\x3b\x3d\x3f-\x7e]+@[\x21-\x3b\x3d\x3f-\x7e]+>\r\n"
    rb"(?:List-Unsubscribe:(?:\r\n)? " + _ANGLE + rb"(?:,\r\n " + _ANGLE + rb")*\r\n)?"
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name and one checked address, which is ASCII unless `utf8`."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]

    @property
    def utf8(self) -> bool:
        """Whether only servers with SMTPUTF8 know such an address."""
        return not self.address.isascii()


@dataclass(frozen=True, slots=True)
class Heading:
    """The headers that all readers of a mail share.

    `list_id` and `feedback_id` are "" for mail to operators, which is no list mail. `one_click`: the links to
    unsubscribe begin with one of https that takes a POST (RFC 8058). `mark` begins each subject.
    """

    sender: Mailbox
    list_id: str = ""
    feedback_id: str = ""
    one_click: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of one reader; `unsubscribe` are links, the best one first."""

    recipient: Mailbox
    message_id: str
    date: datetime
    unsubscribe: tuple[str, ...] = ()


def message_id(secret: bytes, scope: Scope, template: str, target: str, domain: str) -> str:
    """`<hex32@domain>`, the same for every attempt at this mail; tells nothing of the address.

    `target` is part of it, because one item may write to several operators.
    """
    parts = ("message-id", scope.job, scope.slot, scope.key, template, target)
    return f"<{hmac.digest(secret, chr(0).join(parts).encode(), 'sha256').hex()[:32]}@{domain}>"


def mailbox(address: str, name: str = "") -> Mailbox:
    """Check one address; an international domain becomes punycode. Raises Permanent (`address`)."""
    if len(address) <= ADDRESS_MAX and _ORDINARY.fullmatch(address):
        return Mailbox(_plain("name", name), address)
    if _CONTROL.search(address) or _SURROGATE.search(address):
        raise Permanent("the address contains a control character: correct it, nothing was sent", code="address")
    if len(address) > ADDRESS_MAX:  # before anybody takes seconds over it
        raise Permanent(f"the address has {len(address)} characters, {ADDRESS_MAX} is the limit", code="address")
    try:
        checked = validate_email(address, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise Permanent(f"the address is not valid: {error} Nothing was sent.", code="address") from error
    return Mailbox(_plain("name", name), checked.ascii_email or f"{checked.local_part}@{checked.ascii_domain}")


def configured(name: str, value: str) -> Mailbox:
    """Read `Name <address>` or an address out of schedule.yaml. Raises ConfigError."""
    display, _, rest = value.rpartition("<")
    address = rest.removesuffix(">").strip() if rest.endswith(">") else value.strip()
    try:
        return mailbox(address, display.strip().strip('"') if rest.endswith(">") else "")
    except Permanent as error:
        raise ConfigError(f'mail: {name}: {value!r}: {error} Write "The Site <news@example.org>".') from error


def mailto(address: str, subject: str) -> str:
    """Make a mailto: link that opens a message with this subject."""
    return f"mailto:{quote(address, safe='@')}?subject={quote(subject, safe='')}"


def shared_headers(heading: Heading, subject: str | None) -> bytes:
    """The headers that all readers share; `subject` None when each has their own. Raises Permanent (`header`)."""
    lines = [_named("From", heading.sender)]
    if heading.list_id:
        lines += [f"List-Id: {_ascii('List-Id', heading.list_id)}"]
        lines += [f"Feedback-ID: {_ascii('Feedback-ID', heading.feedback_id)}"]
        lines += ["List-Unsubscribe-Post: List-Unsubscribe=One-Click"] if heading.one_click else []
        lines += ["Precedence: bulk"]
    lines += ["Auto-Submitted: auto-generated", "MIME-Version: 1.0", ""]
    head = "\r\n".join(lines).encode()
    return head if subject is None else head + subject_header(heading.mark + subject)


def personal_headers(envelope: Envelope) -> bytes:
    """The headers of one reader, checked by a grammar that has room for nothing else. Raises Permanent (`header`)."""
    lines = [
        _named("To", envelope.recipient),
        f"Date: {format_datetime(envelope.date)}",
        f"Message-ID: {envelope.message_id}",
    ]
    if envelope.unsubscribe:
        lines.append(_links("List-Unsubscribe", envelope.unsubscribe))
    head = "\r\n".join((*lines, "")).encode()
    if not _PERSONAL.fullmatch(head):
        raise Permanent(
            "the headers To, Message-ID or List-Unsubscribe contain what is not allowed there: look at the name, and "
            "at mail: unsubscribe_to and public_url; nothing was sent",
            code="header",
        )
    return head


def subject_header(text: str) -> bytes:
    """One Subject, folded; a long one ends at a word. Raises Permanent (`header`) for one that is empty or hostile."""
    text = text.strip(" ")
    if not text:
        raise Permanent("the subject is empty: look at the .subject.j2 template; nothing was sent", code="header")
    return f"Subject: {_folded(_plain('subject', _cut(text)))}\r\n".encode()


def verify(data: bytes, envelope: Envelope) -> None:
    """Parse what was built: each header one of ours and there once, one recipient, and it is the right one."""
    head = data.partition(b"\r\n\r\n")[0].decode() + "\r\n\r\n"
    parsed = message_from_string(head, policy=SMTPUTF8)
    names = list(parsed.keys())
    if not HEADERS.issuperset(names) or len(set(names)) != len(names) or _CONTROL.search(head.replace("\r\n", "")):
        strange = sorted({name for name in names if name not in HEADERS or names.count(name) > 1})
        raise Permanent(f"the message would carry the headers {strange}: somebody tried an injection", code="header")
    to = [address.addr_spec for address in parsed["To"].addresses]
    if to != [envelope.recipient.address] or parsed["Message-ID"] != envelope.message_id:
        raise Permanent("the header To would not come out as it went in: look at the name", code="header")


def _named(header: str, box: Mailbox) -> str:
    """`To: Jane Doe <jane@example.org>`, the name as it is, quoted, or in encoded words."""
    where = f"<{box.address}>"
    name = _plain(f"name in {header}", box.name)
    if not name:
        return f"{header}: {where}"
    room = LINE_MAX - len(header) - len(where) - 5
    if len(name) <= room and _ATOMS.fullmatch(name):
        return f"{header}: {name} {where}"
    if len(name) <= room // 2 and name.isascii() and "=?" not in name:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'{header}: "{quoted}" {where}'
    return f"{header}: {_encoded(name)}\r\n {where}"


def _cut(text: str) -> str:
    """As much of a subject as there is room for: an alert about too many things is told all the same."""
    if len(text) <= SUBJECT_MAX:
        return text
    text = text[: SUBJECT_MAX - 2]
    words = text.rpartition(" ")[0]
    return f"{words if len(words) > SUBJECT_MAX / 2 else text} …"  # some languages have no blanks


def _folded(text: str) -> str:
    """Text in lines of at most 78 where its blanks allow it, otherwise in encoded words."""
    if not _WORDS.fullmatch(text) or "=?" in text:
        return _encoded(text)
    return "\r\n ".join(wrap(f"Subject: {text}", 77, break_long_words=False, break_on_hyphens=False))[
        len("Subject: ") :
    ]


def _encoded(text: str) -> str:
    """Encoded words (RFC 2047), one a line."""
    return "\r\n ".join(f"=?utf-8?b?{b64encode(part).decode()}?=" for part in _chunks(text))


def _chunks(text: str) -> list[bytes]:
    """The text in UTF-8, cut between characters into what fits into encoded words."""
    chunks = [b""]
    for letter in text:
        octets = letter.encode()
        if len(chunks[-1]) + len(octets) > _WORD_MAX:
            chunks.append(b"")
        chunks[-1] += octets
    return chunks


def _links(header: str, links: tuple[str, ...]) -> str:
    """Links in angle brackets, one a line; a long first one stands below the name of its header."""
    first = "\r\n " if len(header) + len(links[0]) + 5 > LINE_MAX else " "
    return f"{header}:{first}" + ",\r\n ".join(f"<{link}>" for link in links)


def _plain(field: str, text: str) -> str:
    """Return the text, when neither it nor what its encoded words stand for contains a control character."""
    if _SURROGATE.search(text):
        raise Permanent(f"the {field} is not valid Unicode: nothing was sent", code="header")
    if _CONTROL.search(text) or ("=?" in text and any(_CONTROL.search(word) for word in _decoded(text))):
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
