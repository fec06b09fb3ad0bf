"""What processes share about dependencies: the same through the ledger as in memory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overnight.ledger.flow import Circuit, InLedger, InMemory, Lease, LedgerRows, Level, MemoryRows
from tests.slots import NOW, ManualClock, open_ledger

instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001  made aware below
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)
amounts = st.floats(-1e9, 1e9, allow_nan=False)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
circuits = st.builds(
    Circuit,
    st.sampled_from(["closed", "open", "half_open"]),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.none() | instants,
    st.none() | names,
    st.none() | instants,
)
leases = st.dictionaries(names, st.builds(Lease, amounts, instants), max_size=3)
levels = st.builds(Level, amounts, instants, leases, waited_ms=st.integers(0, 2**40))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, circuits, levels, instants)
def test_rows_come_back_from_the_ledger_as_they_were_written(
    tmp_path: Path, name: str, circuit: Circuit, level: Level, until: datetime
) -> None:
    ledger = open_ledger(tmp_path, ManualClock())

    def write(rows: LedgerRows | MemoryRows) -> None:
        rows.put_circuit(name, circuit)
        rows.put_level(name, level)
        rows.put_pause(name, until)

    def read(rows: LedgerRows | MemoryRows) -> tuple[object, ...]:
        return rows.circuit(name), rows.level(name, Level(0, NOW)), rows.paused_until(name)

    memory = MemoryRows()
    write(memory)
    ledger.writing(lambda connection: write(LedgerRows(connection)))
    assert ledger.reading(lambda connection: read(LedgerRows(connection, locked=False))) == read(memory)
    assert read(memory) == (circuit, level, until)
    ledger.close()


async def test_what_nobody_has_written_is_closed_full_and_not_paused(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    new = Level(7, NOW)
    for store in (InLedger(ledger), InMemory()):
        for ask in (store.read, store.change):
            found = await ask(lambda rows: (rows.circuit("api"), rows.level("api", new), rows.paused_until("api")))
            assert found == (Circuit(), new, None)
    ledger.close()


async def test_a_change_that_fails_leaves_nothing_and_is_told_to_its_caller(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    store = InLedger(ledger)

    def broken(rows: LedgerRows | MemoryRows) -> None:
        rows.put_pause("api", NOW)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.change(broken)
    assert await store.read(lambda rows: rows.paused_until("api")) is None
    ledger.close()


async def test_a_change_nobody_waits_for_is_in_the_next_commit(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock())
    store = InLedger(ledger)
    later = NOW + timedelta(minutes=1)
    store.post(lambda rows: rows.put_pause("api", later))
    assert await store.change(lambda rows: rows.paused_until("other")) is None
    assert await store.read(lambda rows: rows.paused_until("api")) == later
    ledger.close()
