"""Agents: one question in a role, answered in a given shape, paid for once.

The way of a question: journal -> reserve the worst case -> rate limits -> request -> settle and book -> validate. What
is not valid is repaired once, then asked of the role's next model; then the caller's fallback, or the error, has its
turn. Every request is a row of `call` before it is sent: as unknown, at its worst price. The reply corrects the row; a
crash in between leaves it standing, so that money which may have been spent is never forgotten.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from overnight import logs
from overnight.budget import Also, BudgetExceeded, Budgets, Reservation, dollars
from overnight.clock import Clock, token
from overnight.deadline import off_the_clock
from overnight.dependency import Dependency
from overnight.errors import Deferred, Fenced, Invalid, OvernightError, Permanent, Skip, Stop, Transient
from overnight.ledger import Ledger
from overnight.ledger.journal import Ended, Sent, begin, book, cut_off, discard, discarded_answers, forget, paid_answers
from overnight.ledger.tried import Tried
from overnight.model import Lost, ModelReply, ModelRequest, Models, headers_of
from overnight.outcome import Scope, Spent
from overnight.outputs import refuse_links
from overnight.pricing import Prices
from overnight.prompts import as_json, suspicious
from overnight.question import Question, Said
from overnight.refusals import ALL
from overnight.retry import Retry
from overnight.retry import call as retrying
from overnight.roles import Roles
from overnight.shapes import shape
from overnight.split import CUT_OFF, Split, in_parts, split_of, too_long

T = TypeVar("T")
Source = Literal["model", "repaired", "fallback", "replayed"]

MISSING: Any = object()  # no fallback; None is one
LATER = 300.0  # seconds until an item is taken up again whose model could not be reached
TURNS = (0, 1)  # the question, and its one repair
OF_ONE_MODEL = {"http_403", "http_404"}  # refusals that say nothing about other models
BUSY = {"http_529", "breaker_open"}  # nor do these; each model has a breaker of its own


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A value of the asked type, where it came from, and what this question has cost now in nano-USD.

    `source`: `model`; `repaired` at the second try; `replayed` from the journal, for nothing; `fallback` by the caller,
    then `model` is None.
    """

    value: T
    source: Source
    model: str | None
    cost_nano: int = 0


