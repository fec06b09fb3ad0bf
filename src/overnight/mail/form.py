"""A mail for many readers: written and encoded once but for its open places, then filled in for each.

Quoted-printable breaks long lines, so a line with an open place is encoded when it is filled in; all others once. What
comes out is, byte for byte, what rendering for that reader alone would give.
"""

import hashlib
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from overnight.errors import Permanent, Stop
from overnight.mail.blanks import Pattern
from overnight.mail.message import Envelope, Heading, personal_headers, shared_headers, subject_header, verify
from overnight.mail.templates import Draft, Rendered

HTML_MAX = 100_000  # bytes: Gmail hides what is beyond 102 kB behind a link, and with it the way to unsubscribe
_KIND = 'Content-Type: {}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'

_Piece = bytes | Pattern


@dataclass(slots=True)
class Form:
    """A mail with open places. Raises Stop (`template`) for too much HTML, Permanent (`header`) for a bad subject."""

    heading: Heading
    draft: Draft
    _head: bytes = b""
    _body: tuple[_Piece, ...] = ()
    _verified: bool = field(default=False)

    def __post_init__(self) -> None:
        """Write what all readers share."""
        if self.heading.list_id and self.draft.html is not None:
            _check_size(self.draft.html)
        subject = self.draft.subject
        self._head = shared_headers(self.heading, subject.fill({}) if subject.fixed else None)
        try:
            self._body = tuple(_joined(_body(self.draft, self.heading)))
        except UnicodeError as error:
            raise Permanent(f"the message cannot be written: {error}; nothing was sent", code="header") from error

    def fits(self, values: Mapping[str, str]) -> bool:
        """Whether it is for a reader with these values."""
        return all(bool(gap.of(values)) is truth for gap, truth in self.draft.conditions.items())

    def fill(self, envelope: Envelope, values: Mapping[str, str]) -> bytes:
        """The message as it goes over the wire: CRLF, lines of at most 100. Raises Permanent (`header`)."""
        head = [self._head, personal_headers(envelope)]
        if not self.draft.subject.fixed:
            head.append(subject_header(self.heading.mark + self.draft.subject.fill(values)))
        body = [piece if isinstance(piece, bytes) else _quoted(piece.fill(values)) for piece in self._body]
        data = b"".join([*head, *body])
        if not self._verified:  # the personal headers are checked each time, by their grammar
            verify(data, envelope)
            self._verified = True
        return data

    def html(self, values: Mapping[str, str]) -> str | None:
        """The HTML part for one reader."""
        return None if self.draft.html is None else self.draft.html.fill(values)


def build(heading: Heading, envelope: Envelope, content: Rendered) -> bytes:
    """Write a message for one reader; same input, same bytes. Raises Permanent (`header`), Stop (`template`)."""
    return Form(heading, Draft.of(content)).fill(envelope, {})


def _check_size(html: Pattern) -> None:
    size = sum(len(piece.encode()) for piece in html.pieces if isinstance(piece, str))
    if size > HTML_MAX:
        raise Stop(
            f"the HTML of this mail has {size:,} bytes, and Gmail hides what is beyond {HTML_MAX:,}: send fewer or "
            "shorter stories, or shorten the template; nothing was sent",
            code="template",
        )


def _body(draft: Draft, heading: Heading) -> Iterator[_Piece]:
    """The MIME around the parts by hand: `EmailMessage` takes some hundred times as long."""
    if draft.html is None:
        yield from _part("text/plain", draft.text)
        return
    yield from _parts("alternative", heading, [_part("text/plain", draft.text), _page(draft, heading)])


def _page(draft: Draft, heading: Heading) -> Iterator[_Piece]:
    """The HTML, and the pictures in it: they come with the mail, so that opening it tells nobody."""
    page = _part("text/html", draft.html or Pattern(()))
    pictures = [_picture(name, content) for name, content in draft.images.items()]
    return _parts("related", heading, [page, *pictures], '; type="text/html"') if pictures else page


def _parts(kind: str, heading: Heading, parts: Iterable[Iterable[_Piece]], more: str = "") -> Iterator[_Piece]:
    # "=_" cannot occur in quoted-printable, nor in base64, so nothing can forge the boundary
    boundary = f"=_{hashlib.sha256(f'{kind} {heading!r}'.encode()).hexdigest()[:32]}"
    yield f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"{more}\r\n\r\n'.encode()
    for part in parts:
        yield f"--{boundary}\r\n".encode()
        yield from part
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _picture(name: str, content: bytes) -> list[bytes]:
    if not name.isidentifier() or not name.isascii():
        raise Stop(f"images: {name!r} is no name of a picture: use letters, digits and _", code="template")
    head = (
        f"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <{name}>\r\n"
        f'Content-Disposition: inline; filename="{name}.png"\r\n\r\n'
    )
    return [head.encode(), encodebytes(content).replace(b"\n", b"\r\n")]


def _part(kind: str, text: Pattern) -> Iterator[_Piece]:
    yield _KIND.format(kind).encode()
    *lines, last = text.lines()
    for line in lines if last.pieces == ("",) else (*lines, last):
        yield _quoted(line.fill({})) if line.fixed else line


def _quoted(line: str) -> bytes:
    return b2a_qp(f"{line}\n".encode(), istext=True).replace(b"\n", b"\r\n")


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Join neighbours that are the same for everybody."""
    fixed: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            fixed.append(piece)
        else:
            yield b"".join(fixed)
            yield piece
            fixed.clear()
    yield b"".join(fixed)
