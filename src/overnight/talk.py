"""The talk of a model with its tools: turn by turn, each paid once, each call of a tool decided outside the model.

A turn is a journaled call like any other, known by all that was said before it; a call of a tool is known by its turn
and its place there, and what the model was told is journaled, too. So a talk that a crash has cut off goes on where it
was: what is in the journal is not asked again, and what was written is found, not repeated. When the role's next model
takes over, it goes on with the same talk: nothing is done twice for it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from overnight import logs
from overnight.clock import Clock
from overnight.errors import Denied, Downstream, Fenced, Invalid, OvernightError, Skip, Stop, Transient, Unknown
from overnight.exchange import Exchanges
from overnight.ledger import Ledger
from overnight.ledger.journal import discarded_answers, paid_answers
from overnight.ledger.toolcalls import Told, keep, kept
from overnight.model import ModelReply
from overnight.plurals import counted
from overnight.prompts import suspicious
from overnight.question import Question, Said, Turn

SAME = 3  # times that the same call may have the same result
MOST = 400_000  # characters of one result
OF_THE_ITEM = (Transient, Unknown, Stop, Fenced, Skip, Downstream)  # errors that no other call could get around


@dataclass(slots=True)
class Talks:
    """Talks for the items of a run."""

    ledger: Ledger
    clock: Clock
    exchanges: Exchanges

    async def reply(self, question: Question, model: str, turn: int, said: Said | None) -> tuple[str, ModelReply]:
        """Talk until the model answers without calling a tool; returns the id of that call, and its reply.

        Raises Invalid when it never does: `max_turns`, `tool_loop`.
        """
        while True:
            last = len(question.talk) >= question.role.max_turns - 1
            digest = question.hash(model, turn)
            found = await self._journaled(question, digest) if question.journaled else None
            request = question.request(model, said, answer_now=last)
            call_id, reply = found or await self.exchanges.reply(question, request, digest)
            if not reply.calls:
                return call_id, reply
            if last:
                most = counted(question.role.max_turns, "turn")
                raise Invalid(f"{model} was still calling tools after {most}, its max_turns", code="max_turns")
            question.talk.append(Turn(reply.content, await self._told(question, digest, reply)))
            _refuse_circles(question)

    async def _journaled(self, question: Question, digest: str) -> tuple[str, ModelReply] | None:
        """The reply to this very turn that was paid for earlier, valid or not."""
        scope = question.scope
        rows = await self.ledger.read(paid_answers, scope, [digest]) or await self.ledger.read(
            discarded_answers, scope, [digest], question.role.max_tokens
        )
        if not rows:
            return None
        row = rows[0]
        return row["id"], ModelReply.remembered(row["response"], row["stop_reason"] or "end_turn", row["model"])

    async def _told(self, question: Question, digest: str, reply: ModelReply) -> tuple[Told, ...]:
        """Decide about each call of a turn, one after the other; returns what the model is told."""
        turn = f"{question.scope.task_id}\0{digest}"  # another item may have asked the very same
        ids = [hashlib.sha256(f"{turn}/{place}".encode()).hexdigest() for place in range(len(reply.calls))]
        known = await self.ledger.read(kept, ids) if question.journaled else {}
        told: list[Told] = []
        for id_, call in zip(ids, reply.calls, strict=True):
            used = Counter(each.tool for each in (*question.told(), *told) if each.verdict != "denied")
            if id_ in known:
                told.append(known[id_])
                await self._taken_up(question, known[id_], call, used)
            else:
                told.append(await self._called(question, id_, call, used))
        return tuple(told)

    async def _called(self, question: Question, id_: str, call: Mapping[str, Any], used: Counter[str]) -> Told:
        """Let a call happen, or deny it; what came of it is durable before the model hears of it."""
        started, name = self.clock.monotonic(), str(call["name"])[:128]
        verdict, code = "done", None
        try:
            grant, asked = question.box.tools.allowed(name, call["input"], used[name])
            result = _text(await question.box.use(grant, asked, id_[:32]))
            if suspicious(result):
                scope = question.scope
                logs.get().warning("a tool's result holds invisible characters", task_id=scope.task_id, tool=name)
        except OF_THE_ITEM:
            raise
        except OvernightError as error:
            verdict, code = "denied" if isinstance(error, Denied) else "failed", error.code
            result = _storable(question.box.kit.redact(str(error)))
        seconds = self.clock.monotonic() - started
        arguments = _text(question.box.kit.redact(call["input"]))
        told = Told(id_, question.role.name, name, arguments, verdict, result, code, round(seconds * 1000))
        now = self.clock.now()
        await self.ledger.write(lambda connection: keep(connection, question.scope, told, now))
        _log(question, told)
        return told

    async def _taken_up(self, question: Question, told: Told, call: Mapping[str, Any], used: Counter[str]) -> None:
        """Of what was written by an earlier attempt the item has to know again, in case that it is to be undone."""
        grant = question.box.tools.granted.get(told.tool)
        if told.verdict != "done" or grant is None or not grant.tool.writes:
            return
        try:
            _, asked = question.box.tools.allowed(told.tool, call["input"], used[told.tool])
        except Denied:  # the limits are tighter by now; what was done stays
            return
        await question.box.use(grant, asked, told.id[:32])


def _text(value: Any) -> str:
    text = _storable(json.dumps(to_jsonable_python(value), ensure_ascii=False))
    return text if len(text) <= MOST else f"{text[:MOST]} [cut, {len(text)} characters in all]"


def _storable(text: str) -> str:
    """Without half letters, such as the name of a file that is no UTF-8 has."""
    return text.encode(errors="replace").decode()


def _refuse_circles(question: Question) -> None:
    seen = Counter((told.tool, told.arguments, told.verdict, told.result) for told in question.told())
    (tool, *_), times = seen.most_common(1)[0]
    if times >= SAME:
        raise Invalid(f"{tool} was called {times} times with the same arguments and the same result", code="tool_loop")


def _log(question: Question, told: Told) -> None:
    scope = question.scope
    write = logs.get().info if told.verdict == "done" else logs.get().warning
    extra = {} if told.verdict == "done" else {"error_code": told.error_code, "error": told.result[:300]}
    write(
        "tool call",
        task_id=scope.task_id,
        run_id=scope.run_id,
        worker_id=scope.worker_id,
        role=told.role,
        tool=told.tool,
        status=told.verdict,
        call_id=told.id[:32],
        duration=told.duration_ms / 1000,
        **extra,
    )