@dataclass(slots=True)
class Agent:
    """Asks models for the items of a run.

    `fallbacks` counts by role how often a fallback stood in, `notices` says once per role and error why, `warnings`
    that a budget is nearly spent: material for one alert each per run. `on_fallback(scope, role, error)` is told each
    time.
    """

    ledger: Ledger
    model: Models
    roles: Roles
    budgets: Budgets
    api: Dependency
    clock: Clock
    prices: Prices = field(default_factory=Prices)
    retry: Retry = field(default_factory=Retry)
    on_fallback: Callable[[Scope, str, OvernightError], None] | None = None
    fallbacks: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _spent: dict[str, Spent] = field(default_factory=dict)
    _tried: Tried = field(init=False)

    def __post_init__(self) -> None:
        self._tried = Tried(self.ledger)

    async def ask(
        self,
        scope: Scope,
        role: str,
        *,
        data: Mapping[str, Any],
        output: type[T],
        fallback: T = MISSING,
        split: str | None = None,
        merge: Callable[[Sequence[T]], T] | None = None,
    ) -> Answer[T]:
        """Ask for the answer to `data` in a role, as a value of `output`.

        What is too long for one request is asked in parts: halves of the list or text `data[split]`, as often as it
        takes, each booked, paid and kept as a question of its own. `merge` makes one answer of theirs, in their order;
        lists are joined without it. A part that fails is the failure of the whole.

        With a `fallback` only Fenced passes. Without: Deferred when the model cannot be reached for now, Invalid
        when no model of the role gave a valid answer, Skip("budget"), Permanent for a request the API refuses and for
        `data` that JSON cannot hold (code `data`), Stop for what no item can get around.
        """
        question: Question | None = None
        try:
            question = self._question(scope, role, data, output)
            divided = split_of(split, merge, question.data, output)
            return await (self._in_parts(question, divided) if divided else self._answered(question))
        except Fenced:
            raise
        except OvernightError as error:
            if fallback is MISSING:
                raise _final(error) from error
            self._note(scope, role, error)
            return Answer(fallback, "fallback", None, question.spent if question else 0)

    def _question(self, scope: Scope, role: str, data: Mapping[str, Any], output: Any) -> Question:
        plain, text = as_json(data)
        if suspicious(text):
            logs.get().warning("data holds invisible characters", task_id=scope.task_id, role=role)
        return Question(scope, self.roles.role(role), self.roles.system(role), plain, shape(output))

    async def _answered(self, question: Question) -> Answer[Any]:
        return await self._replayed(question) or await self._routed(question)

    async def _in_parts(self, question: Question, split: Split[Any]) -> Answer[Any]:
        """Ask in as many parts as it takes. `source`: the least plain one; replayed only when all parts are."""

        async def ask(data: Any, divisible: bool) -> Answer[Any]:
            part = replace(question, data=data, divisible=divisible, spent=0)
            try:
                return await self._answered(part)
            finally:
                question.spent += part.spent

        answers = await in_parts(question.data, split, ask)
        if len(answers) == 1:
            return replace(answers[0], cost_nano=question.spent)
        sources: tuple[Source, ...] = ("repaired", "model", "replayed")
        source = next(each for each in sources if any(answer.source == each for answer in answers))
        models = dict.fromkeys(answer.model for answer in answers if answer.model)
        return Answer(split.merge([answer.value for answer in answers]), source, ", ".join(models), question.spent)

    async def _replayed(self, question: Question) -> Answer[Any] | None:
        """Look for an answer that an earlier attempt has paid for; what is not valid any more is asked anew."""
        if not await self._tried.before(question.scope):
            return None
        hashes = [question.hash(model, turn) for model in question.role.models for turn in TURNS]
        for row in await self.ledger.read(discarded_answers, question.scope, hashes, question.role.max_tokens):
            if wrong := _wrong(question, row["response"], row["error_code"]):
                question.before[row["hash"]] = Said(row["response"], wrong)
        for row in await self.ledger.read(paid_answers, question.scope, hashes):
            try:
                value = question.shape.parse(row["response"])
                refuse_links(value, question.data)
                return Answer(value, "replayed", row["model"])
            except Invalid as error:
                await self._discard(row["id"], error)
        if question.divisible and await self.ledger.read(cut_off, question.scope, hashes, CUT_OFF):
            raise Invalid("the answer was cut off when this was asked before", code=CUT_OFF)
        return None

    async def _routed(self, question: Question) -> Answer[Any]:
        """Ask the models of the route until one gives a valid answer."""
        last: OvernightError = Stop(f"the role {question.role.name!r} names no model", code="no_model")
        refused: Stop | None = None  # comes first if nobody answers: it is for the operator
        for model in question.role.models:
            try:
                return await self._valid(question, model)
            except Invalid as error:
                if question.divisible and too_long(error):
                    raise
                last = error
            except Stop as error:
                if error.code not in OF_ONE_MODEL:
                    raise
                refused = refused or error
                self._notice(self.notices, f"role {question.role.name}: {model} is left out: {error}", question.scope)
            except Permanent as error:
                if not error.code.startswith("http_"):
                    raise
                about = f"the role {question.role.name!r}, max_tokens {question.role.max_tokens}"
                raise type(error)(f"{about}: {error}", code=error.code) from error
            except Transient as error:
                last = error
                if error.code not in BUSY:  # an overloaded model says nothing about the others; a dead line does
                    break
        raise refused or last

    async def _valid(self, question: Question, model: str) -> Answer[Any]:
        said: Said | None = None
        for turn in TURNS:
            got = question.before.get(question.hash(model, turn)) or await self._turn(question, model, turn, said)
            if isinstance(got, Answer):
                return got
            said = got
            if said.error.code == "refusal" or (question.divisible and too_long(said.error)):  # it would happen again
                break
        raise said.error if said else Invalid("no answer", code="empty")

    async def _turn(self, question: Question, model: str, turn: int, said: Said | None) -> Answer[Any] | Said:
        call_id, reply = await self._reply(question, question.request(model, said), turn)
        try:
            value = question.shape.parse(reply.answer())
            refuse_links(value, question.data)
        except Invalid as error:
            await self._discard(call_id, error)
            return Said(reply.text, error)
        return Answer(value, "repaired" if turn else "model", model, question.spent)

    async def _reply(self, question: Question, request: ModelRequest, turn: int) -> tuple[str, ModelReply]:
        digest = question.hash(request.model, turn)

        def on_retry(attempt: int, error: Transient, wait: float) -> None:
            log = logs.get().bind(task_id=question.scope.task_id, run_id=question.scope.run_id, model=request.model)
            log.warning("model call is repeated", attempt=attempt, error_code=error.code, wait=round(wait, 3))

        return await retrying(
            self.retry,
            lambda _: self._attempt(question, request, digest),
            clock=self.clock,
            on_retry=on_retry,
            quota=self.api.quota,
        )

    async def _attempt(self, question: Question, request: ModelRequest, digest: str) -> tuple[str, ModelReply]:
        """Send one HTTP request: reserved and booked as unknown, sent, corrected."""
        self.model.check()
        async with self.api.refusals.waiting(request.model) as send:
            return await self._sent(question, request, digest, send)

    async def _sent(
        self, question: Question, request: ModelRequest, digest: str, send: Callable[[], None]
    ) -> tuple[str, ModelReply]:
        sent, reservation = await self._reserve(question, request, digest)
        exchange = _Exchange()
        try:
            async with self.api.request(
                request.model, requests=1, input_tokens=request.input_estimate, output_tokens=request.max_tokens
            ) as grant:
                send()
                reply = await exchange.of(self.model, request, self.clock)
                grant.settle(input_tokens=reply.usage.input_tokens, output_tokens=reply.usage.output_tokens)
        finally:  # what the model said counts, whatever came afterwards
            if exchange.started is None:  # the breaker is open, or the wait was too long: nothing was sent
                question.spent -= sent.worst
                await self.budgets.settle(reservation, 0, also=Also(forget, sent))
            else:
                self._heard(exchange, request.model)
                await self._book(question, sent, reservation, self._ended(exchange, sent, question.role.models))
        return sent.id, reply

    def _heard(self, exchange: "_Exchange", model: str) -> None:
        """Tell the others what concerns them, too: the limits of the API, and that it turns everybody away."""
        error = exchange.error
        headers = exchange.reply.headers if exchange.reply else headers_of(error) if error else {}
        self.api.limit.observe(headers)
        if isinstance(error, Stop):  # ten thousand items need not each be told that the key is wrong
            self.api.refusals.tell(error, model if error.code in OF_ONE_MODEL else ALL)

    def _ended(self, exchange: "_Exchange", sent: Sent, route: Sequence[str]) -> Ended:
        seconds = self.clock.monotonic() - (exchange.started or 0.0)
        if exchange.reply is not None:
            ended = _success(exchange.reply, self._cost(exchange.reply, sent.model), seconds)
            return replace(ended, naive_nano=self.prices.naive(route, ended.usage, at=self.clock.now()))
        return _failure(exchange.error, sent.worst, seconds)

    async def _reserve(self, question: Question, request: ModelRequest, digest: str) -> tuple[Sent, Reservation]:
        now, role = self.clock.now(), question.role
        most = self.prices.worst(request.model, request.input_bound, request.max_tokens, at=now)
        sent = Sent(f"c_{token(12)}", question.scope, digest, role.name, request.model, most, now)
        reservation = await self.budgets.reserve(
            question.scope,
            most,
            role=role.name,
            also=Also(begin, sent),
            undo=lambda connection: forget(connection, [sent]),
        )
        question.spent += most
        if reservation.warned:
            self._notice(self.warnings, f"the budget of {reservation.day} is nearly spent", question.scope)
        return sent, reservation

    async def _book(self, question: Question, sent: Sent, reservation: Reservation, ended: Ended) -> None:
        """Settle the budget and correct the rows, in one transaction; then say so in the log."""
        question.spent += ended.cost_nano - sent.worst
        await self.budgets.settle(reservation, ended.cost_nano, also=Also(book, (sent, ended)))
        self._tally(sent, ended)
        _log(sent, ended)

    def _cost(self, reply: ModelReply, asked: str) -> int:
        """What a reply costs: by the operator's own price of what was asked, else by the model that has answered."""
        now = self.clock.now()
        return self.prices.price(self.prices.priced_as(asked, reply.model, at=now), reply.usage, at=now)

    def spent(self, scope: Scope) -> Spent | None:
        """What an item has asked of models since this was last called; None when nothing."""
        return self._spent.pop(scope.task_id, None)

    def _tally(self, sent: Sent, ended: Ended) -> None:
        before = self._spent.get(sent.scope.task_id)
        tokens, cost = (before.tokens, before.cost_nano) if before else (0, 0)
        total = Spent(sent.role, sent.model, tokens + ended.usage.tokens, cost + ended.cost_nano)
        self._spent[sent.scope.task_id] = total

    async def _discard(self, call_id: str, error: Invalid) -> None:
        await self.ledger.write(lambda connection: discard(connection, call_id, error.code))

    def _note(self, scope: Scope, role: str, error: OvernightError) -> None:
        self.fallbacks[role] += 1
        self._notice(self.notices, f"role {role}: the fallback stands in: {_final(error)}", scope)
        if self.on_fallback is not None:
            self.on_fallback(scope, role, error)

    def _notice(self, told: list[str], text: str, scope: Scope) -> None:
        if text not in told:
            told.append(text)
        logs.get().warning(text, task_id=scope.task_id, run_id=scope.run_id)


