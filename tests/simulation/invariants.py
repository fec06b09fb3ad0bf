"""What must be true every noon, whatever happened at night: our books against themselves and against the others'."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, text

from overnight.limits import BURST
from tests.simulation.world import START, World

RECENT = 4  # days that are looked at every noon
KEPT = 80  # days that the last noon looks at: older ones fall to the retention of 90 days
SETTLED = timedelta(days=2)  # after which nothing of a slot may be open, unless an alert has named it
AUTHORS = {"ZeroDivisionError"}  # the only bug there is, and it is not ours


@dataclass(slots=True)
class Books:
    """What the simulation remembers from noon to noon: `steps` are the seconds at which the wall clock was set.

    `connection`: look through this one, which has not committed.
    """

    world: World
    steps: list[float] = field(default_factory=list)
    connection: Connection | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the ledger, at slots since `day`; `whole`: that is all there has been."""

    connection: Connection
    books: Books
    day: str
    now: datetime
    whole: bool

    def rows(self, query: str, **more: Any) -> Sequence[Any]:
        """Ask."""
        return self.connection.execute(_asked(query), {"day": self.day} | more).all()


_asked = cache(text)


def violations(books: Books, *, last: bool) -> list[str]:
    """All that is not as it must be."""
    world = books.world
    now = START + timedelta(seconds=world.loop.time())
    day = (now - timedelta(days=KEPT if last else RECENT)).date().isoformat()
    whole = last and day < START.date().isoformat()
    if books.connection is not None:
        return _all(Look(books.connection, books, day, now, whole))
    found = world.ledger.reading(lambda connection: _all(Look(connection, books, day, now, whole)))
    return [*world.troubles, *found]


def _all(look: Look) -> list[str]:
    checks = (
        _items_add_up, _runs_add_up, _no_bug_of_ours, _one_effect_per_item, _books_equal_calls, _books_equal_the_bill,
        _caps_hold, _rates_hold, _once_a_day, _nothing_open_for_ever, _reports_show_the_items,
    )  # fmt: skip
    return [f"{check.__name__.strip('_')}: {found}" for check in checks for found in check(look)]


def _items_add_up(look: Look) -> Iterator[str]:
    """The counts of a slot are those of its items, and they are as many as were planned."""
    names = ("pending", "ok", "failed", "retry", "skipped", "unknown")
    counted: dict[tuple[str, str], Counter[str]] = {}
    query = """
        SELECT item.job, item.slot, item.state, count(*) AS n FROM slot
        CROSS JOIN item ON item.job = slot.job AND item.slot = slot.slot
        WHERE slot.day >= :day GROUP BY item.job, item.slot, item.state
    """
    for row in look.rows(query):
        counted.setdefault((row.job, row.slot), Counter())[row.state] = row.n
    for row in look.rows("SELECT * FROM slot WHERE day >= :day"):
        kept = {name: getattr(row, name) for name in names}
        real = {name: counted.get((row.job, row.slot), Counter())[name] for name in names}
        if kept != real:
            yield f"{row.job} {row.slot} counts {kept}, its items are {real}"
        if row.planned_at and sum(real.values()) != look.books.world.items:
            yield f"{row.job} {row.slot} has {sum(real.values())} items"


def _runs_add_up(look: Look) -> Iterator[str]:
    """A run's items are those it ended in some way."""
    query = "SELECT * FROM run WHERE day >= :day AND items != ok + failed + retry + skipped + unknown"
    for row in look.rows(query):
        yield f"{row.job} {row.slot} {row.id}: {row.items} items"


def _no_bug_of_ours(look: Look) -> Iterator[str]:
    """No item fails by an exception that its job did not raise."""
    query = """
        SELECT item.job, item.slot, item.key, item.error_code, item.error FROM slot
        CROSS JOIN item ON item.job = slot.job AND item.slot = slot.slot
        WHERE slot.day >= :day AND error_class = 'bug'
    """
    for row in look.rows(query):
        if row.error_code not in AUTHORS:
            yield f"{row.job}/{row.slot}/{row.key}: {row.error}"


