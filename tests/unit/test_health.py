"""`/api/health`: a verdict within its limit, whatever the state of the parts."""

import asyncio
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from sqlalchemy import event, insert, update

from overnight.alerts import Alarm, note
from overnight.errors import Refused
from overnight.health import Examiner, Reach, disk, missing_variables, places, reach
from overnight.health import checks as health_checks
from overnight.health.report import PATIENCE
from overnight.ledger import Ledger
from overnight.ledger.controls import budget
from overnight.ledger.flow import Circuit, LedgerRows
from overnight.ledger.tables import lease
from overnight.occurrences import register
from overnight.redact import Redactor
from overnight.runner import Workplace
from overnight.schedule import Schedule, loads
from overnight.service import require_loopback
from overnight.triggers import Listed
from overnight.web import serving
from tests.slots import NOW, ManualClock, begin, locked

SHM = Path("/dev/shm")  # noqa: S108  another file system
SCHEDULE = "version: 1\njobs: { good: { every: 1h } }\n"


@dataclass
class Heart:
    looked_at: datetime | None = NOW
    draining: bool = False


@dataclass
class _Work:
    root: Path
    ledger: Ledger
    clock: Any
    schedule: Schedule = field(default_factory=lambda: loads(SCHEDULE, {}))
    redactor: Redactor = field(default_factory=lambda: Redactor(()))


def examiner(
    ledger: Ledger, root: Path, heart: Heart | None = None, problem: str | None = None, text: str = SCHEDULE, **env: str
) -> Examiner:
    work = cast("Workplace", _Work(root, ledger, ledger.clock, loads(text, env)))
    return Examiner(lambda: work, heart or Heart(), lambda: problem, Reach(ledger.clock))


async def told(
    ledger: Ledger, root: Path, looked_at: datetime | None = NOW, problem: str | None = None
) -> tuple[str, dict[str, Any]]:
    report = (await examiner(ledger, root, Heart(looked_at), problem).report()).document()
    assert set(report) == {"status", "timestamp", "checks", "dependencies"}
    assert report["timestamp"] == "2026-11-22T07:00:00.000Z"
    return report["status"], report["checks"]


async def test_all_is_well(ledger: Ledger, tmp_path: Path) -> None:
    status, checks = await told(ledger, tmp_path)
    assert status == "healthy"
    assert {name: check["status"] for name, check in checks.items()} == dict.fromkeys(
        [
            *("scheduler", "schedule", "ledger", "disk", "alerts", "channels", "dependencies", "runs", "jobs"),
            *("success_rate", "p95_duration", "budget", "mail", "reports", "model", "environment"),
        ],
        "healthy",
    )


@pytest.mark.parametrize(
    ("looked_at", "status"),
    [
        (None, "healthy"),
        (NOW - timedelta(seconds=179), "healthy"),
        (NOW - timedelta(seconds=180), "unhealthy"),
    ],
    ids=["just started", "three minutes ago", "longer ago"],
)
async def test_a_scheduler_that_does_not_look_is_unhealthy(
    ledger: Ledger, tmp_path: Path, looked_at: datetime | None, status: str
) -> None:
    assert (await told(ledger, tmp_path, looked_at))[0] == status


async def test_a_scheduler_that_never_got_through_a_round_is_unhealthy_after_a_while(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert isinstance(ledger.clock, ManualClock)
    examine = examiner(ledger, tmp_path, Heart(None))
    for seconds, code in ((0, 200), (179, 200), (1, 503)):
        ledger.clock.move(seconds)
        assert ((await examine.alive()).code, (await examine.report()).code) == (code, code)


async def test_an_alert_is_a_degradation(ledger: Ledger, tmp_path: Path) -> None:
    alarm = Alarm("bug", "greet", "oops")
    ledger.writing(lambda connection: note(connection, alarm, NOW, timedelta(hours=24)))
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["alerts"]["output"]) == ("degraded", "bug:greet")


async def test_a_dependency_that_is_left_alone_is_named_with_its_time(ledger: Ledger, tmp_path: Path) -> None:
    until = NOW + timedelta(minutes=2)

    def happen(rows: LedgerRows) -> None:
        rows.put_circuit("s3:minio.example.org:9000", Circuit("open", 1, 1, until))
        rows.put_circuit("feed:news.example.org", Circuit("open", 1, 1, NOW))  # may be tried again
        rows.put_circuit("anthropic", Circuit("closed", 2))
        rows.put_pause("smtp:relay.example.org:587", until)

    ledger.writing(lambda connection: happen(LedgerRows(connection)))
    report = (await examiner(ledger, tmp_path).report()).document()
    at = "2026-11-22T07:02:00.000Z"
    assert report["dependencies"] == [
        {"name": "s3:minio.example.org:9000", "state": "open", "until": at},
        {"name": "smtp:relay.example.org:587", "state": "paused", "until": at},
    ]
    assert (report["status"], report["checks"]["dependencies"]["status"]) == ("degraded", "degraded")