def _wrong(question: Question, text: str, code: str) -> Invalid | None:
    """What is wrong with an answer that was thrown away; None when nothing is by now: then it is asked for anew."""
    if code in ("schema", "links"):
        try:
            refuse_links(question.shape.parse(text), question.data)
        except Invalid as error:
            return error
        return None
    return Invalid(f"the answer was no use when this was asked before ({code})", code=code)


@dataclass(slots=True)
class _Exchange:
    """One request and what became of it by the model's own word; `started` (monotonic seconds) None: never sent."""

    started: float | None = None
    reply: ModelReply | None = None
    error: BaseException | None = None

    async def of(self, model: Models, request: ModelRequest, clock: Clock) -> ModelReply:
        """Send the request. The item's deadline stands still: the request's own ends with a verdict."""
        self.started = clock.monotonic()
        try:
            async with off_the_clock():
                self.reply = await model.create(request)
        except BaseException as error:
            self.error = error
            raise
        return self.reply


def _success(reply: ModelReply, cost: int, seconds: float) -> Ended:
    return Ended("ok", cost, round(seconds * 1000), reply.usage, reply.request_id, reply.text)


def _failure(error: BaseException | None, most: int, seconds: float) -> Ended:
    """Charge nothing for a refusal, all for what may have been carried out, a cancelled request included."""
    if isinstance(error, OvernightError) and not isinstance(error, Lost):
        return Ended("failed", 0, round(seconds * 1000), error_class=error.error_class, error_code=error.code)
    ours = error if isinstance(error, Lost) else None
    code = ours.code if ours else type(error).__name__.lower()
    error_class = ours.error_class if ours else "bug" if isinstance(error, Exception) else "transient"
    return Ended("unknown", most, round(seconds * 1000), error_class=error_class, error_code=code)


def _final(error: OvernightError) -> OvernightError:
    """Return what an error means for an item without a fallback."""
    if isinstance(error, BudgetExceeded):
        return Skip("budget", code="budget")
    if isinstance(error, Transient) and not isinstance(error, Deferred):
        return Deferred(str(error), code=error.code, after=LATER)
    return error


def _log(sent: Sent, ended: Ended) -> None:
    log = logs.get().info if ended.status == "ok" else logs.get().warning
    log(
        "model call",
        task_id=sent.scope.task_id,
        run_id=sent.scope.run_id,
        worker_id=sent.scope.worker_id,
        role=sent.role,
        model=sent.model,
        status=ended.status,
        tokens=ended.usage.tokens,
        cost=dollars(ended.cost_nano),
        duration=ended.duration_ms / 1000,
        **{name: value for name in ("request_id", "error_code") if (value := getattr(ended, name))},
    )