def _one_effect_per_item(look: Look) -> Iterator[str]:
    """The relay has each message once at most, all that are `done`, and none that `failed`.

    An operator gets one twice rather than not at all, but not when it is known to have arrived.
    """
    relay = look.books.world.relay
    spool, known = relay.spool, set()
    for ref in relay.needless:
        yield f"{ref} was sent once more when it was done"
    for row in look.rows("SELECT * FROM effect WHERE substr(intent_at, 1, 10) >= :day"):
        known.add(row.ref)
        taken = spool.get(row.ref, 0)
        doubled = taken > 1 and row.job != "alert"
        if doubled or (row.state == "done" and not taken) or (row.state == "failed" and taken):
            yield f"{row.job}/{row.slot}/{row.key} {row.name} is {row.state}; the relay has it {taken} times"
    if look.whole and (strange := spool.keys() - known):
        yield f"{len(strange)} messages that the ledger does not know"
    query = """
        SELECT item.slot, item.key FROM item WHERE item.job = 'letters' AND item.state = 'ok' AND item.slot >= :day
        AND NOT EXISTS (SELECT 1 FROM effect WHERE effect.job = item.job AND effect.slot = item.slot
                        AND effect.key = item.key AND effect.state = 'done')
    """
    for row in look.rows(query):
        yield f"letters/{row.slot}/{row.key} is ok, but no mail was sent"


def _books_equal_calls(look: Look) -> Iterator[str]:
    """Costs of slots, runs and items, and what the budget has charged, are the sums of their calls."""
    sums = {
        "slot": "SELECT job || ' ' || slot AS what, cost_nano AS kept, (SELECT coalesce(sum(cost_nano), 0) FROM call"
        " WHERE call.job = slot.job AND call.slot = slot.slot) AS real FROM slot WHERE day >= :day",
        "run": "SELECT id AS what, cost_nano AS kept, (SELECT coalesce(sum(call.cost_nano), 0) FROM call"
        " WHERE call.job = run.job AND call.slot = run.slot AND run_id = run.id) AS real FROM run WHERE day >= :day",
        "item": "SELECT job || '/' || slot || '/' || key AS what, cost_nano AS kept, (SELECT"
        " coalesce(sum(call.cost_nano), 0) FROM call WHERE call.job = item.job AND call.slot = item.slot"
        " AND call.key = item.key) AS real FROM item WHERE job = 'agents' AND slot >= :day",
        "day": "SELECT scope AS what, settled_nano + reserved_nano AS kept, (SELECT coalesce(sum(cost_nano), 0)"
        " FROM call WHERE budget_day = substr(scope, 5)) AS real FROM budget WHERE scope >= 'day:' || :day"
        " AND scope LIKE 'day:%'",
    }
    for kind, query in sums.items():
        for row in look.rows(f"SELECT * FROM ({query}) WHERE kept != real"):
            yield f"{kind} {row.what} says {row.kept}, its calls cost {row.real}"


def _books_equal_the_bill(look: Look) -> Iterator[str]:
    """A call we have a reply of costs what it was billed for; what we have no reply of is charged at more."""
    bill = {billed.request_id: billed for billed in look.books.world.model.bill}
    rows = look.rows("SELECT request_id, cost_nano, status, budget_day FROM call WHERE budget_day >= :day")
    for row in rows:
        if row.request_id and row.cost_nano != bill[row.request_id].cost_nano:
            yield f"{row.request_id} was billed {bill[row.request_id].cost_nano}, we booked {row.cost_nano}"
    if look.whole:
        booked = {row.request_id for row in rows}
        unheard = sum(billed.cost_nano for billed in bill.values() if billed.request_id not in booked)
        unknown = sum(row.cost_nano for row in rows if row.status == "unknown")
        if unheard > unknown:
            yield f"{unheard} were billed that we heard no reply of, {unknown} are booked as unknown"


def _caps_hold(look: Look) -> Iterator[str]:
    """No budget is exceeded."""
    for row in look.rows("SELECT * FROM budget WHERE settled_nano + reserved_nano > cap_nano"):
        yield f"{row.scope}: {row.settled_nano} + {row.reserved_nano} of {row.cap_nano}"
    for row in look.rows("SELECT * FROM budget WHERE settled_nano < 0 OR reserved_nano < 0"):
        yield f"{row.scope}: {row.settled_nano} settled, {row.reserved_nano} reserved"


