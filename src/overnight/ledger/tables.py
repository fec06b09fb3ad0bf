"""The tables of the ledger: one schema for SQLite and Postgres.

Money is integer nano-USD in BigInteger (a 32-bit column would end at $2.14), times are UTC text with milliseconds, so
that a person with a SQL shell can read and sort them. Everything durable is keyed by (job, slot, …).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from overnight.clock import iso

SCHEMA_VERSION = 4

# What a scheduler looks for every minute has an index of its own, or it would read all that ever was. SQLite takes
# a partial index only for a query that says the same words, and no parameter is a word: these are literal text.
UNSETTLED = text("state IN ('claimed', 'queued')")  # occurrences that are not over
FLYING = text("error_code = 'in_flight'")  # calls whose process may be gone
DEFERRED = text("state = 'retry'")  # items that are to be tried again
UNKNOWN = text("state = 'unknown'")  # effects of which a person has to find out whether they happened
STUCK = text("state = 'stuck'")  # and those that could not be undone, which a person has to undo
IN_DOUBT = text("unknown > 0")  # slots with items of which nobody knows whether they are done


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime kept as `2026-11-22T07:00:00.000Z`, which sorts as text."""

    impl = String(24)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write."""
        return None if value is None else iso(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read."""
        return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


metadata = MetaData()


def count(name: str) -> Column[int]:
    """A counter; of money in nano-USD, which 32 bits would not hold."""
    return Column(name, BigInteger, nullable=False, server_default="0")


def _counts() -> list[Column[int]]:
    return [count(name) for name in ("pending", "ok", "failed", "retry", "skipped", "unknown")]


