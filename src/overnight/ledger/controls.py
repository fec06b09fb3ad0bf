"""The tables of what bounds and watches the runs: budgets, alerts, breakers, buckets, pauses."""

from sqlalchemy import BigInteger, Column, Float, String, Table, Text

from overnight.ledger.tables import Instant, count, metadata

# settled + reserved never exceeds the cap in force, which is checked in the one statement that reserves: what
# schedule.yaml says (`cap_nano`: when the last reservation was made) plus `extra_nano`, which was raised by hand.
budget = Table(
    "budget",
    metadata,
    Column("scope", String(255), primary_key=True),
    Column("cap_nano", BigInteger, nullable=False),
    count("extra_nano"),
    count("settled_nano"),
    count("reserved_nano"),
    Column("warned_at", Instant),
)

alert = Table(
    "alert",
    metadata,
    Column("key", String(255), primary_key=True),  # rule:scope
    Column("rule", String(64), nullable=False),
    Column("scope", String(255), nullable=False),
    Column("state", String(16), nullable=False),  # pending, firing, resolved
    Column("message", Text, nullable=False),
    count("times"),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("notified_at", Instant),  # None: nobody was told of this trouble
    Column("untold", String(16)),  # what is still to be told of it: new, over, reminder
    Column("silenced_until", Instant),
)

# A message to the operators on its way; it goes when its channel has taken it.
notice = Table(
    "notice",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("channel", String(255), nullable=False),  # name/kind/digest of the address, which stands in schedule.yaml
    Column("changes", Text, nullable=False),  # JSON list of what it tells
    Column("created_at", Instant, nullable=False),
    count("tries"),
    Column("next_at", Instant, nullable=False),
    Column("error", Text),  # of the last attempt
)

# Whether a dependency is asked at all (`anthropic`, `smtp:relay.example.org:587`); a missing row means closed.
breaker = Table(
    "breaker",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("state", String(16), nullable=False),  # closed, open, half_open
    count("generation"),  # grows when it opens, is probed anew after that, or closes
    count("open_count"),  # times in a row; the next time is twice as long
    Column("opened_until", Instant),
    Column("probe_by", String(64)),
    Column("probe_until", Instant),
)

# One rate limit for all processes. `tokens` below zero is debt: what was used beyond what was asked for.
bucket = Table(
    "bucket",
    metadata,
    Column("name", String(255), primary_key=True),  # dependency.kind: anthropic.input_tokens
    Column("tokens", Float, nullable=False),
    Column("at", Instant, nullable=False),
    Column("leases", Text, nullable=False),  # JSON: {process: [amount, until]}, what each may spend by itself
    Column("queue", Text, nullable=False),  # the same, in order: what each waits for
    count("waited_ms"),  # callers of all processes together; it only grows
)

# Until when nobody asks a dependency, because it said so.
pause = Table(
    "pause",
    metadata,
    Column("dependency", String(255), primary_key=True),
    Column("until", Instant, nullable=False),
)