async def test_a_pause_that_was_asked_for_is_no_degradation(ledger: Ledger, tmp_path: Path) -> None:
    until = NOW + timedelta(minutes=2)
    ledger.writing(lambda connection: LedgerRows(connection).put_pause("anthropic", until))
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["dependencies"]["output"]) == ("healthy", "anthropic paused until 2026-11-22T07:02:00.000Z")


async def test_a_broken_schedule_is_a_degradation_with_its_reason(ledger: Ledger, tmp_path: Path) -> None:
    status, checks = await told(ledger, tmp_path, problem="schedule.yaml:3: no such key")
    assert (status, checks["schedule"]["output"]) == ("degraded", "schedule.yaml:3: no such key")


async def test_a_run_that_has_fallen_silent_is_a_degradation_for_an_hour(ledger: Ledger, tmp_path: Path) -> None:
    begin(ledger)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["runs"]["output"]) == ("healthy", "1 going on")
    for ago, expected in ((0, "degraded"), (3599, "degraded"), (3600, "healthy")):
        until = NOW - timedelta(seconds=ago)
        ledger.writing(lambda connection, until=until: connection.execute(lease.update().values(until=until)))  # type: ignore[misc]
        status, checks = await told(ledger, tmp_path)
        assert status == expected
    assert checks["runs"]["output"] == "1 going on"


