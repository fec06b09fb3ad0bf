"""Requests to a model, paid for: reserved and booked as unknown before they are sent, corrected afterwards.

Every request is a row of `call` before it is sent: as unknown, at its worst price. The reply corrects the row; a crash
in between leaves it standing, so that money which may have been spent is never forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from overnight import logs
from overnight.budget import Also, Budgets, Reservation, dollars
from overnight.clock import Clock, token
from overnight.deadline import off_the_clock
from overnight.dependency import Dependency
from overnight.errors import OvernightError, Stop, Transient
from overnight.ledger.journal import Ended, Sent, begin, book, forget
from overnight.model import Lost, ModelReply, ModelRequest, Models, headers_of
from overnight.outcome import Scope, Spent
from overnight.pricing import Prices
from overnight.question import Question
from overnight.refusals import ALL
from overnight.retry import Retry
from overnight.retry import call as retrying

OF_ONE_MODEL = {"http_403", "http_404"}  # refusals that say nothing about other models


@dataclass(slots=True)
class Exchanges:
    """Sends requests for the items of a run; `warn(text, scope)` hears of a budget that is nearly spent.

    `clean` takes our secrets out of a reply before anything is done with it: the ledger, too, never has them.
    """

    model: Models
    budgets: Budgets
    api: Dependency
    clock: Clock
    prices: Prices
    retry: Retry
    warn: Callable[[str, Scope], None]
    clean: Callable[[Any], Any] = lambda value: value
    _spent: dict[str, Spent] = field(default_factory=dict)

    async def reply(self, question: Question, request: ModelRequest, digest: str) -> tuple[str, ModelReply]:
        """Send a request until it is answered; returns the id of the call and the reply. `digest` is its identity."""
        question.fresh = True

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
        exchange = _Exchange(self.clean)
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
                await self._book(question, sent, reservation, self._ended(exchange, sent, question))
        return sent.id, reply

    def _heard(self, exchange: "_Exchange", model: str) -> None:
        """Tell the others what concerns them, too: the limits of the API, and that it turns everybody away."""
        error = exchange.error
        headers = exchange.reply.headers if exchange.reply else headers_of(error) if error else {}
        self.api.limit.observe(headers)
        if isinstance(error, Stop):  # ten thousand items need not each be told that the key is wrong
            self.api.refusals.tell(error, model if error.code in OF_ONE_MODEL else ALL)

    def _ended(self, exchange: "_Exchange", sent: Sent, question: Question) -> Ended:
        seconds = self.clock.monotonic() - (exchange.started or 0.0)
        if exchange.reply is not None:
            ended = _success(exchange.reply, self._cost(exchange.reply, sent.model), seconds)
            usage = replace(ended.usage, input_tokens=ended.usage.input_tokens + question.left_out)
            return replace(ended, naive_nano=self.prices.naive(question.role.models, usage, at=self.clock.now()))
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
            self.warn(f"the budget of {reservation.day} is nearly spent", question.scope)
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


@dataclass(slots=True)
class _Exchange:
    """One request and what became of it by the model's own word; `started` (monotonic seconds) None: never sent."""

    clean: Callable[[Any], Any]
    started: float | None = None
    reply: ModelReply | None = None
    error: BaseException | None = None

    async def of(self, model: Models, request: ModelRequest, clock: Clock) -> ModelReply:
        """Send the request. The item's deadline stands still: the request's own ends with a verdict."""
        self.started = clock.monotonic()
        try:
            async with off_the_clock():
                reply = await model.create(request)
        except BaseException as error:
            self.error = error
            raise
        text, content = self.clean(reply.text), tuple(self.clean(list(reply.content)))
        self.reply = replace(reply, text=text, content=content)
        return self.reply


def _success(reply: ModelReply, cost: int, seconds: float) -> Ended:
    reason = reply.stop_reason[:32]
    return Ended("ok", cost, round(seconds * 1000), reply.usage, reply.request_id, reply.kept, reason)


def _failure(error: BaseException | None, most: int, seconds: float) -> Ended:
    """Charge nothing for a refusal, all for what may have been carried out, a cancelled request included."""
    if isinstance(error, OvernightError) and not isinstance(error, Lost):
        return Ended("failed", 0, round(seconds * 1000), error_class=error.error_class, error_code=error.code)
    ours = error if isinstance(error, Lost) else None
    code = ours.code if ours else type(error).__name__.lower()
    error_class = ours.error_class if ours else "bug" if isinstance(error, Exception) else "transient"
    return Ended("unknown", most, round(seconds * 1000), error_class=error_class, error_code=code)


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
