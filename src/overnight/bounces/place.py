"""Where mail from outside lies: a maildir, an mbox, or a pipe. Nothing is deleted.

What was counted moves into the maildir's folder `.Counted`, what was not understood into `.Unclear`. An mbox and a pipe
stay as they are: of what was not understood a copy is kept in `var/bounces`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from overnight.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Incoming:
    """One mail as it came; `name` is its file in a maildir."""

    data: bytes
    name: str = ""

    @property
    def digest(self) -> str:
        """What it is known by when it is read again."""
        return hashlib.sha256(self.data).hexdigest()


class Place(Protocol):
    """Mail to be read; `aside` is where what is not understood goes."""

    aside: Path

    def mails(self) -> Iterator[Incoming]:
        """All of it, one at a time."""
        ...

    def done(self, mail: Incoming, *, clear: bool) -> bool:
        """Put it away, counted or not understood; False when somebody else has done it."""
        ...


def opened(path: str, stdin: BinaryIO, aside: Path) -> Place:
    """The maildir or mbox at a path, or `-` for a pipe. Raises ConfigError."""
    if path == "-":
        return Stream(stdin, aside)
    place = Path(path)
    if (place / "cur").is_dir() and (place / "new").is_dir():
        return Maildir(place)
    if place.is_file():
        try:
            return Stream(place.open("rb"), aside)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    raise ConfigError(f"{path} is no maildir (a folder with cur and new), no mbox, and not -")


class Maildir:
    """A folder with a file for each mail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.aside = folder / ".Unclear"

    def mails(self) -> Iterator[Incoming]:
        """All of it; a file that goes away meanwhile was somebody else's to read, and what is no file is no mail."""
        for part in ("new", "cur"):
            for path in sorted(path for path in (self.folder / part).iterdir() if path.is_file()):
                try:
                    yield Incoming(path.read_bytes(), f"{part}/{path.name}")
                except FileNotFoundError:
                    continue

    def done(self, mail: Incoming, *, clear: bool) -> bool:
        """Move the file; a mail program sees the two folders."""
        target = self.folder / ".Counted" if clear else self.aside
        for part in ("cur", "new", "tmp"):
            (target / part).mkdir(parents=True, exist_ok=True)
        source = self.folder / mail.name
        try:
            source.rename(_free(target / "cur" / source.name))
        except FileNotFoundError:
            return False
        return True


class Stream:
    """An mbox, or one mail as a mail server pipes it."""

    def __init__(self, stream: BinaryIO, aside: Path) -> None:
        self.stream, self.aside = stream, aside

    def mails(self) -> Iterator[Incoming]:
        """All of it."""
        with self.stream:
            yield from (Incoming(data) for data in split(self.stream) if data.strip())

    def done(self, mail: Incoming, *, clear: bool) -> bool:
        """Keep a copy of what was not understood, once."""
        if clear:
            return True
        self.aside.mkdir(parents=True, exist_ok=True)
        kept = self.aside / f"{mail.digest[:32]}.eml"
        if not kept.exists():
            partial = kept.with_suffix(".part")
            partial.write_bytes(mail.data)
            partial.rename(kept)
        return True


def split(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Cut an mbox into mails: a new one begins with `From ` after an empty line, or at the very beginning."""
    mail: list[bytes] = []
    empty = True
    for line in lines:
        if empty and line.startswith(b"From "):
            if mail:
                yield b"".join(mail)
            mail.clear()
        else:
            mail.append(line)
        empty = not line.strip()
    if mail:
        yield b"".join(mail)


def _free(path: Path) -> Path:
    """The path, or one beside it: two servers may have named two mails alike."""
    number = 0
    while (found := path if not number else path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return found