def _rates_hold(look: Look) -> Iterator[str]:
    """In every window the other side saw the burst and the rate at most, and those who had passed the gate before."""
    world = look.books.world
    passed = 20  # workers who may wait for a connection with their leave in hand
    for name, times, rate in (("model", world.model.asked_at, 50 / 60), ("relay", world.relay.taken_at, 20.0)):
        level, before = rate * BURST + passed, -1e9
        for at in times:
            stepped = any(before <= step <= at for step in look.books.steps)  # a wall clock set forward refills
            level = min(rate * BURST + passed, level + (at - before) * rate) if not stepped else rate * BURST + passed
            level, before = level - 1, at
            if level < -1e-6:
                yield f"{name}: too many requests at second {at:.3f}"
                break
        del times[: max(0, len(times) - 1000)]
    look.books.steps = [step for step in look.books.steps if step > world.loop.time() - 2 * 86400]


def _once_a_day(look: Look) -> Iterator[str]:
    """Each job has one occurrence per local day, none is missing, and each has come to an end or goes on."""
    for row in look.rows(
        "SELECT job, slot, count(*) AS n FROM occurrence WHERE slot >= :day GROUP BY job, slot HAVING count(*) > 1"
    ):
        yield f"{row.job} {row.slot} has {row.n} occurrences"
    query = "SELECT job, min(slot) AS first, max(slot) AS last, count(*) AS n FROM occurrence GROUP BY job"
    for row in look.rows(query):
        days = (datetime.fromisoformat(row.last) - datetime.fromisoformat(row.first)).days + 1
        if days != row.n:
            yield f"{row.job} has {row.n} occurrences on {days} days, {row.first} to {row.last}"
    for row in look.rows("SELECT * FROM occurrence WHERE state IN ('skipped', 'missed') AND reason IS NULL"):
        yield f"{row.job} {row.slot} is {row.state}, and nobody knows why"


def _nothing_open_for_ever(look: Look) -> Iterator[str]:
    """Two days later nothing is open, unless somebody was told."""
    old = (look.now - SETTLED).date().isoformat()
    for row in look.rows("SELECT * FROM occurrence WHERE state IN ('claimed', 'queued') AND slot < :old", old=old):
        yield f"{row.job} {row.slot} is still {row.state}"
    query = """
        SELECT * FROM slot WHERE (pending > 0 OR retry > 0) AND day < :old AND day >= :kept AND NOT EXISTS (
            SELECT 1 FROM alert WHERE scope = slot.job AND rule IN ('stopped', 'missed', 'gave_up')
            AND last_at >= slot.scheduled_for)
    """
    kept = (look.now - timedelta(days=KEPT)).date().isoformat()
    for row in look.rows(query, old=old, kept=kept):
        yield f"{row.job} {row.slot} has {row.pending} pending and {row.retry} deferred items, and nobody was told"


def _reports_show_the_items(look: Look) -> Iterator[str]:
    """What is in the bucket says of each slot what the ledger says, once the spool is empty."""
    world = look.books.world
    spool = world.root / "var" / "spool"
    if spool.is_dir() and any(path.name.isdecimal() for path in spool.iterdir()):
        return
    shown: dict[tuple[str, str], tuple[str, str]] = {}
    for key, content in world.bucket.files.items():
        if key.endswith(".csv") and key.startswith("report=") and key.rpartition("nights-")[2] >= look.day:
            for row in csv.DictReader(io.StringIO(content.decode())):
                shown[row["job"], row["slot"]] = (row["items"], row["ok"])
    query = "SELECT job, slot, pending + ok + failed + retry + skipped + unknown AS items, ok FROM slot"
    for row in look.rows(f"{query} WHERE day >= :day AND planned_at IS NOT NULL"):
        if shown.get((row.job, row.slot)) != (str(row.items), str(row.ok)):
            yield f"{row.job} {row.slot} has {row.items} items, the report says {shown.get((row.job, row.slot))}"
