"""Everybody sees the same number: ledger, cost.csv, runs.csv, digest and the model's own bill, to the nano-dollar.

And what is published is what the ledger says, whoever has changed it last: a run, one that died, a person by hand.
`make books CASES=1000` lives through more nights than a change has time for.
"""

import asyncio
import csv
import dataclasses
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from overnight import project
from overnight.agent import MISSING, Agent
from overnight.alerts import Alerter
from overnight.budget import Budgets, Caps, day_counter, raise_cap
from overnight.cli.report import NAMES, _spent
from overnight.closing import settle_item
from overnight.dependency import Dependencies
from overnight.editions import next_edition, supersede
from overnight.effects import Effects
from overnight.erasure import Person, forget
from overnight.errors import OvernightError, Permanent, Transient
from overnight.fake_model.bill import Bill
from overnight.ledger import Ledger
from overnight.ledger.items import Recorded, plan, planned, record
from overnight.ledger.runs import close_run, latest_run, owe_reports
from overnight.ledger.tables import call, item
from overnight.metrics import figures
from overnight.model import ModelReply, ModelRequest
from overnight.outcome import Outcome, State
from overnight.pricing import NANO, OwnPrice, Prices, Rates, Usage
from overnight.publishing import publish
from overnight.recount import rebuild
from overnight.redact import Redactor
from overnight.report import Day, Report
from overnight.retention import retire, retired_days
from overnight.retry import Retry
from overnight.roles import Role, Roles
from overnight.schedule import loads
from overnight.storage.store import digest
from reports.cost import cost
from reports.errors import errors
from reports.items import items
from reports.runs import runs
from reports.success_rate import success_rate
from tests.agents import PLAIN, Edition
from tests.slots import ManualClock, Nobody, begin, rows

ROOT = Path(__file__).parents[2]
PARIS = ZoneInfo("Europe/Paris")
EVENING = datetime(2026, 10, 24, 21, 50, tzinfo=UTC)  # ten to midnight in Paris, in the night that has an hour twice
ROUTE = ("claude-haiku-5-5", "claude-sonnet-5-5")
MEMORY = Path("/dev/shm")  # noqa: S108  reports are kept with an fsync each, thousands of them
CASES = int(os.environ.get("CASES", "8"))
DAYS = [date(2026, 10, 24) + timedelta(days=n) for n in range(3)]
ANN = Person("c", ("ann@example.org",))
KEYS = ["a", "b", ANN.id]
REPORTS = (cost, errors, items, runs, success_rate)

GOOD = json.dumps({"subject": "Rain", "intro": "It rained."})
WORDS = st.sampled_from(["good", "good", "good", "bad json", "empty", "cut off", "refused", "429", "529", "400"])


