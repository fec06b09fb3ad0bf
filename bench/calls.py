"""Model calls on loopback: what everything around the SDK adds to a call.

`python bench/calls.py server` answers every request at once, and prints its address. The others are clients of it:
`sdk` is the SDK as it comes, `model` our port around the SDK on aiohttp, `agent` the whole of `Agent.ask`: journal,
budgets, limits, breaker, validation, log, on a ledger file with `synchronous=FULL`.
`python bench/calls.py agent URL CALLS CONCURRENCY` prints one JSON document; CPU is that of all its threads.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

DUE = datetime(2026, 11, 22, 7, tzinfo=UTC)
MODEL = "claude-haiku-5-5"
SYSTEM = "You sort reports of readers. Say in one line what each is about."
REPORT = (
    "The mast at the northern end of the harbour was struck twice during the storm of the third night, and nobody has "
    "yet been able to say why it stands. The keeper of the light has written down the hour of both, and a third that "
    "he has only heard of from the crew of a ferry. Nothing else was lost. "
)
ANSWER = {"topic": "storm damage", "line": "Lightning struck the harbour mast twice; it stands.", "urgent": False}
MAX_TOKENS = 400
WARM = 100  # calls that are not counted: imports, connections, the first statements
PLENTY = 10**9  # per minute

Ask = Callable[[str], Awaitable[object]]


@dataclass
class Sorted:
    """What is asked for."""

    topic: str
    line: str
    urgent: bool


def data(key: str) -> dict[str, Any]:
    return {"id": key, "report": REPORT * 3}


def serve() -> None:
    from aiohttp import web  # noqa: PLC0415  clients measure their own imports

    text = json.dumps(ANSWER)
    usage = {"input_tokens": 420, "output_tokens": 48, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_sequence": None}
    content = [{"type": "text", "text": text}]
    body = json.dumps(message | {"content": content, "stop_reason": "end_turn", "usage": usage}).encode()
    headers = {"request-id": "req_1", "content-type": "application/json"}
    for kind in ("requests", "input-tokens", "output-tokens"):
        headers[f"anthropic-ratelimit-{kind}-limit"] = headers[f"anthropic-ratelimit-{kind}-remaining"] = str(PLENTY)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, headers=headers)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/messages", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@asynccontextmanager
async def sdk(url: str, folder: Path, count: int) -> AsyncIterator[Ask]:
    import anthropic  # noqa: PLC0415  the server needs none of it
    from pydantic import TypeAdapter  # noqa: PLC0415

    del folder, count
    schema = anthropic.transform_schema(TypeAdapter(Sorted).json_schema())
    async with anthropic.AsyncAnthropic(api_key="sk-sham", base_url=url) as client:

        async def ask(key: str) -> Any:
            reply = await client.messages.create(
                model=MODEL,
                max_tokens=MAX_TOKENS,
                system=SYSTEM,
                messages=[{"role": "user", "content": json.dumps(data(key))}],
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
            return reply.content[0].text

        yield ask


@asynccontextmanager
async def model(url: str, folder: Path, count: int) -> AsyncIterator[Ask]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    from overnight.model import Model, ModelRequest  # noqa: PLC0415

    del folder, count
    port = Model.open({"ANTHROPIC_API_KEY": "sk-sham", "ANTHROPIC_BASE_URL": url})
    schema = TypeAdapter(Sorted).json_schema()

    async def ask(key: str) -> Any:
        content = json.dumps(data(key))
        reply = await port.create(
            ModelRequest(MODEL, SYSTEM, ({"role": "user", "content": content},), MAX_TOKENS, schema)
        )
        return reply.answer()

    yield ask
    await port.close()


@dataclass(frozen=True)
class Rate:
    """A limit nobody reaches: its leases are taken and settled all the same."""

    count: int = PLENTY
    per: int = 60


@asynccontextmanager
async def agent(url: str, folder: Path, count: int) -> AsyncIterator[Ask]:
    from overnight import logs  # noqa: PLC0415
    from overnight.agent import Agent  # noqa: PLC0415
    from overnight.budget import Budgets, Caps, JobCaps  # noqa: PLC0415
    from overnight.clock import SystemClock  # noqa: PLC0415
    from overnight.dependency import Dependencies  # noqa: PLC0415
    from overnight.ledger import Ledger  # noqa: PLC0415
    from overnight.ledger.items import plan  # noqa: PLC0415
    from overnight.ledger.runs import Opening, open_run  # noqa: PLC0415
    from overnight.model import Model  # noqa: PLC0415
    from overnight.redact import Redactor  # noqa: PLC0415
    from overnight.roles import Role, Roles  # noqa: PLC0415

    nowhere = Path(os.devnull).open("w")  # noqa: ASYNC230, SIM115  until the process ends
    logs.configure(level="info", shown="error", stream=nowhere, redactor=Redactor(), file=folder / "log.jsonl")
    prompts = folder / "templates" / "roles"
    prompts.mkdir(parents=True)
    (prompts / "clerk.md.j2").write_text(SYSTEM, encoding="utf-8")
    clock = SystemClock()
    ledger = Ledger.open("sqlite:///ledger.db", root=folder, clock=clock)
    day = DUE.date().isoformat()
    opening = Opening("calls", day, "manual", DUE, day, day, "bench", 1, "bench", "bench")
    scope = await ledger.write(lambda connection: open_run(connection, opening, DUE, locked=True))
    for start in range(0, count, 500):
        rows = [(n, str(n), str(n)) for n in range(start, min(count, start + 500))]
        await ledger.write(lambda connection, rows=rows: plan(connection, scope, rows))
    rates = dict.fromkeys(("requests", "input_tokens", "output_tokens"), Rate())
    dependencies = Dependencies({"anthropic": rates}, clock, ledger)
    dear = 10**15  # nano-USD: a million dollars
    clerk = Agent(
        ledger,
        Model.open({"ANTHROPIC_API_KEY": "sk-sham", "ANTHROPIC_BASE_URL": url}, clock=clock),
        Roles(folder, {"clerk": Role("clerk", models=(MODEL,), max_tokens=MAX_TOKENS)}),
        Budgets(ledger, clock, ZoneInfo("UTC"), Caps(per_day=dear, jobs={"calls": JobCaps(per_run=dear)})),
        dependencies.of("anthropic"),
        clock,
    )

    async def ask(key: str) -> Any:
        whose = dataclasses.replace(scope, key=key)
        return (await clerk.ask(whose, "clerk", data=data(key), output=Sorted)).source

    yield ask
    await dependencies.close()
    await clerk.model.close()
    ledger.close()


async def measured(client: Any, url: str, count: int, concurrency: int) -> dict[str, float]:
    keys = map(str, itertools.count())

    async def worker(ask: Ask, last: int) -> None:
        for key in keys:
            said = await ask(key)
            assert said == "model" or json.loads(str(said)) == ANSWER
            if int(key) >= last:
                return

    async def asked(ask: Ask, last: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker(ask, last))

    with tempfile.TemporaryDirectory() as folder:
        async with client(url, Path(folder), count + WARM + 3 * concurrency) as ask:
            await asked(ask, max(WARM, concurrency))
            first = int(next(keys))
            wall, cpu = time.perf_counter(), time.process_time()
            await asked(ask, first + count - concurrency)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            calls = int(next(keys)) - first - 1
    return {"rate": calls / wall, "cpu_ms": cpu / calls * 1000}


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "server":
        serve()
        return
    clients = {"sdk": sdk, "model": model, "agent": agent}
    url, count, concurrency = arguments
    print(json.dumps(asyncio.run(measured(clients[what], url, int(count), int(concurrency)))))


if __name__ == "__main__":
    main()
