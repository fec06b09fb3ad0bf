"""The batch: every item is worked on, each outcome is kept, and no item stops another.

Rows are planned ahead of the workers, who take them in pages from the ledger: memory does not grow with the audience,
and a run that is resumed or retried takes the very same way as a fresh one.
"""

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from pydantic import TypeAdapter

from overnight import logs
from overnight.budget import dollars
from overnight.deadline import deadline
from overnight.errors import (
    ConfigError,
    Downstream,
    Fenced,
    OvernightError,
    Refused,
    Skip,
    Stop,
    Transient,
    Unknown,
)
from overnight.jobs import Job, Options
from overnight.ledger.items import Planned, Recorded, Selection, page, plan, planned, record
from overnight.ledger.runs import next_seq
from overnight.outcome import Outcome, Spent
from overnight.retry import Retry
from overnight.retry import call as retrying
from overnight.run import NOT_UNDONE, Run
from overnight.threads import OwnThread

CHUNK = 500  # rows a plan transaction and a page
BACKOFF = (300.0, 900.0, 3600.0)  # seconds until a deferred item is taken up again, by how often it has been


@dataclass(frozen=True, slots=True)
class Picked:
    """Which items a batch takes: `only` these keys, at most `limit`, and whether failed ones count."""

    selection: Selection = "due"
    only: frozenset[str] = frozenset()
    limit: int | None = None


ALL = Picked()