meta = Table("meta", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

# A job of schedule.yaml as it was last seen: since when it counts, and whether somebody paused it.
entry = Table(
    "entry",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("timing", Text),  # its trigger: what was due by it is still known when the file says something else
    Column("effective_since", Instant, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("paused_at", Instant),
    Column("pause_reason", Text),
)

# One scheduled time of a job; the primary key decides which of several schedulers runs it.
occurrence = Table(
    "occurrence",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("scheduled_for", Instant, primary_key=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("slot", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # claimed, queued -> ran | skipped | missed
    Column("reason", Text),
    Column("run_id", String(40)),
    Column("noted_at", Instant, nullable=False),
    Index("occurrence_unsettled", "job", "slot", sqlite_where=UNSETTLED, postgresql_where=UNSETTLED),
)

# What runs are about. Counts are kept by delta in the transaction of each outcome; `rebuild` recomputes them.
slot = Table(
    "slot",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("day", String(10), nullable=False),  # local date of scheduled_for: the report day of outcomes
    Column("scheduled_for", Instant, nullable=False),
    Column("planned_at", Instant),  # set when the audience is complete, hence frozen
    Column("rehearsal", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Instant, nullable=False),
    *_counts(),
    count("cost_nano"),
    Column("retired_at", Instant),  # set when its items were deleted after their retention; the counts stay
    Index("slot_by_time", "job", "scheduled_for"),
    Index("slot_by_day", "day"),
    Index("slot_in_doubt", "job", sqlite_where=IN_DOUBT, postgresql_where=IN_DOUBT),
)

# One attempt over a slot. Its counts say what this run did, the slot's counts what the slot has come to.
run = Table(
    "run",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", String(128), nullable=False),
    Column("slot", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # scheduled, manual, retry, resume, sweep, dry
    Column("retry_of", String(40)),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("scheduled_for", Instant, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("noted_at", Instant),  # of one whose process died: when somebody noticed
    Column("day", String(10), nullable=False),  # local date of started_at
    Column("worker_id", String(128), nullable=False),
    Column("code_version", String(64), nullable=False),
    Column("config_hash", String(64), nullable=False),
    Column("partial", Boolean, nullable=False, server_default=text("false")),  # asked for some of the items only
    count("items"),
    *_counts()[1:],
    count("attempts"),
    count("backlog"),  # items left pending or retry when the run ended
    count("cost_nano"),
    Index("run_by_slot", "job", "slot", "started_at"),
    Index("run_by_start", "started_at"),
    Index("run_by_day", "day"),
)

# Who may write to a slot. The fence number grows with each owner; a writer with an older one is refused.
lease = Table(
    "lease",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("run_id", String(40), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Instant),  # None: released
    Index("lease_held", "until", sqlite_where=text("until IS NOT NULL"), postgresql_where=text("until IS NOT NULL")),
)

item = Table(
    "item",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("payload", Text, nullable=False),
    Column("result", Text),
    Column("reason", Text),
    Column("error_class", String(16)),
    Column("error_code", String(64)),
    Column("error", Text),
    count("attempts"),
    Column("next_at", Instant),
    Column("expires_at", Instant),
    Column("run_id", String(40)),
    Column("ended_at", Instant),
    count("duration_ms"),
    count("cost_nano"),
    Index("item_in_order", "job", "slot", "seq"),
    Index("item_due", "job", "slot", "next_at", sqlite_where=DEFERRED, postgresql_where=DEFERRED),
    sqlite_with_rowid=False,
)

# Durations of a run in buckets of 1 % width: p50, p95 and p99 of any set of runs by addition.
histogram = Table(
    "histogram",
    metadata,
    Column("run_id", String(40), primary_key=True),
    Column("bucket", Integer, primary_key=True),
    count("n"),
    sqlite_with_rowid=False,
)

once = Table(
    "once",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("slot", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("value", Text, nullable=False),
    Column("run_id", String(40), nullable=False),
    Column("at", Instant, nullable=False),
)

# What an edition has used, so that the next one does not bring it again. Written with the `once` value.
seen = Table(
    "seen",
    metadata,
    Column("job", String(128), primary_key=True),
    Column("source", String(512), primary_key=True),
    Column("key", String(512), primary_key=True),
    Column("slot", String(64), nullable=False),
    sqlite_with_rowid=False,
)

# One model request, paid or not.
call = Table(
    "call",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", String(128), nullable=False),
    Column("slot", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("nth", Integer, nullable=False),
    Column("run_id", String(40), nullable=False),
    Column("role", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("status", String(16), nullable=False),  # ok, failed, unknown
    Column("error_class", String(16)),
    Column("error_code", String(64)),
    Column("request_id", String(128)),
    count("input_tokens"),
    count("output_tokens"),
    count("cache_read_tokens"),
    count("cache_write_tokens"),
    count("cache_write_1h_tokens"),  # of those
    count("cost_nano"),
    Column("naive_nano", BigInteger),  # see `Prices.naive`; None: no answer of use
    Column("budget_day", String(10), nullable=False),
    Column("started_at", Instant, nullable=False),
    count("duration_ms"),
    Column("response", Text),
    Column("stop_reason", String(32)),  # of a reply; that of a `tool_use` is kept as its content blocks
    Index("call_by_question", "job", "slot", "key", "hash", "nth"),
    Index("call_by_day", "budget_day"),
    Index("call_in_flight", "budget_day", sqlite_where=FLYING, postgresql_where=FLYING),
)

# One call of a tool that a model has asked for, and what it was told; `id` is that of its turn and place in it.
tool_call = Table(
    "tool_call",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job", String(128), nullable=False),
    Column("slot", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    Column("run_id", String(40), nullable=False),
    Column("role", String(64), nullable=False),
    Column("tool", String(128), nullable=False),
    Column("arguments", Text),
    Column("verdict", String(16), nullable=False),  # done, denied, failed
    Column("error_code", String(64)),
    Column("result", Text),
    Column("at", Instant, nullable=False),
    count("duration_ms"),
    Index("tool_call_by_item", "job", "slot", "key"),
)

# A side effect outside: intent before, result after. What stands at `intent` after a crash is unknown.
effect = Table(
    "effect",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job", String(128), nullable=False),
    Column("slot", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    Column("kind", String(16), nullable=False),  # mail, step
    Column("name", String(128), nullable=False),  # the template, or what the job calls its step
    Column("target", String(255), nullable=False),  # opaque: a subscriber's id
    Column("ref", String(255), nullable=False),  # the Message-ID; of a step, whether it can be undone
    Column("state", String(16), nullable=False),  # intent, done, failed, unknown, undoing, undone, stuck
    Column("detail", Text),
    Column("run_id", String(40), nullable=False),
    Column("intent_at", Instant, nullable=False),
    Column("done_at", Instant),
    Index("effect_by_item", "job", "slot", "key"),
    Index("effect_unknown", "job", sqlite_where=UNKNOWN, postgresql_where=UNKNOWN),
    Index("effect_stuck", "job", sqlite_where=STUCK, postgresql_where=STUCK),
)

subscriber = Table(
    "subscriber",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(320), nullable=False),
    Column("normalized", String(320), nullable=False, unique=True),
    Column("name", String(255), nullable=False),
    Column("topics", Text, nullable=False),  # JSON list
    Column("status", String(16), nullable=False),  # active, unsubscribed, suppressed, forgotten
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

# Somebody who has asked to get the mail and has not confirmed it yet, or not long ago. No subscriber: an address that
# anybody may have typed in.
signup = Table(
    "signup",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(320), nullable=False),
    Column("normalized", String(320), nullable=False, unique=True),
    Column("asked_at", Instant, nullable=False),
    Column("mailed_at", Instant),  # when the link went out last; None: it is to be sent
    count("mails"),
    Column("confirmed_at", Instant),
    count("put_off"),  # how often its mailbox has said `not yet`
    Column("next_at", Instant),  # not before
)

# Readers from elsewhere who are not to be mailed any more: a job has brought them, and only it knows who they are.
outsider = Table(
    "outsider",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("status", String(16), nullable=False),  # unsubscribed, suppressed, forgotten
    Column("reason", Text),
    Column("at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

# What became of the latest mails to readers who have bounced; the others have no rows here.
delivery = Table(
    "delivery",
    metadata,
    Column("subscriber", String(255), primary_key=True),
    Column("ref", String(255), primary_key=True),  # the Message-ID
    Column("verdict", String(16), nullable=False),  # delivered, soft, hard
    Column("status", String(16), nullable=False),  # enhanced status code: 5.1.1
    Column("at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

# Mail from outside that was read and counted, by a hash of its bytes: it counts once, however often it is read.
incoming = Table(
    "incoming",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

task = Table(
    "task",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("role", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("state", String(16), nullable=False),  # open, done, cancelled
    Column("source", String(255), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("done_at", Instant),
    Column("documents", Text),  # JSON list of paths
    Column("ref", String(255)),  # what it is about elsewhere: acme/site#7
    count("attempts"),
    Column("result", Text),
    Column("error", Text),  # why the latest attempt failed
)
