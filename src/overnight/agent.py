"""Agents: one question in a role, answered in a given shape, paid for once.

The way of a question: journal -> reserve the worst case -> rate limits -> request -> settle and book -> validate. What
is not valid is repaired once, then asked of the role's next model; then the caller's fallback, or the error, has its
turn. A role with tools talks with them before it answers: see `talk`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from overnight import logs
from overnight.budget import BudgetExceeded, Budgets
from overnight.clock import Clock
from overnight.compensation import Steps
from overnight.dependency import Dependency
from overnight.errors import Deferred, Fenced, Invalid, OvernightError, Permanent, Skip, Stop, Transient
from overnight.exchange import OF_ONE_MODEL, Exchanges
from overnight.ledger import Ledger
from overnight.ledger.journal import cut_off, discard, discarded_answers, paid_answers
from overnight.ledger.tried import Tried
from overnight.model import ModelReply, Models
from overnight.outcome import Scope, Spent
from overnight.outputs import refuse_links
from overnight.pricing import Prices
from overnight.prompts import as_json, suspicious
from overnight.question import Question, Said
from overnight.retry import Retry
from overnight.roles import Roles
from overnight.shapes import shape
from overnight.split import CUT_OFF, Split, in_parts, split_of, too_long
from overnight.talk import Talks
from overnight.tools.toolkit import NO_TOOLS, Toolkit

T = TypeVar("T")
Source = Literal["model", "repaired", "fallback", "replayed"]

MISSING: Any = object()  # no fallback; None is one
LATER = 300.0  # seconds until an item is taken up again whose model could not be reached
TURNS = (0, 1)  # the question, and its one repair
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
    time. `clean` takes our secrets out of replies.
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
    tools: Toolkit = NO_TOOLS
    clean: Callable[[Any], Any] = lambda value: value
    _tried: Tried = field(init=False)
    _exchanges: Exchanges = field(init=False)
    _talks: Talks = field(init=False)

    def __post_init__(self) -> None:
        self._tried = Tried(self.ledger)
        warn = partial(self._notice, self.warnings)
        self._exchanges = Exchanges(
            self.model, self.budgets, self.api, self.clock, self.prices, self.retry, warn, self.clean
        )  # fmt: skip
        self._talks = Talks(self.ledger, self.clock, self._exchanges)

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
        steps: Steps | None = None,
        left_out: int = 0,
    ) -> Answer[T]:
        """Ask for the answer to `data` in a role, as a value of `output`.

        What is too long for one request is asked in parts: halves of the list or text `data[split]`, as often as it
        takes, each booked, paid and kept as a question of its own. `merge` makes one answer of theirs, in their order;
        lists are joined without it. A part that fails is the failure of the whole. A role that has tools may use them;
        what they leave behind is a step of the item, among `steps`. `left_out`: tokens that `data` was spared.

        With a `fallback` only Fenced passes. Without: Deferred when the model cannot be reached for now, Invalid
        when no model of the role gave a valid answer, Skip("budget"), Permanent for a request the API refuses and for
        `data` that JSON cannot hold (code `data`), Stop for what no item can get around.
        """
        question: Question | None = None
        try:
            question = self._question(scope, role, data, output, steps)
            question.left_out = left_out
            divided = split_of(split, merge, question.data, output)
            return await (self._in_parts(question, divided) if divided else self._answered(question))
        except Fenced:
            raise
        except OvernightError as error:
            if fallback is MISSING:
                raise _final(error) from error
            self._note(scope, role, error)
            return Answer(fallback, "fallback", None, question.spent if question else 0)

    def _question(self, scope: Scope, role: str, data: Mapping[str, Any], output: Any, steps: Steps | None) -> Question:
        plain, text = as_json(data)
        if suspicious(text):
            logs.get().warning("data holds invisible characters", task_id=scope.task_id, role=role)
        part, system = self.roles.role(role), self.roles.system(role)
        return Question(scope, part, system, plain, shape(output), self.tools.box(role, scope, system, steps))

    async def _answered(self, question: Question) -> Answer[Any]:
        if question.box:  # a talk looks into the journal turn by turn
            question.journaled = await self._tried.before(question.scope)
            return await self._routed(question)
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
        call_id, reply = await self._reply(question, model, turn, said)
        try:
            value = question.shape.parse(reply.answer())
            refuse_links(value, question.material)
        except Invalid as error:
            await self._discard(call_id, error)
            return Said(reply.text, error)
        source: Source = ("repaired" if turn else "model") if question.fresh else "replayed"
        return Answer(value, source, model, question.spent)

    async def _reply(self, question: Question, model: str, turn: int, said: Said | None) -> tuple[str, ModelReply]:
        if question.box:
            return await self._talks.reply(question, model, turn, said)
        return await self._exchanges.reply(question, question.request(model, said), question.hash(model, turn))

    def spent(self, scope: Scope) -> Spent | None:
        """What an item has asked of models since this was last called; None when nothing."""
        return self._exchanges.spent(scope)

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


def _final(error: OvernightError) -> OvernightError:
    """Return what an error means for an item without a fallback."""
    if isinstance(error, BudgetExceeded):
        return Skip("budget", code="budget")
    if isinstance(error, Transient) and not isinstance(error, Deferred):
        return Deferred(str(error), code=error.code, after=LATER)
    return error