@dataclass(slots=True)
class Batch:
    """One pass over the items of a slot.

    `redact` cleans error texts; `on_outcome` hears of each outcome once it is durable; `expires_at` (UTC) is until when
    a deferred item is taken up again; `errors` keeps the exceptions behind `bugs`, for tests.
    """

    job: Job[Any, Any]
    run: Run
    options: Options
    expires_at: datetime
    redact: Callable[[str], str] = str
    on_outcome: Callable[[Outcome], None] = lambda _outcome: None
    counts: Counter[str] = field(default_factory=Counter)
    bugs: list[Outcome] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    without_budget: int = 0
    stopped: Stop | None = None
    fenced: Fenced | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    _retry: Retry = field(init=False)
    _codec: TypeAdapter[Any] = field(init=False)
    _results: TypeAdapter[Any] = field(init=False)

    def __post_init__(self) -> None:
        """Resolve the types of the job once."""
        self._codec, self._results = self.job.codec(), self.job.results()
        asked = self.options
        self._retry = Retry(attempts=asked.attempts, initial=asked.initial, max=asked.longest)

    async def plan(self, picked: Picked = ALL) -> int:
        """Stream the items of the job into the ledger as pending rows; returns how many there are.

        Of a rehearsal just the picked ones: it is no edition, and its rest would be nobody's work. Raises Stop when
        `items=` fails or an item does not survive JSON.
        """
        wanted = picked if self.run.rehearsal else ALL
        total = new = 0
        first = await self.run.ledger.read(next_seq, self.run.scope)
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                named = [each for each in map(self._row, chunk) if not wanted.only or each[0] in wanted.only]
                left = None if wanted.limit is None else wanted.limit - total
                rows = [(first + total + n, *each) for n, each in enumerate(named[:left])]
                new += await self.run.ledger.write(partial(plan, scope=self.run.scope, rows=rows))
                total += len(rows)
                if total == wanted.limit:
                    break
        now = self.run.now()
        await self.run.ledger.write(lambda connection: planned(connection, self.run.scope, now))
        if new < total:
            self.run.log.warning("items with a key already planned were left alone", repeated=total - new)
        return total

    async def work(self, picked: Picked, planning: asyncio.Task[int] | None = None) -> None:
        """Work on the picked items until none is left, the run is stopped, or somebody asks to drain.

        `planning` may still be adding rows: workers begin with the first of them.
        """
        async with aclosing(self._pages(picked, planning)) as pages, asyncio.TaskGroup() as group:
            feed = Feed(pages, self.draining)
            for _ in range(self.options.concurrency):
                group.create_task(self._worker(feed))

    def drain(self) -> None:
        """Admit no more items; those in flight finish."""
        self.draining.set()

    def _row(self, item: Any) -> tuple[str, str]:
        try:
            return self.job.key(item), self._codec.dump_json(item, warnings="error").decode()
        except Exception as error:
            raise Stop(
                f"items of {self.job.name}: {item!r:.80} cannot be planned: {type(error).__name__}: {error}; "
                "an item is a dataclass, a pydantic model or plain JSON, of the type its function names",
                code="bad_item",
            ) from error

    async def _chunks(self) -> AsyncGenerator[list[Any]]:
        if self.job.items is None:
            yield [self.run.slot]
            return
        try:
            async with aclosing(_chunked(self.job.items(self.run))) as chunks:
                async for chunk in chunks:
                    yield chunk
        except OvernightError:
            raise
        except Exception as error:
            raise Stop(f"items of {self.job.name}: {type(error).__name__}: {error}", code="bad_items") from error

    async def _pages(self, picked: Picked, planning: asyncio.Task[int] | None) -> AsyncGenerator[list[Planned]]:
        """The picked items, some hundred at a time, in the order of the plan."""
        after, left = -1, picked.limit
        while (left is None or left > 0) and not self.draining.is_set():
            complete = planning is None or planning.done()
            try:
                rows = await self._page(after, picked.selection)
            except Stop as error:  # the ledger cannot be read: what is in flight finishes
                self._stop(error)
                return
            if rows:
                after = rows[-1].seq
                wanted = [row for row in rows if not picked.only or row.key in picked.only][:left]
                left = None if left is None else left - len(wanted)
                yield wanted
            elif complete:
                return
            else:
                await self.run.clock.sleep(0.005)

    async def _page(self, after: int, selection: Selection) -> list[Planned]:
        now, scope = self.run.now(), self.run.scope
        rows = await self.run.ledger.read(
            lambda connection: page(connection, scope, after, selection=selection, now=now, limit=CHUNK)
        )
        # Who asks for failed items to be done again gives them a new term, too.
        return [dataclasses.replace(row, expires_at=None) for row in rows] if selection == "again" else rows

    async def _worker(self, feed: "Feed") -> None:
        while (row := await feed.next()) is not None:
            run = self.run.for_item(row.key)
            scope = run.scope
            with logs.bound(run_id=scope.run_id, task_id=scope.task_id):  # also what libraries and jobs say in between
                outcome = await self._one(row, run)
                if outcome is not None:
                    await self._keep(row, outcome)
                    _log_end(run.log, outcome, run.asks.spent(scope))  # last: who reads of it may rely on it

    async def _one(self, row: Planned, run: Run) -> Outcome | None:
        """Work on one item; None when it stays pending because the run cannot go on."""
        clock, log = run.clock, run.log
        started = clock.monotonic()
        log.info("task started")
        attempts = 0

        async def attempt(_number: int) -> Any:
            nonlocal attempts
            attempts += 1
            async with deadline(self.options.item_timeout):
                return await self.job.work(item, run)

        try:
            self._refuse_expired(row, run.now())
            item = self._codec.validate_json(row.payload)
            value = await retrying(self._retry, attempt, clock=clock)
            outcome = Outcome(row.key, "ok", result=self._results.dump_json(value).decode())
        except (Stop, ConfigError, Refused) as error:
            self._stop(error if isinstance(error, Stop) else Stop(str(error), code=error.code))
            log.warning("task left pending", status="pending", error=self.redact(str(error)))
            return None
        except Fenced as error:
            self._lose(error)
            return None
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # also what libraries keep out of Exception: the others go on
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            if isinstance(error, Downstream) and not await self._undone(run):
                return None
            outcome = self._failure(row, error)
            if outcome.error_class == "bug":
                self.errors.append(error)
                log.exception("task has a bug", exc_info=error)
        return dataclasses.replace(outcome, attempts=attempts, duration_ms=round((clock.monotonic() - started) * 1000))

    async def _undone(self, run: Run) -> bool:
        """Undo what the item has done; what still stands is told. False when that cannot be written down (any more)."""
        try:
            for failure in await run.steps.undo():
                run.note(NOT_UNDONE, self.redact(failure))
        except Stop as error:
            self._stop(error)
            return False
        except Fenced as error:
            self._lose(error)
            return False
        return True

    def _refuse_expired(self, row: Planned, now: datetime) -> None:
        if row.state == "retry" and row.expires_at is not None and row.expires_at <= now:
            raise _Expired

    def _failure(self, row: Planned, error: BaseException) -> Outcome:
        now = self.run.now()
        outcome = outcome_of(row.key, error, retries=row.attempts, now=now, expires_at=self._term(row, error, now))
        error_text, reason = (None if text is None else self.redact(text) for text in (outcome.error, outcome.reason))
        return dataclasses.replace(outcome, error=error_text, reason=reason)

    def _term(self, row: Planned, error: BaseException, now: datetime) -> datetime:
        """Until when it is tried again: the first term holds, unless what is wrong now is worth less time."""
        worth = getattr(error, "within", None)
        if worth is None:
            return row.expires_at or self.expires_at
        term = now + timedelta(seconds=worth)
        return min(row.expires_at or term, term)

    async def _keep(self, row: Planned, outcome: Outcome) -> None:
        entry = Recorded(self.run.scope, row.state, outcome, self.run.now())
        try:
            await self.run.ledger.record(record, entry)
        except Fenced as error:
            self._lose(error)
            return
        except Exception as error:  # noqa: BLE001  before more happens that cannot be written down
            self._stop(error if isinstance(error, Stop) else Stop(f"the ledger cannot be written: {error}"))
            return
        self.counts[outcome.state] += 1
        self.without_budget += outcome.state == "skipped" and outcome.reason == "budget"
        if outcome.error_class == "bug":
            self.bugs.append(outcome)
        self.on_outcome(outcome)

    def _stop(self, reason: Stop) -> None:
        self.stopped = self.stopped or reason
        self.drain()

    def _lose(self, error: Fenced) -> None:
        self.fenced = error
        self.drain()


