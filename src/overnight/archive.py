"""A page of each edition for the web, beside the reports: `archive/<job>/<slot>/<hash>.html`.

It is in the spool before the first mail that links to it goes out, so the link holds whatever happens to the run. The
hash is of the page: a run that is continued makes the same one, and readers of other topics have another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from overnight import logs
from overnight.mail.outbox import safe_name
from overnight.storage import add_to
from overnight.storage.store import digest

FOLDER = "archive"


@dataclass(frozen=True, slots=True)
class Archive:
    """Keeps pages with `put`; `url` is where the world reads the folder `archive`, or "" when it cannot."""

    url: str
    put: Callable[[str, bytes], object]
    _kept: set[str] = field(default_factory=set)

    @classmethod
    def spooled(cls, spool: Path, url: str) -> Self:
        """Pages go into this spool, and with the reports into the store."""
        return cls(url.rstrip("/"), lambda key, page: add_to(spool, [(key, page)]))

    @classmethod
    def shown(cls, url: str) -> Self:
        """For a rehearsal: mails look as they would, and nothing is kept."""
        return cls(url.rstrip("/"), lambda _key, _page: None)

    def keep(self, job: str, slot: str, page: bytes) -> str:
        """Keep a page; returns its address, "" when it has none. A disk that is full costs the page, not the mail."""
        name = f"{safe_name(job)}/{safe_name(slot)}/{digest(page)[:12]}.html"
        if name not in self._kept:
            try:
                self.put(f"{FOLDER}/{name}", page)
            except OSError as error:
                logs.get().warning("a page of the archive could not be kept", page=name, error=str(error))
                return ""
            self._kept.add(name)
        return f"{self.url}/{name}" if self.url else ""
