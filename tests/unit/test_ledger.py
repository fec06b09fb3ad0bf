"""The ledger as a file: made once, shared by processes, refused when it cannot be trusted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from overnight.errors import ConfigError
from overnight.ledger import Ledger, LedgerFault
from overnight.ledger.tables import SCHEMA_VERSION, meta, metadata
from tests.slots import ManualClock, open_ledger, rows


def test_a_ledger_is_made_with_its_folder_and_opened_again_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger.open("sqlite:///var/overnight.db", root=tmp_path, clock=ManualClock())
        ledger.close()
        assert rows(ledger, meta) == [{"name": "schema", "value": str(SCHEMA_VERSION)}]
    assert (tmp_path / "var" / "overnight.db").is_file()


def test_what_is_committed_survives_the_loss_of_power(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
    ledger.close()


def test_every_transaction_takes_the_write_lock_at_its_beginning(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    statements: list[str] = []
    with ledger.engine.begin() as connection:
        connection.connection.dbapi_connection.set_trace_callback(statements.append)  # type: ignore[union-attr]
        connection.exec_driver_sql("SELECT 1")
    with ledger.engine.begin() as connection:
        connection.connection.dbapi_connection.set_trace_callback(None)  # type: ignore[union-attr]
    assert "BEGIN IMMEDIATE" in statements
    ledger.close()


@pytest.mark.slow
def test_five_processes_make_one_fresh_ledger_together(tmp_path: Path) -> None:
    code = f"from overnight.ledger import Ledger; Ledger.open('sqlite:///{tmp_path}/new.db').close()"
    makers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(5)]
    ends = [(maker.communicate(timeout=60)[1], maker.returncode) for maker in makers]
    assert ends == [("", 0)] * 5


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    ledger.writing(lambda connection: connection.execute(update(meta).values(value=str(SCHEMA_VERSION + 1))))
    ledger.close()
    with pytest.raises(ConfigError, match="upgrade overnight, or point `ledger:` to another file"):
        open_ledger(tmp_path, ManualClock())


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database, it only looks like a file" * 100)
    with pytest.raises(LedgerFault, match=r"ledger\.db is damaged: file is not a database"):
        open_ledger(tmp_path, ManualClock())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=f"cannot make the ledger's folder {tmp_path}/var"):
        Ledger.open("sqlite:///var/overnight.db", root=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path, ManualClock()).close()
    (tmp_path / "ledger.db").chmod(0o400)
    with pytest.raises(ConfigError, match="writable"):
        open_ledger(tmp_path, ManualClock())


def test_money_and_counts_fit_into_64_bits_everywhere() -> None:
    wrong = [
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if column.name.endswith("_nano") and type(column.type).__name__ != "BigInteger"
    ]
    assert wrong == []


async def test_reading_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    other = open_ledger(tmp_path, ManualClock())
    with other.engine.begin() as connection:
        connection.execute(update(meta).values(value="7"))
        assert rows(ledger, meta)[0]["value"] == str(SCHEMA_VERSION)
    assert rows(ledger, meta)[0]["value"] == "7"
    ledger.close()
    other.close()
