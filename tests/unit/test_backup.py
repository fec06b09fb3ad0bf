"""Backups while everything runs, and the way back: what is replaced is kept, what is damaged is not put in place."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from overnight.backup import Pausing, back_up, restore
from overnight.errors import ConfigError, Refused, Stop
from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.faults import newest_backup
from overnight.ledger.tables import entry, meta
from overnight.occurrences import register
from overnight.triggers import Listed
from tests.slots import NOW, ManualClock, rows


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "secret").write_text("s3cr3t")
    opened = Ledger.open("sqlite:///var/overnight.db", root=tmp_path, clock=ManualClock())
    yield opened
    opened.close()


def note(ledger: Ledger, name: str) -> None:
    ledger.writing(lambda connection: connection.execute(insert(meta).values(name=name, value="x")))


def names(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM meta")} - {"schema"}


def test_a_backup_has_what_is_committed_also_what_is_only_in_the_write_ahead_log(
    ledger: Ledger, tmp_path: Path
) -> None:
    note(ledger, "before")
    with ledger.engine.begin() as connection:
        connection.execute(insert(meta).values(name="not committed", value="x"))
        made = back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    assert names(made.folder / "ledger.db") == {"before"}
    assert sorted(path.name for path in made.folder.iterdir()) == ["ledger.db", "secret"]
    assert {oct(path.stat().st_mode & 0o777) for path in made.folder.iterdir()} == {"0o600"}
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert made.folder.name == "20261122T070000Z"


def test_a_backup_that_cannot_be_written_leaves_nothing_behind(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="name a folder with room"):
        back_up(ledger, tmp_path, tmp_path / "file", NOW)
    (tmp_path / "var" / "secret").unlink()
    (tmp_path / "var" / "secret").mkdir()
    with pytest.raises(Stop, match="no backup was made"):
        back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    assert [*(tmp_path / "backups").iterdir()] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LedgerFault("gone", "it was moved")], ids=repr)
def test_a_backup_that_is_given_up_leaves_no_secret_behind(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def given_up(*_: object) -> None:
        assert [*(tmp_path / "backups").glob(".*/secret")]
        raise error

    monkeypatch.setattr("overnight.backup.copy_open", given_up)
    with pytest.raises(type(error)):
        back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    assert [*(tmp_path / "backups").iterdir()] == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_without_room_for_what_is_restored_is_told_and_changes_nothing(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    note(ledger, "kept")
    copy = back_up(ledger, tmp_path, tmp_path / "backups", NOW).folder / "ledger.db"
    if killed:
        copy.with_name("ledger.db-wal").touch()
    ledger.close()
    before = sorted(path.name for path in (tmp_path / "var").iterdir())
    monkeypatch.setattr(shutil, "copyfile" if killed else "copyfileobj", full)
    with pytest.raises(Stop, match=r"db cannot be put in place: .*No space left on device; nothing was changed"):
        restore(copy, tmp_path / "var" / "overnight.db", tmp_path)
    assert sorted(path.name for path in (tmp_path / "var").iterdir()) == before
    assert "kept" in names(tmp_path / "var" / "overnight.db")


def test_of_two_backups_within_a_second_the_later_is_the_newest_by_its_name(ledger: Ledger, tmp_path: Path) -> None:
    made = []
    for name in ("first", "second", "third"):
        note(ledger, name)
        made.append(back_up(ledger, tmp_path, tmp_path / "backups", NOW).folder)
    assert made == sorted((tmp_path / "backups").iterdir())
    assert names(made[-1] / "ledger.db") == {"first", "second", "third"}
    assert newest_backup(tmp_path / "overnight.db") == made[-1]


def test_a_restored_ledger_is_the_one_of_then_and_the_other_is_kept(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger, "before")
    made = back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    note(ledger, "after")
    ledger.close()
    (tmp_path / "var" / "secret").write_text("another")
    done = restore(made.folder, tmp_path / "var" / "overnight.db", tmp_path)
    assert names(done.file) == {"before"}
    kept = {path.name for path in done.kept}
    assert kept == {"overnight.db.replaced", "secret.replaced"}
    assert names(tmp_path / "var" / "overnight.db.replaced") == {"before", "after"}
    assert (tmp_path / "var" / "secret").read_text() == "s3cr3t"
    assert (tmp_path / "var" / "secret").stat().st_mode & 0o777 == 0o600
    opened = Ledger.open("sqlite:///var/overnight.db", root=tmp_path, clock=ManualClock())
    opened.check()
    opened.close()


def test_nothing_is_put_in_place_of_a_ledger_that_is_open(ledger: Ledger, tmp_path: Path) -> None:
    made = back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    with pytest.raises(Refused, match="stop `overnight serve`"):
        restore(made.folder, tmp_path / "var" / "overnight.db", tmp_path)
    note(ledger, "goes on")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no database" * 1000, "is damaged"), (None, "there is no backup"), (b"", "is a database, but no ledger")],
)
def test_what_is_no_backup_changes_nothing(ledger: Ledger, tmp_path: Path, content: bytes | None, message: str) -> None:
    ledger.close()
    folder = tmp_path / "strange"
    folder.mkdir()
    if content is not None:
        (folder / "ledger.db").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        restore(folder, tmp_path / "var" / "overnight.db", tmp_path)
    assert not list((tmp_path / "var").glob("*.replaced*"))


def test_a_backup_of_a_newer_version_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    made = back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    ledger.close()
    with closing(sqlite3.connect(made.folder / "ledger.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(ConfigError, match="newer version"):
        restore(made.folder, tmp_path / "var" / "overnight.db", tmp_path)


def test_a_lost_or_damaged_ledger_is_restored_all_the_same(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger, "before")
    made = back_up(ledger, tmp_path, tmp_path / "var" / "backups", NOW)
    ledger.close()
    file = tmp_path / "var" / "overnight.db"
    for damage in (file.unlink, lambda: file.write_bytes(b"rubbish" * 999)):
        damage()
        assert names(restore(made.folder, file, tmp_path).file) == {"before"}
    assert file.with_name("overnight.db.replaced").read_bytes().startswith(b"rubbish")


def test_what_was_saved_of_a_deleted_file_can_be_restored(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger, "before")
    file = tmp_path / "var" / "overnight.db"
    file.unlink()
    with pytest.raises(Stop, match="saved as"):
        note(ledger, "after")
    ledger.close()
    restore(file.with_name("overnight.db.rescued"), file, tmp_path)
    assert names(file) == {"before"}


def test_all_jobs_are_paused_before_anybody_can_open_what_was_restored(ledger: Ledger, tmp_path: Path) -> None:
    hashes = {"mail": Listed("h", True), "other": Listed("h", True)}
    ledger.writing(lambda connection: register(connection, hashes, NOW))
    ledger.writing(
        lambda c: c.execute(entry.update().where(entry.c.job == "other").values(paused_at=NOW, pause_reason="mine"))
    )
    made = back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    ledger.close()
    file = tmp_path / "var" / "overnight.db"
    done = restore(made.folder, file, tmp_path, Pausing({"mail": "h", "other": "h", "by cron": "c"}, NOW))
    assert sorted(done.paused) == ["by cron", "mail"]
    again = Ledger.open(f"sqlite:///{file}")
    reasons: dict[str, Any] = {row["job"]: row["pause_reason"] for row in rows(again, entry)}
    again.close()
    assert reasons["mail"] == reasons["by cron"]
    assert reasons["mail"].startswith("restored at ")
    assert reasons["other"] == "mine"


def test_what_was_kept_of_a_killed_process_is_restored_with_its_latest_commits(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger, "before")
    file, made = tmp_path / "var" / "overnight.db", back_up(ledger, tmp_path, tmp_path / "backups", NOW)
    note(ledger, "only in the log")
    held = {side: file.with_name(f"overnight.db{side}").read_bytes() for side in ("", "-wal")}
    ledger.close()
    for side, data in held.items():  # as a kill leaves them
        file.with_name(f"overnight.db{side}").write_bytes(data)
    kept = restore(made.folder, file, tmp_path).kept
    assert [path.name for path in kept] == ["overnight.db.replaced", "overnight.db.replaced-wal"]
    restore(kept[0], file, tmp_path)
    assert names(file) == {"before", "only in the log"}
    assert kept[1].read_bytes() == held["-wal"], "what is kept stays as it is"
    assert not list(file.parent.glob(".restoring*"))


def test_a_half_made_backup_is_not_the_newest(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "var" / "overnight.db"
    half = file.parent / "backups" / ".20261123T070000Z.7"
    half.mkdir(parents=True)
    (half / "ledger.db").write_bytes(b"")
    assert newest_backup(file) is None
    made = back_up(ledger, tmp_path, file.parent / "backups", NOW)
    assert newest_backup(file) == made.folder