async def test_a_disk_that_fills_up_is_a_degradation(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOW", 2**60)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["disk"]["status"]) == ("degraded", "degraded")


def another_file_system(one: Path, other: Path) -> bool:
    return one.is_dir() and one.stat().st_dev != other.stat().st_dev


async def test_the_room_is_told_of_every_place_that_is_written_to_and_of_each_file_system_once(
    ledger: Ledger, tmp_path: Path
) -> None:
    text = SCHEDULE + f"reports: {{ to: {SHM}/reports, spool: waits }}\nmail: {{ transport: 'outbox:mail' }}\n"
    if not another_file_system(SHM, tmp_path):
        pytest.skip("there is no second file system here")
    found = (await examiner(ledger, tmp_path, text=text).report()).findings["disk"]
    assert re.fullmatch(r"var, spool, ledger, outbox: \d+ MB free; reports: \d+ MB free", found.output), found.output
    room = (os.statvfs(tmp_path), os.statvfs(SHM))
    assert found.value is not None
    assert found.value <= 1.1 * min(one.f_bavail * one.f_frsize for one in room)


async def test_the_disk_of_a_bucket_a_relay_or_a_server_is_not_ours(tmp_path: Path) -> None:
    text = SCHEDULE + "reports: { to: s3://bucket/x }\nmail: { transport: smtp://127.0.0.1:1 }\n"
    assert list(places(tmp_path, loads(text, {}), None)) == ["var", "spool"]


async def test_a_folder_that_does_not_answer_holds_up_nothing_and_is_asked_once(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back, asked, real = threading.Event(), [], os.statvfs

    def hangs(path: Path) -> os.statvfs_result:
        if path.name == "waits":
            asked.append(path)
            back.wait(60)
        return real(path)

    monkeypatch.setattr(os, "statvfs", hangs)
    monkeypatch.setattr(disk, "TIMEOUT", 1.0)
    look = examiner(ledger, tmp_path, text=SCHEDULE + "reports: { spool: waits }\n")
    for _ in range(3):
        found = (await look.report()).findings["disk"]
        assert (found.status, "spool: no answer within 1 s" in found.output) == ("degraded", True)
        assert "var, ledger, outbox, reports: " in found.output
    assert len(asked) == 1
    back.set()
    monkeypatch.setattr(disk, "TIMEOUT", 30)
    assert (await look.report()).findings["disk"].status == "healthy"


async def test_a_folder_that_cannot_be_looked_at_is_a_degradation(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to(tmp_path / "var")
    status, checks = await told(ledger, tmp_path)
    assert status == "degraded"
    assert "Too many levels of symbolic links" in checks["disk"]["output"]


async def test_a_disk_that_can_take_no_more_files_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    [(names, room)] = (await disk.Disks().rooms({"var": Path("/")})).items()
    assert (names, room.files is None) == ("var", not os.statvfs("/").f_files)
    full = disk.finding({"var": replace(room, files=3)})
    assert (full.status, full.output.endswith("MB free and only 3 files")) == ("degraded", True)


async def test_only_a_ledger_or_scheduler_without_an_answer_is_a_reason_for_a_503(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(health_checks, "p95_ms", broken)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["p95_duration"]) == ("degraded", {"status": "degraded", "output": "ValueError"})
    monkeypatch.setattr(Ledger, "write", broken)
    status, checks = await told(ledger, tmp_path)
    assert (status, checks["ledger"]) == ("unhealthy", {"status": "unhealthy", "output": "ValueError"})


def asked(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:  # noqa: S310  our own server
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def test_a_locked_ledger_is_an_answer_and_no_reason_to_hang(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        assert (await asyncio.to_thread(asked, url))[0] == 200
        with locked(ledger):
            started = time.monotonic()
            code, report = await asyncio.to_thread(asked, url)
            took = time.monotonic() - started
        assert (code, report["status"]) == (503, "unhealthy")
        assert report["checks"]["ledger"]["output"] == f"no answer within {PATIENCE:g} s"
        assert PATIENCE <= took < PATIENCE + 2
        assert (await asyncio.to_thread(asked, url))[0] == 200


async def test_a_port_that_is_taken_does_not_keep_jobs_from_running(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        port = int(url.rpartition(":")[2])
        async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", port) as second:
            assert second == ""


async def test_an_address_of_ipv6_is_told_and_answered(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "::1", 0) as url:
        if not url:
            pytest.skip("this machine has no IPv6")
        assert url.startswith("http://[::1]:")
        assert await asyncio.to_thread(_code, f"{url}/livez") == 200


async def test_there_is_nothing_else(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:
        code = await asyncio.to_thread(_code, f"{url}/api/other")
    assert code == 404


def _code(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own server
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_a_spent_budget_is_a_degradation_and_no_reason_to_restart_us(ledger: Ledger, tmp_path: Path) -> None:
    row = {"scope": "day:2026-11-22", "cap_nano": 10**10, "extra_nano": 0, "settled_nano": 10**10, "reserved_nano": 0}
    ledger.writing(lambda connection: connection.execute(insert(budget).values(row)))
    report = await examiner(ledger, tmp_path).report()
    assert (report.status, report.code) == ("degraded", 200)
    assert report.findings["budget"].output == "$10.00 of $10.00"
    ledger.writing(lambda connection: connection.execute(update(budget).values(extra_nano=10**9)))
    assert (await examiner(ledger, tmp_path).report()).findings["budget"].status == "healthy"


async def test_a_job_that_should_have_run_is_named(ledger: Ledger, tmp_path: Path) -> None:
    ledger.writing(
        lambda connection: register(connection, {"good": Listed("h", enabled=True)}, NOW - timedelta(hours=2))
    )
    finding = (await examiner(ledger, tmp_path).report()).findings["jobs"]
    assert (finding.status, finding.output[:29]) == ("degraded", "good of 2026-11-22T06:00Z is ")


async def test_what_cannot_be_reached_is_a_degradation_and_is_tried_twice_a_minute(
    ledger: Ledger, tmp_path: Path
) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = (
        SCHEDULE
        + "roles: { r: { model: [m] } }\nreports: { to: s3://bucket/p }\n"
        + (f'mail: {{ transport: "smtp://127.0.0.1:{port}" }}\n')
    )
    urls = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    examine = examiner(ledger, tmp_path, text=text, ANTHROPIC_API_KEY="k", **urls)
    found = (await examine.report()).findings
    assert [found[name].status for name in ("mail", "model", "reports")] == ["healthy", "healthy", "degraded"]
    assert found["reports"].output.startswith("127.0.0.1:1 cannot be reached")
    server.close()
    await server.wait_closed()
    assert (await examine.report()).findings["mail"].status == "healthy", "remembered"
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.move(30)
    assert (await examine.report()).findings["mail"].status == "degraded"


async def test_a_side_that_takes_no_connection_is_waited_for_no_longer_than_its_limit(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    monkeypatch.setattr(reach, "TIMEOUT", 0.01)
    text = SCHEDULE + 'mail: { transport: "smtp://mail.example.org:587" }\n'
    finding = (await examiner(ledger, tmp_path, text=text).report()).findings["mail"]
    assert (finding.status, finding.output) == (
        "degraded", "mail.example.org:587 does not answer within 0.01 s"
    )  # fmt: skip


def test_variables_that_are_missing_are_named_and_no_value_is_shown() -> None:
    text = SCHEDULE + "roles: { r: { model: [m] } }\nreports: { to: s3://bucket/p }\n"
    assert missing_variables(loads(text, {"AWS_ACCESS_KEY_ID": "AKIAnever"})) == ["AWS_SECRET_ACCESS_KEY"]
    assert missing_variables(loads(text, {})) == []
    assert missing_variables(loads(SCHEDULE, {})) == []


def test_the_secrets_of_roles_are_among_them_and_a_github_app_stands_in_for_a_token() -> None:
    text = SCHEDULE + "roles: { r: { model: [m], allow_mixed: true, secrets: [GITHUB_TOKEN, OTHER] } }\n"
    assert missing_variables(loads(text, {})) == ["GITHUB_TOKEN", "OTHER"]
    assert missing_variables(loads(text, {"GITHUB_TOKEN": " ", "OTHER": "x-x-x-x-x"})) == ["GITHUB_TOKEN"]
    app = {"GITHUB_APP_ID": "1", "GITHUB_APP_PRIVATE_KEY": "app.pem", "OTHER": "x-x-x-x-x"}
    assert missing_variables(loads(text, app)) == []


async def test_a_machine_without_a_key_for_the_model_is_well_until_a_run_is_stopped(
    ledger: Ledger, tmp_path: Path
) -> None:
    examine = examiner(ledger, tmp_path, text=SCHEDULE + "roles: { r: { model: [m] } }\n")
    model = (await examine.report()).findings["model"]
    assert (model.status, model.output[:29]) == ("healthy", "ANTHROPIC_API_KEY is not set:")
    ledger.writing(lambda c: note(c, Alarm("stopped", "good", "no API key"), NOW, timedelta(hours=1)))
    assert (await examine.report()).status == "degraded"


async def test_the_draft_form_says_pass_warn_and_fail_with_figures(ledger: Ledger, tmp_path: Path) -> None:
    draft = (await examiner(ledger, tmp_path, problem="line 3").report()).draft()
    assert draft["status"] == "warn"
    [seen] = draft["checks"]["scheduler:state"]
    assert (seen["status"], seen["observedValue"], seen["observedUnit"]) == ("pass", 0.0, "s")
    assert draft["checks"]["schedule:state"][0]["status"] == "warn"


async def test_alive_and_ready_are_two_questions(ledger: Ledger, tmp_path: Path) -> None:
    assert (await examiner(ledger, tmp_path, problem="line 3").alive()).code == 200
    assert (await examiner(ledger, tmp_path, Heart(NOW - timedelta(minutes=4))).alive()).code == 503
    assert (await examiner(ledger, tmp_path).ready()).code == 200
    assert (await examiner(ledger, tmp_path, problem="line 3").ready()).code == 503
    assert (await examiner(ledger, tmp_path, Heart(draining=True)).ready()).code == 503


async def test_strangers_get_the_word_and_who_brings_the_token_everything(ledger: Ledger, tmp_path: Path) -> None:
    work = cast(
        "Workplace", _Work(tmp_path, ledger, ledger.clock, loads(SCHEDULE, {"OVERNIGHT_TOKEN": "a-long-enough-secret"}))
    )
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url:

        async def asking(path: str, **headers: str) -> tuple[int, str, str]:
            async with ClientSession() as session, session.get(url + path, headers=headers) as answer:
                return answer.status, answer.content_type, await answer.text()

        good = {"Authorization": "Bearer a-long-enough-secret"}
        assert await asking("/api/health", Host="any.example") == (200, "application/json", '{"status": "healthy"}')
        for wrong in ("Bearer a-long-enough-secre", "Basic a-long-enough-secret", "Bearer ", "Bearer é"):
            assert (await asking("/api/health", Authorization=wrong))[2] == '{"status": "healthy"}'
            assert (await asking("/metrics", Authorization=wrong))[0] == 401
        assert "checks" in json.loads((await asking("/api/health", **good))[2])
        code, kind, text = await asking("/api/health", Accept="application/health+json", **good)
        assert (code, kind, json.loads(text)["status"]) == (200, "application/health+json", "pass")
        code, kind, text = await asking("/metrics", **good)
        assert (code, kind, "overnight_build_info" in text) == (200, "text/plain", True)
        assert [(await asking(path))[0] for path in ("/livez", "/readyz")] == [200, 200]


async def test_without_a_token_only_this_machine_is_answered(ledger: Ledger, tmp_path: Path) -> None:
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock))
    async with serving(lambda: work, Heart(), lambda: None, "127.0.0.1", 0) as url, ClientSession() as session:
        for path in ("/api/health", "/livez", "/readyz", "/metrics"):
            async with session.get(url + path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 400
            async with session.get(url + path) as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")


def test_another_address_than_this_machine_needs_a_token_that_is_not_soon_guessed() -> None:
    require_loopback("127.0.0.1", {})
    require_loopback("127.0.0.1", {"OVERNIGHT_TOKEN": "1"})  # jobs matter more than the page, which it does not open
    require_loopback("0.0.0.0", {"OVERNIGHT_TOKEN": "a-long-enough-secret"})  # noqa: S104  that is the question
    with pytest.raises(Refused, match="without OVERNIGHT_TOKEN it binds to this machine only"):
        require_loopback("0.0.0.0", {"OVERNIGHT_TOKEN": ""})  # noqa: S104
    for short in ("1", "fifteen-letters"):
        with pytest.raises(Refused, match=f"has {len(short)} of at least 16 characters.*: openssl rand -hex 24"):
            require_loopback("0.0.0.0", {"OVERNIGHT_TOKEN": short})  # noqa: S104
    require_loopback("0.0.0.0", {"OVERNIGHT_TOKEN": "sixteen-letters!"})  # noqa: S104


async def test_a_token_that_is_too_short_is_a_degradation(ledger: Ledger, tmp_path: Path) -> None:
    finding = (await examiner(ledger, tmp_path, OVERNIGHT_TOKEN="1").report()).findings["environment"]
    assert (finding.status, finding.output[:36]) == ("degraded", "OVERNIGHT_TOKEN has 1 of at least 16")


async def test_a_secret_that_is_too_short_is_a_degradation(ledger: Ledger, tmp_path: Path) -> None:
    for secret, status in (("fifteen-letters", "degraded"), ("sixteen-letters!", "healthy"), ("", "healthy")):
        finding = (await examiner(ledger, tmp_path, OVERNIGHT_SECRET=secret).report()).findings["environment"]
        assert (finding.status, secret in finding.output and bool(secret)) == (status, False)
        assert (
            finding.output[:37]
            == ("OVERNIGHT_SECRET has 15 of at least 16" if status == "degraded" else "complete")[:37]
        )


async def test_however_many_ask_at_once_there_is_one_examination(ledger: Ledger, tmp_path: Path) -> None:
    examine, asked = examiner(ledger, tmp_path), list[str]()
    event.listen(ledger.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    impatient = asyncio.create_task(examine.report())
    others = [asyncio.create_task(examine.report()) for _ in range(200)]
    await asyncio.sleep(0)
    impatient.cancel()  # who goes away takes it from nobody
    once = {id(report) for report in await asyncio.gather(*others)}
    cost = len(asked)
    assert (len(once), cost < 40) == (1, True)
    fit = {id(report) for report in await asyncio.gather(*(examine.ready() for _ in range(200)))}
    assert (len(fit), len(asked) - cost < 4) == (1, True)
    assert id(await examine.report()) not in once, "who asks next is told how it is now"


async def test_a_flood_of_strangers_costs_one_examination_a_second(ledger: Ledger, tmp_path: Path) -> None:
    token, written = "a-long-enough-secret", list[str]()
    work = cast("Workplace", _Work(tmp_path, ledger, ledger.clock, loads(SCHEDULE, {"OVERNIGHT_TOKEN": token})))
    heart = Heart()
    event.listen(ledger.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: written.append(statement))
    async with serving(lambda: work, heart, lambda: None, "127.0.0.1", 0) as url, ClientSession() as session:

        async def asking(path: str, **headers: str) -> int:
            async with session.get(url + path, headers=headers) as answer:
                return answer.status

        assert [await asking(path) for path in ("/api/health", "/readyz") * 5] == [200] * 10
        assert sum("UPDATE meta" in one for one in written) == 2, "one for each of the two"
        heart.looked_at = NOW - timedelta(minutes=4)
        assert await asking("/api/health") == 200
        assert await asking("/api/health", Authorization=f"Bearer {token}") == 503, "who may know is told how it is now"
        heart.looked_at = NOW
        assert isinstance(ledger.clock, ManualClock)
        ledger.clock.move(1)
        assert await asking("/api/health") == 200
