"""Mail as files: `outbox:var/outbox` delivers into a folder that can be browsed.

    <folder>/index.html
    <folder>/<job>/<slot>/index.html
    <folder>/<job>/<slot>/<message id>.eml       the message, byte for byte
    <folder>/<job>/<slot>/<message id>.html      its HTML part, to look at

A file name is a Message-ID and is created exclusively, so a message is delivered exactly once, whatever crashes.
`<folder>/.bounces` lists addresses, one a line, that are refused with 550: for rehearsing a bounce.
"""

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.parser import BytesParser
from html import escape
from pathlib import Path
from urllib.parse import quote

from overnight import logs
from overnight.clock import token
from overnight.durable import sync
from overnight.errors import Stop
from overnight.mail.replies import Bounced
from overnight.mail.transport import Intent, Letter
from overnight.plurals import counted

_UNSAFE = re.compile(r"[^A-Za-z0-9._@+-]+")
_NAME_MAX = 100
_HEAD_MAX = 16_384  # bytes read of each message for the index: all headers, no bodies
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}
th,td{{text-align:left;padding:.5rem .75rem .5rem 0;border-bottom:1px solid #8884;vertical-align:top}}
th{{font-weight:600}} td:first-child{{overflow-wrap:anywhere}} .links{{white-space:nowrap}}
</style></head><body>
<h1>{title}</h1>
<p>{lead}</p>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


@dataclass(slots=True)
class Outbox:
    """The transport that delivers into `folder`; it reconciles itself by file name."""

    folder: Path
    place: str
    real: bool = False
    reconciles: bool = True
    _touched: set[Path] = field(default_factory=set)
    _bounces: frozenset[str] | None = None

    async def send(self, letter: Letter, intent: Intent) -> None:
        """Write the message; one that is already there is delivered and fine.

        Raises Bounced (`smtp_550`) for an address in `.bounces`, Stop (`outbox`) when the folder cannot be written.
        """
        if letter.recipient.casefold() in self._refused():
            said = "550 5.1.1 the outbox bounces this address: it stands in .bounces"
            raise Bounced(said, code="smtp_550", verdict="hard", status="5.1.1")
        await intent()
        await asyncio.to_thread(self._deliver, letter)

    async def delivered(self, letter: Letter) -> bool:
        """Whether the file of this message exists."""
        return await asyncio.to_thread(self._path(letter).exists)

    async def close(self) -> None:
        """Rewrite the index of each folder that got mail, and the one above.

        Never raises for a page that cannot be written: the mails are there, and the next run writes it.
        """
        if not self._touched:
            return
        try:
            await asyncio.to_thread(self._index)
        except OSError as error:
            remedy = f"free space or correct the rights of {self.folder}; the next run writes it"
            logs.get().warning("the index of the outbox could not be written", error=str(error), remedy=remedy)

    def _path(self, letter: Letter) -> Path:
        return folder_of(self.folder, *letter.folder) / f"{safe_name(letter.message_id.strip('<>'))}.eml"

    def _deliver(self, letter: Letter) -> None:
        path = self._path(letter)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if letter.html is not None:
                _replace(path.with_suffix(".html"), letter.html.encode())
            _create(path, letter.data)
        except OSError as error:
            raise Stop(
                f"the outbox cannot write {path}: {error.strerror}; free space or correct the rights of {self.folder}",
                code="outbox",
            ) from error
        self._touched.add(path.parent)

    def _refused(self) -> frozenset[str]:
        if self._bounces is None:
            try:
                lines = (self.folder / ".bounces").read_text(encoding="utf-8").splitlines()
            except (FileNotFoundError, NotADirectoryError):
                lines = []
            self._bounces = frozenset(line.strip().casefold() for line in lines if line.strip())
        return self._bounces

    def _index(self) -> None:
        write_index(self.folder, self._touched)
        self._touched.clear()


def write_index(outbox: Path, slots: Iterable[Path]) -> None:
    """Write the pages of these slots' folders anew, and the one above them."""
    for folder in sorted(slots):
        _replace(folder / "index.html", _slot_page(folder).encode())
    _replace(outbox / "index.html", _top_page(outbox).encode())


def folder_of(outbox: Path, job: str, slot: str) -> Path:
    """Where the messages of a slot are."""
    return outbox / safe_name(job) / safe_name(slot)


def write_text(message: Path) -> Path:
    """Write the plain part of a message beside it, to look at; returns the file."""
    part = BytesParser(policy=policy.default).parsebytes(message.read_bytes()).get_body(("plain",))
    file = message.with_suffix(".txt")
    _replace(file, b"" if part is None else str(part.get_content()).replace("\r\n", "\n").encode())
    return file


def safe_name(name: str) -> str:
    """Make a file name of this: no separators, not hidden, not `.` or `..`, at most 100 characters."""
    return _UNSAFE.sub("-", name).lstrip(".")[:_NAME_MAX] or "-"


def _temporary(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{token(8)}.tmp")
    with _gone_unless_whole(temporary), temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _create(path: Path, data: bytes) -> None:
    """Make the file appear whole or not at all, and never over another one: a link, where a rename would overwrite."""
    if path.exists():
        return
    temporary = _temporary(path, data)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
    sync(path.parent)


def _replace(path: Path, data: bytes) -> None:
    """Swap in a file that can be made again at any time: no sync, just never half of it."""
    temporary = path.with_name(f".{token(8)}.tmp")
    with _gone_unless_whole(temporary):
        temporary.write_bytes(data)
        temporary.replace(path)


@contextmanager
def _gone_unless_whole(temporary: Path) -> Iterator[None]:
    """Half a file on a disk that is full is the last thing it needs."""
    try:
        yield
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _slot_page(folder: Path) -> str:
    rows = [_slot_row(path) for path in sorted(folder.glob("*.eml"))]
    lead = f'{counted(len(rows), "message")}. <a href="../../index.html">All folders</a>'
    title = f"{folder.parent.name} {folder.name}"
    return _page(title, lead, ("To", "Subject", "Date", "Open"), sorted(rows))


def _slot_row(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD_MAX)
    message = BytesParser(policy=policy.default).parsebytes(head, headersonly=True)
    links = [f'<a href="{quote(path.name)}">.eml</a>']
    if path.with_suffix(".html").exists():
        links.insert(0, f'<a href="{quote(path.with_suffix(".html").name)}">view</a>')
    cells = [escape(str(message[name])) for name in ("To", "Subject", "Date")]
    return _row([*cells, f'<span class="links">{" · ".join(links)}</span>'])


def _top_page(folder: Path) -> str:
    rows = []
    for slot in sorted(folder.glob("*/*/"), reverse=True):
        count = sum(1 for _ in slot.glob("*.eml"))
        link = f"{quote(slot.parent.name)}/{quote(slot.name)}/index.html"
        rows.append(_row([f'<a href="{link}">{escape(slot.parent.name)} {escape(slot.name)}</a>', str(count)]))
    return _page("Outbox", "Mail that was filed here instead of being sent.", ("Folder", "Messages"), rows)


def _row(cells: list[str]) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _page(title: str, lead: str, heads: tuple[str, ...], rows: list[str]) -> str:
    return _PAGE.format(
        title=escape(title), lead=lead, heads="".join(f"<th>{head}</th>" for head in heads), rows="\n".join(rows)
    )