class Feed:
    """The items of a batch, each for the worker that asks next: a queue costs each of a million items 10 us."""

    def __init__(self, pages: AsyncGenerator[list[Planned]], draining: asyncio.Event) -> None:
        self._pages, self._draining = pages, draining
        self._rows: deque[Planned] = deque()
        self._turn = asyncio.Lock()

    async def next(self) -> Planned | None:
        """The next item; None when there is none, or no more is to be begun: what is left stays as it was."""
        while not self._rows and not self._draining.is_set():
            async with self._turn:
                if self._rows:
                    continue  # somebody else has turned the page meanwhile
                page = await anext(self._pages, None)
                if page is None:
                    return None
                self._rows.extend(page)
        return None if self._draining.is_set() else self._rows.popleft()


def _is_cancelled() -> bool:
    """Whether this worker is asked to end; else the job's own code has raised the error."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class _Expired(Exception):
    """The time in which a deferred item was to be tried again is over."""


def outcome_of(  # noqa: PLR0911  a table: one row, one return
    key: str, error: BaseException, *, retries: int, now: datetime, expires_at: datetime
) -> Outcome:
    """What an exception means for the item that raised it. Pure.

    `retries` (how often it was tried before) chooses the pause before the next sweep; past `expires_at` nothing is
    tried again.
    """
    match error:
        case Skip():
            return Outcome(key, "skipped", reason=str(error))
        case Unknown():
            return Outcome(key, "unknown", reason=str(error), error_code=error.code, error=str(error))
        case Transient():
            pause = error.after or BACKOFF[min(retries, len(BACKOFF) - 1)]
            return _later(key, error.code, str(error), now + timedelta(seconds=pause), expires_at)
        case TimeoutError():
            message = str(error) or "the item took longer than its item_timeout"
            pause = BACKOFF[min(retries, len(BACKOFF) - 1)]
            return _later(key, "timeout", message, now + timedelta(seconds=pause), expires_at)
        case OvernightError():
            return Outcome(key, "failed", error_class=error.error_class, error_code=error.code, error=str(error))
        case _Expired():
            message = "was deferred until it expired; `overnight retry` tries it once more"
            return Outcome(key, "failed", error_class="transient", error_code="expired", error=message)
        case _:
            name = type(error).__name__
            return Outcome(key, "failed", error_class="bug", error_code=name, error=f"{name}: {error}")


def _later(key: str, code: str, message: str, next_at: datetime, expires_at: datetime) -> Outcome:
    if next_at >= expires_at:
        return Outcome(key, "failed", error_class="transient", error_code=code, error=message)
    return Outcome(
        key, "retry", error_class="transient", error_code=code, error=message, next_at=next_at, expires_at=expires_at
    )


def _log_end(log: Any, outcome: Outcome, spent: Spent | None) -> None:
    extra = {
        name: value for name in ("reason", "error_class", "error_code", "error") if (value := getattr(outcome, name))
    }
    if spent is not None:
        extra |= {"role": spent.role, "model": spent.model, "tokens": spent.tokens, "cost": dollars(spent.cost_nano)}
    write = log.info if outcome.state in ("ok", "skipped") else log.warning
    write("task ended", status=outcome.state, duration=outcome.duration_ms / 1000, attempts=outcome.attempts, **extra)


async def _chunked(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[list[Any]]:
    """Lists of up to CHUNK items. A plain iterable may hang in its own thread: that does not hold up the process."""
    if isinstance(items, AsyncIterable):
        chunk: list[Any] = []
        async for item in items:
            chunk.append(item)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    iterator, thread, loop = iter(items), OwnThread("items"), asyncio.get_running_loop()
    try:
        while chunk := await loop.run_in_executor(thread, lambda: list(islice(iterator, CHUNK))):
            yield chunk
    finally:
        thread.shutdown()