@dataclass
class Owner:
    """The model, and its owner's bill: what is answered is charged for, what is refused is not."""

    words: Iterator[str]
    bill: Bill = field(default_factory=Bill)

    def check(self) -> None:
        """No key is needed."""

    async def create(self, request: ModelRequest) -> ModelReply:
        word = next(self.words, "good")
        if word in ("429", "529"):
            raise Transient(f"the API answered {word}", code=f"http_{word}")
        if word == "400":
            raise Permanent("the API answered 400", code="http_400")
        used = Usage(request.size // 3 + 1, 40 + len(word))
        number = f"req_{len(self.bill.entries())}"
        self.bill.deliver(self.bill.accept(number, request.model, used.input_tokens, used.output_tokens))
        text = {"bad json": "not json", "empty": " "}.get(word, GOOD)
        stop = {"cut off": "max_tokens", "refused": "refusal"}.get(word, "end_turn")
        return ModelReply(text, stop, used, request.model, number)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Books:
    """A project of one job, through a night or two."""

    root: Path
    words: Iterator[str]
    clock: ManualClock = field(default_factory=lambda: ManualClock(EVENING))
    made: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = self.root / "templates" / "roles"
        folder.mkdir(parents=True)
        (folder / "editor.md.j2").write_text("You are an editor.")
        self.ledger = Ledger.open(f"sqlite:///{self.root}/ledger.db", clock=self.clock, inline=True)
        self.owner, self.effects = Owner(self.words), Effects(self.ledger, self.clock)
        self.agent = Agent(
            ledger=self.ledger,
            model=self.owner,
            roles=Roles(self.root, {"editor": Role("editor", ROUTE, max_tokens=300)}),
            budgets=Budgets(self.ledger, self.clock, PARIS, Caps()),
            api=Dependencies({}, self.clock).of("anthropic"),
            clock=self.clock,
            retry=Retry(attempts=2),
        )
        self.schedule = loads("version: 1\ntimezone: Europe/Paris\njobs: { digest: { every: 1h } }\n", {})
        self.alerter = Alerter(self.ledger, self.clock, Nobody(), Redactor(), timedelta(days=1))
        (self.root / "reports").symlink_to(ROOT / "reports")

    async def run(self, slot: str, *, fallback: bool, lost: bool = False, dies: bool = False) -> None:
        """One run over a slot: whatever is not ok is asked about, some ten minutes for each item.

        With `lost` nobody knows what became of the last item's mail. One that `dies` is never closed.
        """
        local = self.clock.now().astimezone(PARIS).date().isoformat()
        scope = begin(self.ledger, "digest", slot, slot_day=slot[:10], day=local, scheduled_for=self.clock.now())
        self.ledger.writing(lambda c: plan(c, scope, [(n, key, "{}") for n, key in enumerate(KEYS)]))
        self.ledger.writing(lambda c: planned(c, scope, self.clock.now()))
        query = select(item.c.key, item.c.state).where(item.c.slot == slot, item.c.state != "ok").order_by(item.c.seq)
        for key, was in self.ledger.reading(lambda c: c.execute(query).all()):
            mine = dataclasses.replace(scope, key=key)
            state: State = "ok"
            code = None
            try:
                data, instead = {"about": key}, PLAIN if fallback else MISSING
                await self.agent.ask(mine, "editor", data=data, output=Edition, fallback=instead)
            except OvernightError as error:
                state, code = ("retry" if isinstance(error, Transient) else "failed"), error.code
            self.clock.move(600)
            if lost and key == ANN.id:
                state, code = "unknown", "lost"
                begun = await self.effects.begin(mine, "mail", "t", key, "<id>")
                await self.effects.unknown(begun)
            kind, error = (None, None) if code is None else ("permanent", f"{code} for {ANN.addresses[0]}")
            later = self.clock.now() + timedelta(days=9) if state == "retry" else None
            ended = Outcome(key, state, error_class=kind, error_code=code, error=error, duration_ms=100, next_at=later)
            await self.ledger.record(record, Recorded(mine, was, ended, self.clock.now()))
        if not dies:
            self.ledger.writing(lambda c: close_run(c, scope, "partial", None, self.clock.now()))
        self.clock.move(60)

    async def step(self, what: str, slot: str) -> None:
        """Something that happens to a slot, where it can; then what it owes is published, as at the next round."""
        of = self.ledger.reading(latest_run, "digest", slot)
        match what:
            case "plain" | "fallback" | "lost":
                await self.run(slot, fallback=what == "fallback", lost=what == "lost")
            case "dies":  # and the next scheduler goes on with it
                await self.run(slot, fallback=False, lost=True, dies=True)
                await self.run(slot, fallback=False)
            case "settle" if of:
                for one in rows(self.ledger, item, slot=slot, state="unknown"):
                    self.ledger.writing(lambda c, k=one["key"]: settle_item(c, of, k, "unsent", self.clock.now()))  # type: ignore[misc]
            case "redo" if of:
                edition = self.ledger.reading(next_edition, "digest", slot, self.clock.now())
                self.ledger.writing(lambda c: supersede(c, "digest", edition, self.clock.now()))
            case "forget":
                forget(self.ledger, ANN, list, lambda _: None)
            case "raise":
                self.ledger.writing(lambda c: raise_cap(c, day_counter(slot), NANO, NANO))
        await publish(self.root, self.schedule, self.ledger, Dependencies({}, self.clock), self.alerter.raise_all)

    def published(self) -> dict[str, bytes]:
        """The CSVs in the folder of reports, each as its manifest says."""
        found = {path.name: path.read_bytes() for path in (self.root / "var/reports").glob("report=*/date=*/*.csv")}
        told = [json.loads(path.read_bytes()) for path in (self.root / "var/reports").glob("*/*/manifest.json")]
        assert {one["file"]: one["sha256"] for one in told} == {name: digest(found[name]) for name in found}
        return found

    def made_now(self) -> dict[str, bytes]:
        """What they would be, made now."""
        days = {name.removesuffix(".csv")[-10:] for name in self.published()}
        named = [(each, Day(date.fromisoformat(day), self.ledger)) for each in REPORTS for day in days]
        return {f"{each.name}-{day.date}.csv": each.table(day).csv() for each, day in named}

    async def grow_old(self) -> None:
        """Retention takes the items; the reports of their days stay as they were, also when somebody owes them."""
        before = self.published()
        self.clock.move(30 * 86400)
        await retire(self.ledger, {"digest": timedelta(days=2)})
        days = {name.removesuffix(".csv")[-10:] for name in before}
        kept = self.ledger.reading(retired_days, list(days))
        self.ledger.writing(lambda c: owe_reports(c, days))
        await publish(self.root, self.schedule, self.ledger, Dependencies({}, self.clock), self.alerter.raise_all)
        after = self.published()
        assert {name: after[name] for name in after if name[-14:-4] in kept} == {
            name: before[name] for name in before if name[-14:-4] in kept
        }
        assert rebuild(self.ledger) == []

    def column(self, report: Report, name: str) -> list[str]:
        """A column of a report's CSVs of all days, which are made once."""
        if report.name not in self.made:
            files = (io.StringIO(report.table(Day(day, self.ledger)).csv().decode(), newline="") for day in DAYS)
            self.made[report.name] = [row for file in files for row in csv.DictReader(file)]
        return [row[name] for row in self.made[report.name]]

    def money(self, report: Report, name: str) -> int:
        return sum(int(Decimal(cell).scaleb(9)) for cell in self.column(report, name) if cell)

    def by_day(self) -> Counter[str]:
        """What the report of costs has for each day, in nano-USD."""
        found: Counter[str] = Counter()
        for day, cell in zip(self.column(cost, "report_date"), self.column(cost, "cost_usd"), strict=True):
            found[day] += int(Decimal(cell).scaleb(9))
        return found


WORK, HAND = ["plain", "fallback", "lost", "dies"], ["settle", "redo", "forget", "raise"]
SLOTS = st.sampled_from(["2026-10-24", "2026-10-25"])
STEPS = st.lists(st.tuples(st.sampled_from(WORK + HAND), SLOTS), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.lists(WORDS, max_size=40), steps=STEPS)
@example(words=["429"] * 9, steps=[("plain", "2026-10-24"), ("forget", "")])
@example(words=["400"] * 9, steps=[("plain", "2026-10-24"), ("forget", "")])
@example(words=[], steps=[("lost", "2026-10-24"), ("settle", "2026-10-24")])
@example(words=["429"] * 9, steps=[("plain", "2026-10-24"), ("redo", "2026-10-24")])
@example(words=[], steps=[("plain", "2026-10-24"), ("raise", "2026-10-24")])
@example(words=[], steps=[("dies", "2026-10-24")])
def test_all_books_agree_to_the_nano_dollar(words: list[str], steps: Sequence[tuple[str, str]]) -> None:
    async def live(books: Books) -> None:
        for what, slot in steps:
            await books.step(what, slot)
        assert books.published() == books.made_now()
        assert books.published() or not set(WORK) & {what for what, _ in steps}
        await agree(books)
        await books.grow_old()

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        books = Books(Path(folder), iter(words))
        try:
            asyncio.run(live(books))
        finally:
            project.attach(ROOT)
            books.owner.bill.close()
            books.ledger.close()


def test_a_price_that_changes_at_noon_holds_for_what_comes_after(tmp_path: Path) -> None:
    books = Books(tmp_path, iter([]))
    dear = Rates(input=NANO, output=NANO, cache_read=NANO, cache_write=NANO, cache_write_1h=NANO)

    async def day() -> list[int]:
        await books.run("2026-10-24", fallback=False)
        before = books.ledger.reading(_costs)
        books.agent = replace(books.agent, prices=Prices({ROUTE[0]: OwnPrice(dear)}))
        await books.run("2026-10-25", fallback=False)
        assert rebuild(books.ledger) == []
        return before

    try:
        before = asyncio.run(day())
        after = books.ledger.reading(_costs)
        assert after[: len(before)] == before
        assert min(after[len(before) :]) > 5 * max(before)
        assert books.money(cost, "cost_usd") == sum(after)
    finally:
        books.owner.bill.close()
        books.ledger.close()


def _costs(connection: Connection) -> list[int]:
    return [int(nano) for nano in connection.execute(select(call.c.cost_nano).order_by(call.c.started_at)).scalars()]


def _by_day(connection: Connection) -> Counter[str]:
    """What was asked on each day by the clock on the wall, in a night that has an hour twice and goes past midnight."""
    found: Counter[str] = Counter()
    for at, nano in connection.execute(select(call.c.started_at, call.c.cost_nano)):
        found[at.astimezone(PARIS).date().isoformat()] += nano
    return found


async def agree(books: Books) -> None:
    c, i = call.c, item.c
    sums = [func.coalesce(func.sum(column), 0) for column in (c.cost_nano, c.input_tokens, c.output_tokens)]
    calls = books.ledger.reading(lambda connection: connection.execute(select(func.count(), *sums)).one())
    waste = select(func.coalesce(func.sum(c.cost_nano), 0)).join(item, (i.slot == c.slot) & (i.key == c.key))
    wasted = books.ledger.reading(lambda k: k.execute(waste.where(i.state == "failed")).scalar_one())
    naive = books.ledger.reading(lambda k: k.execute(select(func.coalesce(func.sum(c.naive_nano), 0))).scalar_one())
    seen = await figures(books.ledger, EVENING, books.clock.now() + timedelta(seconds=1), PARIS)
    assert seen.spending is not None
    assert seen.items is not None
    totals = {
        calls[1],
        books.money(cost, "cost_usd"),
        books.money(runs, "cost_usd"),
        books.money(items, "cost_usd"),
        seen.spending.cost_nano,
        sum(entry["cost_nano"] for entry in books.owner.bill.entries()),
    }
    assert len(totals) == 1
    for by in NAMES:
        told = books.ledger.reading(_spent, by, "")
        assert sum(row["cost_nano"] for row in told) == calls[1]
        assert sum(row["wasted_nano"] for row in told) == wasted
    assert books.by_day() == books.ledger.reading(_by_day)
    assert wasted == books.money(cost, "cost_wasted_usd") == seen.spending.wasted_nano
    assert naive == books.money(cost, "naive_usd") == books.money(items, "naive_usd") == seen.spending.naive_nano
    assert calls[0] == sum(map(int, books.column(cost, "calls")))
    assert calls[2:] == tuple(sum(map(int, books.column(cost, f"{kind}_tokens"))) for kind in ("input", "output"))
    bad = seen.items["failed"] + seen.items["retry"] + seen.items["unknown"]
    names = ("items_failed", "items_retry_pending", "items_unknown")
    counted = [sum(map(int, books.column(success_rate, name))) for name in names]
    assert bad == sum(map(int, books.column(errors, "count"))) == sum(counted)
    assert rebuild(books.ledger) == []
