"""Heartbeats: a ping when a run starts and one when it has ended, which never cost the run anything."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from overnight import heartbeat
from overnight.errors import Fenced, Permanent, Refused
from overnight.heartbeat import beating
from overnight.redact import Redactor
from overnight.result import Result, pulse_of
from overnight.schedule import ScheduleErrors, loads
from overnight.schedule.heartbeat import addresses, checked
from tests.slots import ManualClock


@dataclass
class Service:
    """What a ping service was told; `answers` are its next status codes, 0: it says nothing for long."""

    url: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    answers: Iterator[int] = field(default_factory=lambda: iter(()))

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((str(request.rel_url), await request.text()))
        status = next(self.answers, 200)
        if not status:
            await asyncio.sleep(0.5)
        return web.Response(status=status or 200)


@asynccontextmanager
async def service(*answers: int) -> AsyncIterator[Service]:
    it = Service(answers=iter(answers))
    application = web.Application()
    application.router.add_post("/{path:.*}", it.take)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield it
    await runner.cleanup()


async def beat(template: str, outcome: tuple[bool, str] | None, clock: ManualClock | None = None) -> None:
    async with beating(template, "greet", clock or ManualClock(), Redactor(frozenset({"sk-123456"}))) as heart:
        heart.start()
        heart.outcome = outcome


async def test_start_and_success_are_told_in_order_with_a_summary() -> None:
    async with service() as it:
        await beat(f"{it.url}/uuid", (True, "greet 2026-11-22: ok"))
        assert it.told == [("/uuid/start", ""), ("/uuid", "greet 2026-11-22: ok")]


async def test_a_failure_is_told_at_fail_and_an_interruption_not_at_all() -> None:
    async with service() as it:
        await beat(f"{it.url}/uuid", (False, "stopped"))
        await beat(f"{it.url}/uuid", None)
        assert [path for path, _ in it.told] == ["/uuid/start", "/uuid/fail", "/uuid/start"]


async def test_services_with_words_of_their_own_get_them_and_no_ping_for_an_empty_word() -> None:
    async with service() as it:
        await beat(f"{it.url}/p?state={{run|complete|fail}}&x=1", (True, ""))
        await beat(f"{it.url}/k?status={{|up|down}}", (False, ""))
        assert [path for path, _ in it.told] == [
            "/p?state=run&x=1", "/p?state=complete&x=1", "/k?status=down",
        ]  # fmt: skip


async def test_a_service_in_trouble_is_asked_three_times_and_one_that_refuses_once() -> None:
    clock = ManualClock()
    async with service(200, 500, 503, 200) as it:
        await beat(f"{it.url}/uuid", (True, ""), clock)
        assert [path for path, _ in it.told] == ["/uuid/start", "/uuid", "/uuid", "/uuid"]
    assert clock.slept == [1, 2]
    async with service(200, 404) as it:
        await beat(f"{it.url}/uuid", (True, ""))
        assert len(it.told) == 2


async def test_a_service_that_hangs_or_is_away_fails_nothing_and_its_address_stays_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT", 0.02)
    with capture_logs() as lines:
        async with service(0, 0, 0, 0, 0, 0) as it:
            await beat(f"{it.url}/a-secret-uuid", (True, ""))
        await beat("http://127.0.0.1:1/a-secret-uuid", (True, ""))
    said = str(lines)
    assert said.count("a heartbeat was not taken") == 4
    assert "a-secret-uuid" not in said


async def test_a_run_that_raises_has_failed_unless_it_was_refused() -> None:
    async with service() as it:
        for error in (Permanent("no sk-123456 here"), Refused("paused"), Fenced("taken over")):
            with pytest.raises(type(error)):
                async with beating(f"{it.url}/uuid", "greet", ManualClock(), Redactor(frozenset({"sk-123456"}))):
                    raise error
        assert it.told == [("/uuid/fail", "greet: no [redacted] here")]


@pytest.mark.parametrize(
    ("status", "well"),
    [("ok", True), ("partial", True), ("failed", False), ("stopped", False), ("interrupted", None)],
)
def test_what_a_run_tells(status: str, well: bool | None) -> None:
    counts = {"total": 3, "ok": 2, "failed": 1}
    pulse = pulse_of(Result("r_1", "greet", "2026-11-22", status, counts, counts, 5_000_000, 1.25, reason="why"))  # type: ignore[arg-type]
    assert (pulse is None) == (well is None)
    if pulse is not None:
        said = "greet 2026-11-22 r_1: " + status + "\n3 total, 2 ok, 1 failed\n$0.005 in 1.2 s\nwhy"
        assert pulse == (well, said)


@pytest.mark.parametrize(
    "wrong", ["ping", "ftp://a.example/x", "https://", "https://a.example/{run}", "https://a.example/{a|b|c}{a|b|c}"]
)
def test_what_is_no_address_is_an_error_that_does_not_show_it(wrong: str) -> None:
    with pytest.raises(ScheduleErrors, match="is no address to ping; write https://host") as found:
        loads(f'version: 1\njobs: {{ a: {{ at: "08:00", heartbeat: "{wrong}" }} }}\n', {})
    assert "jobs.a.heartbeat" in str(found.value)


@given(st.text(max_size=40))
def test_any_text_is_three_addresses_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert len(addresses(checked(text))) == 3
