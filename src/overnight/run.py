"""What a job may touch: its slot, its parameters, and the ports to model, mail and memory."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_type_hints
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from overnight import logs
from overnight.agent import MISSING, Answer
from overnight.clock import Clock
from overnight.compensation import Step, Steps
from overnight.context import Context, gathered, select
from overnight.deadline import deadline, off_the_clock, without_deadline
from overnight.effects import Effects
from overnight.errors import Fenced, OvernightError, Skip, Stop
from overnight.ledger import Ledger
from overnight.ledger.onces import keep_once, once_value, seen_by_others
from overnight.outcome import Scope, Spent

if TYPE_CHECKING:  # not every job mails
    from overnight.mail import Recipient

T = TypeVar("T")

ONCE = 900.0  # seconds of work for a `once` value: three model requests at their deadline
NOT_UNDONE = "not_undone"
# Alerts of the engine that have an end of their own: a warning of that name would be told as over while it lasts.
ENGINES = frozenset(
    {"success_rate", "p95_duration", "daily_cost", "late", "missed", "stuck", "breaker", "unknown", NOT_UNDONE}
    | {"mail_policy", "spool", "reports", "bug", "stopped", "model", "died", "gave_up", "unbegun", "left", "ledger"}
    | {"subscribe", "clock", "ahead"}
)


class Post(Protocol):
    """Who sends mail for an item."""

    async def send(
        self, scope: Scope, to: "Recipient | str", template: str, context: Mapping[str, Any], *, archive: bool = False
    ) -> str:
        """Send one mail; returns its Message-ID."""
        ...


class Asks(Protocol):
    """Who asks a model for an item."""

    async def ask(
        self,
        scope: Scope,
        role: str,
        *,
        data: Mapping[str, Any],
        output: type[T],
        fallback: T,
        split: str | None,
        merge: Callable[[Sequence[T]], T] | None,
        steps: Steps | None,
        left_out: int,
    ) -> Answer[T]:
        """Ask in a role; returns an Answer."""
        ...

    def spent(self, scope: Scope) -> Spent | None:
        """What this item has asked since the last call of this method; for the log."""
        ...


@dataclass(frozen=True, slots=True)
class Mail:
    """The mail of one item."""

    post: Post
    scope: Scope

    async def send(self, to: "Recipient | str", template: str, *, archive: bool = False, **context: Any) -> str:
        """Send the mail `templates/<template>.*` to a subscriber or an address; returns its Message-ID.

        Readers with the same context share one rendering. `archive=True` also keeps a page of it beside the reports,
        rendered for nobody: say it only when the context holds nothing that is for one reader.

        At most one mail per item, template and recipient is sent, also after a crash. Raises Skip for one who has
        unsubscribed, Permanent for a refused address, Deferred for a server that asks to come back later. `images`
        in the context are PNGs by name, shown by `<img src="cid:NAME">`.
        """
        return await self.post.send(self.scope, to, template, context, archive=archive)


@dataclass(frozen=True, slots=True)
class Run:
    """One run over a slot, as one item sees it.

    A run may be over a slot of long ago: a job asks `scheduled_for` and `now()`, never the clock of the machine.
    """

    # What has a comment behind it is for jobs, and on the page docs/reference/author.md; the rest is the engine's.
    scope: Scope
    scheduled_for: datetime  # when the slot was due, UTC
    params: Mapping[str, Any]  # those of the job in schedule.yaml
    root: Path  # the folder of the project
    zone: ZoneInfo  # that of the job's times
    clock: Clock
    ledger: Ledger
    asks: Asks
    post: Post
    log: Any  # of structlog: `run.log.info("room booked", floor=2)` is one JSON line, with `task_id`, secrets replaced
    previous: datetime | None = None  # when the slot before this one was due; None for the first
    public_url: str = ""  # where `serve` can be reached from outside
    spool: Path = Path("var/spool")  # where reports wait for their store
    rehearsal: bool = False  # whether it is a rehearsal, which touches nothing outside
    on_unknown: Literal["park", "resend", "reconcile"] = "park"
    notices: dict[str, list[str]] = field(default_factory=dict)
    redact: Callable[[str], str] = str  # takes secrets out of a text before it is kept
    _onces: "Onces" = field(default_factory=lambda: Onces())  # noqa: PLW0108  the class is defined below
    _marks: list[tuple[str, str]] | None = None
    _steps: Steps | None = None

    @property
    def steps(self) -> Steps:
        """What this item has done outside. Raises RuntimeError outside of an item."""
        if self._steps is None:
            raise RuntimeError("run.effect belongs into the function of an item, not into `items=` or `once`")
        return self._steps

    @property
    def job(self) -> str:
        """The job's name."""
        return self.scope.job

    @property
    def slot(self) -> str:
        """What the run is about: the local date of the edition, or the UTC instant of a job of more than one a day."""
        return self.scope.slot

    @property
    def key(self) -> str:
        """The key of the item."""
        return self.scope.key

    @property
    def run_id(self) -> str:
        """The id of this attempt."""
        return self.scope.run_id

    @property
    def mail(self) -> Mail:
        """The mail of this item."""
        return Mail(self.post, self.scope)

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        return self.clock.now()

    async def agent(
        self,
        role: str,
        *,
        data: Mapping[str, Any],
        output: type[T],
        fallback: T = MISSING,
        split: str | None = None,
        merge: Callable[[Sequence[T]], T] | None = None,
        context: Context | None = None,
    ) -> Answer[T]:
        """Ask a model in a role of schedule.yaml; returns `Answer(value, source, model, cost_nano)`.

        `data` is untrusted: it reaches the model fenced, as material. With a `fallback` neither data, model nor
        budget make the call fail: the answer's `source` says `"fallback"`.

        `split` names a list or a text in `data`. When the question or its answer is too long for one request, that list
        or text is halved, each half asked, down to single entries where it has to be, and `merge([answer, …])` makes
        one value of the answers, in order (without it, `output` is a list and they are joined). Each part is paid for
        once, also after a crash.

        `context` is what `run.context` has chosen; it joins `data`, and reports tell what the whole would have cost.

        A role with tools may use them within its limits; what they leave outside is an effect of this item: done once,
        and undone when the item ends with Downstream.
        """
        material, left_out = dict(data), 0
        if context is not None:
            material["context"], left_out = context.data(), context.tokens_in_all - context.tokens
        return await self.asks.ask(
            self.scope,
            role,
            data=material,
            output=output,
            fallback=fallback,
            split=split,
            merge=merge,
            steps=self._steps,
            left_out=left_out,
        )

    async def context(self, query: str, documents: Mapping[str, str] | Iterable[str], max_tokens: int) -> Context:
        """Choose from documents what resembles `query` most, of `max_tokens` at most; it says what it leaves out.

        `documents` are texts by name, or paths of text files and folders in the project. Files that are no text are
        left out; hidden ones and those behind links are not read. Raises Permanent for a path that is not there.
        """
        return await asyncio.to_thread(_chosen, self.root, query, documents, max_tokens)

    async def once(self, compute: Callable[["Run"], Awaitable[T]]) -> T:
        """The value of `compute(run)`, computed once per slot and stored before anybody uses it.

        Items that ask at the same time wait for the same computation, off their clock; a later run gets the stored
        value. It is kept as JSON under the function's name, and comes back as its return annotation says. A failing
        computation is a Stop: no item can do without it.
        """
        value: T = await self._onces.get(compute, self)
        return value

    async def effect(
        self,
        name: str,
        do: Callable[[], Awaitable[T]],
        *,
        undo: Callable[[T], Awaitable[object]] | None = None,
        find: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        """Do something outside once for this item, and return what `do()` returned; `name` is unique in the item.

        The value must survive JSON; a later attempt or run gets it without doing it again. When the item ends with
        Downstream, `undo(value)` is called, for the last effect first. Where a crash leaves it unknown whether it was
        done, `on_unknown` decides: `park` (the item is `unknown`), `resend`, or `reconcile` by `find()`, which returns
        the value, or None when it was not done. Raises Unknown; Skip in a rehearsal, which touches nothing outside.
        """
        if self.rehearsal:
            raise Skip(f"a rehearsal does not do {name}")
        return await self.steps.take(Step(name, do, undo, find))

    async def seen(self, source: str) -> set[str]:
        """Keys of `source` that other slots of this job have marked as seen."""
        return await self.ledger.read(seen_by_others, self.job, self.slot, source)

    def mark_seen(self, source: str, keys: Iterable[str]) -> None:
        """Mark keys of `source` as used by this slot; stored together with the `once` value being computed."""
        if self._marks is None:
            raise RuntimeError("mark_seen belongs into a function that is called through run.once")
        self._marks.extend((source, key) for key in keys)

    def warn(self, topic: str, message: str) -> None:
        """Tell the operator of something that does not stop the job: a log line now, one alert per run and topic.

        A topic that is the name of an alert of the engine's own is told as `job_TOPIC`.
        """
        self.note(f"job_{topic}" if topic in ENGINES else topic, message)

    def note(self, topic: str, message: str) -> None:
        """The same for the engine itself: also under the name of an alert that has an end of its own."""
        self.log.warning(message, topic=topic)
        self.notices.setdefault(topic, []).append(message)

    def for_item(self, key: str) -> "Run":
        """This run as the item `key` sees it."""
        scope = self.scope.of(key)
        steps = Steps(Effects(self.ledger, self.clock), scope, self.on_unknown)
        return dataclasses.replace(self, scope=scope, _steps=steps)


class Onces:
    """The `once` values of a run: each is computed by the first item that asks."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def get(self, compute: Callable[[Run], Awaitable[T]], run: Run) -> T:
        """The value, computed or waited for. The computation outlives an item that gives up waiting."""
        name = getattr(compute, "__name__", type(compute).__name__)
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(_compute(name, compute, run), context=without_deadline())
        async with off_the_clock():
            value: T = await asyncio.shield(self._tasks[name])
        return value


async def _compute(name: str, compute: Callable[[Run], Awaitable[T]], run: Run) -> T:
    scope = run.scope.of(f"once:{name}")
    with logs.bound(task_id=scope.task_id):  # not that of the item that has asked first
        return await _computed(name, compute, run, scope)


async def _computed(name: str, compute: Callable[[Run], Awaitable[T]], run: Run, scope: Scope) -> T:
    codec: TypeAdapter[T] = TypeAdapter(get_type_hints(compute).get("return", Any))
    stored = await run.ledger.read(once_value, run.job, run.slot, name)
    if stored is None:
        marks: list[tuple[str, str]] = []
        try:
            async with deadline(ONCE):
                value = await compute(dataclasses.replace(run, scope=scope, _marks=marks, _steps=None))
        except (Stop, Fenced):
            raise
        except TimeoutError as error:
            raise Stop(f"once {name}: {str(error) or f'took longer than {ONCE:g} s'}", code="timeout") from error
        except OvernightError as error:
            raise Stop(f"once {name}: {error}", code=error.code) from error
        except Exception as error:
            run.log.exception("once has a bug", name=name, exc_info=error)
            place = _place(error, run.root)
            raise Stop(f"once {name}: {type(error).__name__}: {error}{place}", code="bug") from error
        stored = codec.dump_json(value).decode()
        kept = [] if run.rehearsal else marks
        now = run.now()
        text = stored
        await run.ledger.write(lambda connection: keep_once(connection, scope, name, text, kept, now))
    return codec.validate_json(stored)


def _chosen(root: Path, query: str, documents: Mapping[str, str] | Iterable[str], max_tokens: int) -> Context:
    texts = documents if isinstance(documents, Mapping) else gathered(root, documents)
    return select(query, texts, max_tokens)


def _place(error: BaseException, root: Path) -> str:
    """` (jobs/x.py:12)`, the innermost line of the project's own code; empty when there is none."""
    home = root.resolve()
    frames = [(Path(frame.filename).resolve(), frame.lineno) for frame in extract_tb(error.__traceback__)]
    own = [
        (path.relative_to(home), line)
        for path, line in frames
        if path.is_relative_to(home) and "site-packages" not in path.parts
    ]
    return f" ({own[-1][0]}:{own[-1][1]})" if own else ""
