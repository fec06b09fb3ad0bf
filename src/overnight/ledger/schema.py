"""The version of the tables: made new, refused when newer than we are, migrated when older.

A migration is a function of a connection. All that are missing run in one transaction under the write lock, after a
copy of the file was made beside it; killed half-way, the old version is as it was. To change the tables: change
`tables.py`, add 1 to SCHEMA_VERSION, add a function here, and keep a dump of the version before for its test.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, Table, insert, inspect, select, update

from overnight import logs
from overnight.errors import ConfigError, Refused
from overnight.ledger import rollups
from overnight.ledger.controls import notice
from overnight.ledger.copies import copy_open, unused
from overnight.ledger.tables import (
    SCHEMA_VERSION,
    call,
    delivery,
    effect,
    incoming,
    item,
    lease,
    meta,
    metadata,
    occurrence,
    outsider,
    run,
    signup,
    slot,
    tool_call,
)

Migration = Callable[[Connection], None]


class Present(Protocol):
    """This process among those that have the ledger open."""

    @property
    def alone(self) -> bool: ...


def prepare(engine: Engine, present: Present) -> None:
    """Make the tables, or bring them up to date.

    Raises ConfigError for a schema that is newer than we are, Refused for an older one that somebody else has open.
    """
    with engine.begin() as connection:
        if not inspect(connection).has_table("meta"):
            metadata.create_all(connection)
            connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
        version = version_of(connection)
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"the ledger has schema {version}, this version of overnight knows {SCHEMA_VERSION}: "
            "upgrade overnight, or point `ledger:` to another file"
        )
    if version < SCHEMA_VERSION:
        _migrate(engine, present)


def version_of(connection: Connection) -> int:
    """The schema of an open ledger."""
    return int(connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar_one())


def _migrate(engine: Engine, present: Present) -> None:
    if not present.alone:
        raise Refused(
            f"the ledger has an older schema than {SCHEMA_VERSION}, and processes of the older version may have it "
            "open: stop `overnight serve`, wait for runs to end, and give the command again"
        )
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE meta IN ACCESS EXCLUSIVE MODE")
        version = version_of(connection)  # again, for now nobody else can change it
        copy = _copied(engine, version)
        for number in range(version + 1, SCHEMA_VERSION + 1):
            MIGRATIONS[number](connection)
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))
    logs.get().info("the ledger was migrated", schema=SCHEMA_VERSION, before=version, copy=copy)


def _copied(engine: Engine, version: int) -> str:
    if engine.dialect.name != "sqlite":
        return "none: back up the server"
    copy = unused(Path(str(engine.url.database)), f"schema-{version}")
    copy_open(engine, copy)
    return str(copy)


def _second(connection: Connection) -> None:
    """What was raised of a budget by hand has its own column; slots remember that their items were deleted."""
    _add_column(connection, "budget", "extra_nano", "BIGINT DEFAULT '0' NOT NULL")
    _add_column(connection, "slot", "retired_at", "VARCHAR(24)")
    connection.exec_driver_sql("CREATE INDEX slot_by_time ON slot (job, scheduled_for)")


def _third(connection: Connection) -> None:
    """What mailing, reports and tasks keep beside their rows."""
    _index_what_is_open(connection)
    _add_column(connection, "entry", "timing", "TEXT")
    _third_alerts(connection)
    _sign_ups(connection)
    _third_bounces(connection)
    _agents(connection)
    _rollups(connection)
    _add_column(connection, "bucket", "waited_ms", "BIGINT DEFAULT '0' NOT NULL")
    _add_column(connection, "run", "noted_at", "VARCHAR(24)")


def _index_what_is_open(connection: Connection) -> None:
    """A scheduler's look does not read what is over."""
    connection.exec_driver_sql("DROP INDEX item_due")  # by time alone it was of no use to a list of slots
    new = {"occurrence_unsettled", "lease_held", "call_in_flight", "item_due", "effect_unknown", "effect_stuck"}
    _make_indexes(connection, new, occurrence, lease, call, item, effect)


def _third_alerts(connection: Connection) -> None:
    """Alerts can be pending, silenced and still to be told; messages wait for channels that fail."""
    _add_column(connection, "alert", "untold", "VARCHAR(16)")
    _add_column(connection, "alert", "silenced_until", "VARCHAR(24)")
    notice.create(connection)


def _sign_ups(connection: Connection) -> None:
    """Who wants to become a subscriber."""
    signup.create(connection, checkfirst=True)
    _add_column(connection, "signup", "put_off", "BIGINT DEFAULT '0' NOT NULL")
    _add_column(connection, "signup", "next_at", "VARCHAR(24)")


def _third_bounces(connection: Connection) -> None:
    """What mailboxes have said, which mail from outside was read, and who of a job's own readers has left."""
    for table in (delivery, incoming, outsider):
        table.create(connection)


def _agents(connection: Connection) -> None:
    """Calls of tools, why a reply ended, and what became of a task."""
    tool_call.create(connection, checkfirst=True)
    _add_column(connection, "call", "stop_reason", "VARCHAR(32)")
    for column, kind in (
        ("documents", "TEXT"),
        ("ref", "VARCHAR(255)"),
        ("attempts", "BIGINT DEFAULT '0' NOT NULL"),
        ("result", "TEXT"),
    ):
        _add_column(connection, "task", column, kind)
    _add_column(connection, "task", "error", "TEXT")


def _rollups(connection: Connection) -> None:
    """Calls know their naive cost; what reports need is added up as it happens."""
    _add_column(connection, "call", "cache_write_1h_tokens", "BIGINT DEFAULT '0' NOT NULL")
    _add_column(connection, "call", "naive_nano", "BIGINT")
    for made in (rollups.spend, rollups.trouble, rollups.item_in_trouble):
        made.create(connection, checkfirst=True)
    rollups.fill(connection)


def _fourth(connection: Connection) -> None:
    """What is looked for by its day, or because it is in doubt, is found without reading all slots there ever were."""
    _make_indexes(connection, {"slot_by_day", "slot_in_doubt", "run_by_day"}, slot, run)


def _make_indexes(connection: Connection, names: set[str], *tables: Table) -> None:
    for table in tables:
        for index in table.indexes:
            if index.name in names:
                index.create(connection)


def _add_column(connection: Connection, table: str, column: str, kind: str) -> None:
    """Add it, unless it is there: some columns were tried out before their version was numbered."""
    if column not in {each["name"] for each in inspect(connection).get_columns(table)}:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


MIGRATIONS: dict[int, Migration] = {2: _second, 3: _third, 4: _fourth}
