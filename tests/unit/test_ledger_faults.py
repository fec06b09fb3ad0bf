"""A file that is damaged, gone, locked or on a full disk: told by name, and nothing more is done."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from overnight import ledger as engine
from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.presence import marker
from overnight.ledger.tables import meta
from tests.slots import ManualClock, open_ledger, rows

FILE = "ledger.db"
KILLED = """
import os, sys
from pathlib import Path
from sqlalchemy import insert
from overnight.ledger import Ledger
from overnight.ledger.tables import meta
ledger = Ledger.open(sys.argv[1])
ledger.writing(lambda connection: connection.execute(insert(meta).values(name="left", value="x" * 100000)))
os._exit(9)
"""


def put(ledger: Ledger, name: str, size: int = 1) -> None:
    """Write something of a size."""
    ledger.writing(lambda connection: connection.execute(insert(meta).values(name=name, value="x" * size)))


def names(ledger: Ledger) -> set[str]:
    return {row["name"] for row in rows(ledger, meta)}


def killed(folder: Path) -> Path:
    """A ledger whose last process was killed after a commit; returns its file."""
    done = subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{folder}/{FILE}"], check=False)
    assert done.returncode == 9
    return folder / FILE


def test_after_a_kill_everything_that_was_committed_is_there(tmp_path: Path) -> None:
    file = killed(tmp_path)
    assert file.with_name(f"{FILE}-wal").exists()
    ledger = open_ledger(tmp_path, ManualClock())
    assert ledger.presence.unclean
    assert "left" in names(ledger)
    ledger.close()
    again = open_ledger(tmp_path, ManualClock())
    assert not again.presence.unclean
    again.close()


def test_a_lost_write_ahead_log_is_refused_and_can_be_accepted(tmp_path: Path) -> None:
    file = killed(tmp_path)
    file.with_name(f"{FILE}-wal").unlink()
    with pytest.raises(LedgerFault, match=r"ledger\.db-wal is gone.*overnight restore.*rm .*ledger\.db-open") as told:
        open_ledger(tmp_path, ManualClock())
    assert told.value.code == "ledger_gone"
    marker(file).unlink()
    ledger = open_ledger(tmp_path, ManualClock())
    assert "left" not in names(ledger), "it was in the log"
    ledger.close()


def test_another_program_may_open_and_close_what_a_killed_process_left(tmp_path: Path) -> None:
    file = killed(tmp_path)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("SELECT count(*) FROM meta").fetchone()
    assert not file.with_name(f"{FILE}-wal").exists(), "SQLite has put it into the file"
    ledger = open_ledger(tmp_path, ManualClock())
    assert ledger.presence.unclean
    assert "left" in names(ledger)
    ledger.close()


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_a_ledger_that_was_there_and_is_not_any_more_is_not_begun_anew(tmp_path: Path, how: str) -> None:
    open_ledger(tmp_path, ManualClock()).close()
    file = tmp_path / FILE
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(b"")
    with pytest.raises(LedgerFault, match="though there was one"):
        open_ledger(tmp_path, ManualClock())
    assert not file.exists() or file.stat().st_size == 0
    marker(file).unlink()
    open_ledger(tmp_path, ManualClock()).close()


def test_the_newest_backup_is_named(tmp_path: Path) -> None:
    open_ledger(tmp_path, ManualClock()).close()
    for name in ("20261120T070000Z", "20261121T070000Z"):
        (tmp_path / "backups" / name).mkdir(parents=True)
        (tmp_path / "backups" / name / "ledger.db").touch()
    (tmp_path / FILE).unlink()
    with pytest.raises(LedgerFault, match=f"overnight restore {tmp_path}/backups/20261121T070000Z"):
        open_ledger(tmp_path, ManualClock())


@pytest.mark.parametrize("where", ["the middle", "the end"])
def test_a_file_damaged_in_its_middle_or_cut_short_is_found_by_the_check(tmp_path: Path, where: str) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    for n in range(50):
        put(ledger, f"row-{n}", 3000)
    ledger.close()
    file = tmp_path / FILE
    data = bytearray(file.read_bytes())
    if where == "the middle":
        for page in range(20, 40):
            data[page * 4096 : page * 4096 + 4096] = os.urandom(4096)
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 2])
    with pytest.raises(LedgerFault, match=r"is damaged: .*nothing is sent.*no backup") as told:
        open_ledger(tmp_path, ManualClock()).check()
    assert told.value.code == "ledger_damaged"
    assert file.stat().st_size in (len(data), len(data) // 2), "nobody touched it"


def test_after_damage_was_found_nothing_is_written(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    ledger.faults.found = LedgerFault("damaged", "the ledger is damaged: a page")
    with pytest.raises(LedgerFault, match="a page"):
        put(ledger, "more")
    assert names(ledger) == {"schema"}
    ledger.close()


@pytest.mark.parametrize("how", ["deleted", "replaced", "its log deleted"])
def test_a_file_that_goes_away_while_it_is_open_is_saved_and_written_no_more(tmp_path: Path, how: str) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    put(ledger, "before")
    file = tmp_path / FILE
    if how == "deleted":
        file.unlink()
    elif how == "replaced":
        shutil.copy(file, tmp_path / "other.db")
        (tmp_path / "other.db").replace(file)
    else:
        file.with_name(f"{FILE}-wal").unlink()
    for _ in range(2):
        with pytest.raises(LedgerFault, match=r"saved as .*ledger\.db\.rescued: `overnight restore"):
            put(ledger, "after")
    with closing(sqlite3.connect(tmp_path / f"{FILE}.rescued")) as rescued:
        assert {row[0] for row in rescued.execute("SELECT name FROM meta")} == {"schema", "before"}
    assert not (tmp_path / f"{FILE}.rescued-2").exists(), "once is enough"
    ledger.close()


async def test_a_lock_held_by_another_program_is_told_and_is_over_when_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)
    ledger = open_ledger(tmp_path, ManualClock())
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerFault, match=r"is locked: another program.*fuser -v .*nothing is repeated") as told:
            await ledger.write(lambda connection: connection.execute(insert(meta).values(name="a", value="b")))
        other.execute("ROLLBACK")
    assert told.value.code == "ledger_locked"
    await ledger.write(lambda connection: connection.execute(insert(meta).values(name="a", value="b")))
    assert "a" in names(ledger)
    ledger.close()


def full(ledger: Ledger) -> None:
    """Let the file grow no more: what SQLite itself calls a full disk."""
    with ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_refuses_everything_until_somebody_tries_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    full(ledger)
    with pytest.raises(LedgerFault, match="the disk is full") as told:
        put(ledger, "large", 100_000)
    assert told.value.code == "ledger_full"
    with pytest.raises(LedgerFault, match="the disk is full"):
        put(ledger, "small")
    ledger.faults.forgive()
    put(ledger, "small")
    ledger.check()
    assert names(ledger) == {"schema", "small"}
    ledger.close()


def test_an_error_of_the_disk_is_never_forgiven(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = 1034, "SQLITE_IOERR_FSYNC"  # type: ignore[misc]
    fault = ledger.faults.of(error)
    assert fault is not None
    assert "SQLITE_IOERR_FSYNC" in str(fault)
    ledger.faults.forgive()
    with pytest.raises(LedgerFault, match="nothing is tried a second time"):
        put(ledger, "more")
    ledger.close()


def test_an_error_of_a_statement_is_no_fault_of_the_file(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    with pytest.raises(Exception, match="no such table"):
        ledger.writing(lambda connection: connection.execute(text("SELECT * FROM nowhere")))
    put(ledger, "afterwards")
    ledger.close()
