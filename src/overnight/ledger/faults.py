"""What can be wrong with the ledger's file, in words: what was found, what to do, and what is lost.

Whoever cannot write here must not act outside either, for nothing of it could be recorded: each fault is a Stop. All
but a lock are remembered, and every later transaction of the process is refused with them: after a failed fsync nobody
knows what the disk has, and a second try would seem to succeed.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from overnight.errors import Stop

Kind = Literal["locked", "full", "io", "readonly", "damaged", "gone"]

# Primary result codes, https://www.sqlite.org/rescode.html
_KINDS: dict[int, Kind] = {5: "locked", 8: "readonly", 10: "io", 11: "damaged", 13: "full", 26: "damaged"}


class LedgerFault(Stop):
    """The ledger cannot be written: nothing more may happen, for nothing of it could be recorded."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message, code=f"ledger_{kind}")
        self.kind = kind


@dataclass(slots=True)
class Faults:
    """The faults of one file in this process; `found` is the one that refuses every transaction from now on."""

    file: Path
    found: LedgerFault | None = None

    def watch(self, engine: Engine) -> None:
        """Turn the driver's errors into faults, and refuse to begin anything after one."""

        @event.listens_for(engine, "handle_error")
        def translate(context: ExceptionContext) -> LedgerFault | None:
            return self.of(context.original_exception)

    def of(self, error: BaseException) -> LedgerFault | None:
        """The fault behind an error of the driver, remembered; None when it is no trouble of the file."""
        code = getattr(error, "sqlite_errorcode", None)
        kind = _KINDS.get(code & 0xFF) if isinstance(error, sqlite3.Error) and code is not None else None
        if kind is None:
            return None
        fault = LedgerFault(kind, f"the ledger {self.file} {_said(kind, self.file, error)}")
        if kind != "locked":
            self.found = fault
        return fault

    def refuse(self) -> None:
        """Raise what was found before. Raises LedgerFault."""
        if self.found is not None:
            raise LedgerFault(self.found.kind, str(self.found))

    def forgive(self) -> None:
        """Try a disk again that was full: its transaction was undone as a whole, so nothing is in doubt."""
        if self.found is not None and self.found.kind == "full":
            self.found = None


def _said(kind: Kind, file: Path, error: BaseException) -> str:
    match kind:
        case "locked":
            return (
                "is locked: another program has been writing to it for a minute without an end (a database browser "
                "with changes not saved, a stopped process). Nothing more was done. Find it "
                f"with `fuser -v {file}`, let it finish or end it, and give the command again: nothing is repeated"
            )
        case "full":
            return (
                "cannot grow: the disk is full. The run stopped before its next side effect, what was recorded stands. "
                f"Free some space ({file.parent} is on that disk; `overnight vacuum` shrinks the ledger afterwards) "
                "and give the command again: nothing is repeated"
            )
        case "io" | "readonly":
            return (
                f"cannot be written: {error} ({getattr(error, 'sqlite_errorname', '')}). Nothing more was done and "
                "nothing is tried a second time, for after such an error only a new process knows what the disk has. "
                "Look at the disk (`dmesg`), its mount and the file's rights, and give the command again: it "
                "checks the file first"
            )
        case "damaged":
            return f"is damaged: {error}. {way_out(file)}"
        case "gone":
            return str(error)


def way_out(file: Path) -> str:
    """What to do about a damaged or missing file, and what is lost by it."""
    newest = newest_backup(file)
    if newest is None:
        recover = (
            f". Without any, save what can be read: `sqlite3 {file} .recover | sqlite3 recovered.db`, look at it, and "
            "put it in the place of the file"
        )
        return (
            f"Nothing was done with it, and nothing is sent. There is no backup under {file.parent / 'backups'}; if "
            f"you keep them elsewhere: `overnight restore FOLDER`{recover if file.exists() else ''}"
        )
    return (
        f"Nothing was done with it, and nothing is sent. The newest backup is {newest}: `overnight restore {newest}` "
        "puts it in place and keeps this file aside; what was recorded after that backup is lost, and the command says "
        "what that means"
    )


def newest_backup(file: Path) -> Path | None:
    """The newest backup in the folder where `overnight backup` puts them by itself."""
    found = sorted(path.parent for path in (file.parent / "backups").glob("[!.]*/ledger.db"))  # hidden: half-made
    return found[-1] if found else None
