"""A ledger of an older schema: copied, then brought up to date in one transaction."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from overnight.errors import Refused
from overnight.ledger import Ledger, schema
from overnight.ledger.controls import budget
from overnight.ledger.tables import SCHEMA_VERSION, item, meta, slot
from tests.slots import ManualClock, open_ledger, rows

HERE = Path(__file__).parent
KILLED_HALF_WAY = """
import os, sys
from overnight.ledger import Ledger, schema
real = schema.MIGRATIONS[2]
def half(connection):
    real(connection)
    os._exit(9)
schema.MIGRATIONS[2] = half
Ledger.open(sys.argv[1])
"""


def old_ledger(folder: Path, version: int = 1) -> Path:
    """A file of an older schema, as a release of that time left it."""
    file = folder / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript((HERE / "ledgers" / f"schema-{version}.sql").read_text(encoding="utf-8"))
    return file


def shape(file: Path) -> dict[str, set[object]]:
    """Columns and indexes of every table."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: {("column", *row[1:]) for row in connection.execute(f"PRAGMA table_info({table})")}
            | {("index", row[1], row[2]) for row in connection.execute(f"PRAGMA index_list({table})")}
            for table in tables
        }


def names(file: Path) -> dict[str, set[object]]:
    """Names of the columns and indexes of every table: a column that was added stands last, not in its place."""
    return {table: {part[1] for part in parts} for table, parts in shape(file).items()}  # type: ignore[index]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path, version: int) -> None:
    file = old_ledger(tmp_path, version)
    ledger = open_ledger(tmp_path, ManualClock())
    assert rows(ledger, meta, name="schema")[0]["value"] == str(SCHEMA_VERSION)
    ledger.check()
    ledger.close()
    (tmp_path / "new").mkdir()
    open_ledger(tmp_path / "new", ManualClock()).close()
    assert names(file) == names(tmp_path / "new" / "ledger.db")


def test_a_migrated_ledger_has_its_own_rows(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    ledger = open_ledger(tmp_path, ManualClock())
    assert [row["state"] for row in rows(ledger, item, job="daily_email")] == ["ok"] * 3
    day = rows(ledger, budget, scope="day:2026-11-22")[0]
    assert (day["cap_nano"], day["extra_nano"], day["settled_nano"]) == (15_000_000_000, 0, 3_575_000)
    assert {row["retired_at"] for row in rows(ledger, slot)} == {None}
    ledger.close()


def test_the_file_of_before_is_kept_beside_it(tmp_path: Path) -> None:
    file = old_ledger(tmp_path)
    open_ledger(tmp_path, ManualClock()).close()
    kept = file.with_name("ledger.db.schema-1")
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as copy:
        assert copy.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall() == [("1",)]
        assert copy.execute("SELECT count(*) FROM item").fetchone()[0] == 8


def test_it_is_migrated_once(tmp_path: Path) -> None:
    old_ledger(tmp_path)
    for _ in range(2):
        open_ledger(tmp_path, ManualClock()).close()
    assert sorted(path.name for path in tmp_path.glob("*.schema-*")) == ["ledger.db.schema-1"]


def test_a_migration_that_is_killed_leaves_the_old_version_usable(tmp_path: Path) -> None:
    file = old_ledger(tmp_path)
    before = shape(file)
    done = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, f"sqlite:///{file}"], check=False)
    assert done.returncode == 9
    assert shape(file) == before
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall() == [("1",)]
    open_ledger(tmp_path, ManualClock()).close()
    assert shape(file) != before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = old_ledger(tmp_path)
    before = shape(file)

    def failing(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE slot ADD COLUMN strange TEXT")
        raise RuntimeError("half-way")

    monkeypatch.setitem(schema.MIGRATIONS, 2, failing)
    with pytest.raises(RuntimeError, match="half-way"):
        open_ledger(tmp_path, ManualClock())
    assert shape(file) == before


def test_nothing_is_migrated_under_the_feet_of_another_process(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    ledger.writing(lambda connection: connection.execute(meta.update().values(value="1")))
    with pytest.raises(Refused, match="stop `overnight serve`"):
        Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    ledger.close()


def test_every_version_has_its_migration() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(2, SCHEMA_VERSION + 1))
    assert {f"schema-{n}.sql" for n in range(1, SCHEMA_VERSION)} == {path.name for path in (HERE / "ledgers").iterdir()}
