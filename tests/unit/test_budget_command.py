"""`overnight budget`, the reservations of killed processes, and the one warning a day."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select, update

from overnight.budget import Also, Budgets, Caps, JobCaps, Reservation, RoleCaps, reap
from overnight.cli.budget import budget
from overnight.cli.context import Cli
from overnight.clock import SystemClock
from overnight.errors import ConfigError
from overnight.ledger import Ledger
from overnight.ledger.controls import budget as counters
from overnight.ledger.journal import Ended, Sent, begin, book
from overnight.ledger.runs import Opening, close_run, open_run
from overnight.ledger.tables import call, lease
from overnight.outcome import Scope
from overnight.pricing import NANO

NOW = datetime.now(UTC)
DAY = NOW.date().isoformat()
SCHEDULE = """version: 1
timezone: UTC
budget: {per_day: $10}
jobs:
  mail: {every: 1d, budget: {per_run: $1}}
  free: {every: 1d}
  news: {every: 1d, budget: {per_run: $1, per_day: $2}}
roles:
  editor: {model: [claude-haiku-5-5], budget: {per_task: $1}}
  judge: {model: [claude-haiku-5-5], budget: {per_day: $3}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of two jobs."""
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    return tmp_path


@pytest.fixture
def ledger(project: Path) -> Iterator[Ledger]:
    opened = Ledger.open("sqlite:///var/overnight.db", root=project)
    yield opened
    opened.close()


def told(project: Path, *words: str, as_json: bool = False, code: int = 0) -> str:
    cli = Cli(project, json=as_json, quiet=False, verbose=False)
    try:
        result = CliRunner().invoke(budget, list(words), obj=cli, catch_exceptions=False)
    finally:
        cli.close()
    assert result.exit_code == code, result.output
    return result.output


def opened(ledger: Ledger, job: str = "mail", slot: str = DAY) -> Scope:
    """Open a run of today, as if this process held it."""
    opening = Opening(
        job=job, slot=slot, kind="manual", scheduled_for=NOW, slot_day=DAY, day=DAY, host="h", pid=1,
        code_version="", config_hash="",
    )  # fmt: skip
    return ledger.writing(lambda connection: open_run(connection, opening, NOW, locked=True))


async def reserved(ledger: Ledger, scope: Scope, worst: int, name: str = "c_1") -> tuple[Sent, Reservation]:
    """Reserve and journal one call, as an agent does before it is sent."""
    caps = Caps(10 * NANO, jobs={"mail": JobCaps(per_run=NANO)}, roles={"editor": RoleCaps(per_task=NANO)})
    budgets = Budgets(ledger, SystemClock(), ZoneInfo("UTC"), caps)
    sent = Sent(name, scope, "h", "editor", "m", worst, NOW)
    return sent, await budgets.reserve(scope, worst, role="editor", also=Also(begin, sent))


def rows(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """What each counter has settled and reserved."""
    query = select(counters.c.scope, counters.c.settled_nano, counters.c.reserved_nano)
    return ledger.reading(lambda connection: {row[0]: (row[1], row[2]) for row in connection.execute(query)})


def reaped(ledger: Ledger, now: datetime = NOW) -> int:
    return ledger.writing(lambda connection: reap(connection, now))


def test_a_day_without_a_call_shows_the_whole_budget(project: Path) -> None:
    document = json.loads(told(project, as_json=True))
    assert document["counters"][0] == {
        "counter": f"day:{document['day']}", "cap": "10.00", "raised": "0.00", "settled": "0.00", "reserved": "0.00",
        "left": "10.00", "warned": False,
    }  # fmt: skip


def test_every_cap_of_the_file_that_is_in_force_today_is_shown(project: Path) -> None:
    document = json.loads(told(project, as_json=True))
    caps = {each["counter"]: each["cap"] for each in document["counters"]}
    assert caps == {f"day:{DAY}": "10.00", f"job:news:{DAY}": "2.00", f"role:judge:{DAY}": "3.00"}


def test_what_is_shown_follows_the_file_and_the_raises(project: Path, ledger: Ledger) -> None:
    told(project, "raise", "5")
    (project / "schedule.yaml").write_text(SCHEDULE.replace("per_day: $10", "per_day: $4"))
    shown = json.loads(told(project, as_json=True))["counters"][0]
    assert (shown["cap"], shown["raised"], shown["left"]) == ("9.00", "5.00", "9.00")
    assert rows(ledger) == {f"day:{DAY}": (0, 0)}


async def test_what_is_spent_reserved_and_left_is_shown_for_the_day_and_its_slots(
    project: Path, ledger: Ledger
) -> None:
    await reserved(ledger, opened(ledger), NANO // 4)
    text = told(project)
    assert [line.split()[:5] for line in text.splitlines() if "0.25" in line] == [
        [f"day:{DAY}", "$10.00", "$0.00", "$0.25", "$9.75"],
        [f"run:mail/{DAY}", "$1.00", "$0.00", "$0.25", "$0.75"],
    ]


@pytest.mark.parametrize("amount", ["5", "$5", "5.00"])
def test_the_day_is_raised_before_and_after_its_first_call(project: Path, amount: str) -> None:
    assert json.loads(told(project, "raise", amount, as_json=True))["caps"] == {f"day:{DAY}": "15.00"}
    assert "may now cost $15.50" in told(project, "raise", "0.50")


async def test_the_slot_of_a_running_job_is_raised(project: Path, ledger: Ledger) -> None:
    await reserved(ledger, opened(ledger, slot="2026-11-20"), NANO // 4)
    document = json.loads(told(project, "raise", "2", "--job", "mail", as_json=True))
    assert document["caps"] == {"run:mail/2026-11-20": "3.00"}
    await reserved(ledger, opened(ledger, slot="2026-11-20"), NANO // 2, "c_2")


def test_the_slot_of_now_is_raised_before_its_run(project: Path) -> None:
    assert "may now cost $3.00" in told(project, "raise", "2", "--job", "mail")


def test_all_that_bounds_a_job_today_is_raised(project: Path) -> None:
    document = json.loads(told(project, "raise", "2", "--job", "news", as_json=True))
    assert sorted(document["caps"].values()) == ["3.00", "4.00"]
    assert document["caps"][f"job:news:{DAY}"] == "4.00"


def test_the_day_of_a_role_is_raised(project: Path) -> None:
    assert f"role:judge:{DAY} may now cost $3.50" in told(project, "raise", "0.50", "--role", "judge")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["5 USD"], "is not an amount in dollars"),
        (["NaN"], "is not an amount in dollars"),
        (["inf"], "is not an amount in dollars"),
        (["1e9"], "is not an amount in dollars"),
        (["--", "-5"], "is not an amount in dollars"),
        (["$-5"], "is not an amount in dollars"),
        ([""], "is not an amount in dollars"),
        (["0"], "is not between"),
        (["9999999"], "is not between"),
        (["5", "--job", "nobody"], "no job 'nobody'"),
        (["5", "--job", "free"], "has no budget of its own"),
        (["5", "--role", "nobody"], "no role 'nobody'"),
        (["5", "--role", "editor"], "per_task is raised there"),
        (["5", "--role", "judge", "--job", "mail"], "they are two budgets"),
    ],
)
def test_what_is_no_raise_changes_nothing(project: Path, ledger: Ledger, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        told(project, "raise", *words)
    assert rows(ledger) == {}


@pytest.mark.parametrize("words", [["5", "USD"], ["-5"], []])
def test_wrong_usage_is_told(project: Path, words: list[str]) -> None:
    assert "Usage:" in told(project, "raise", *words, code=2)


async def test_the_reservation_of_a_killed_process_is_settled_once_at_its_worst_case(ledger: Ledger) -> None:
    dead = opened(ledger)
    await reserved(ledger, dead, NANO // 4)
    opened(ledger)  # the next run of the slot takes the lease
    assert reaped(ledger) == 1
    assert set(rows(ledger).values()) == {(NANO // 4, 0)}
    assert len(rows(ledger)) == 3
    assert reaped(ledger) == 0
    status = ledger.reading(lambda connection: connection.execute(select(call.c.status, call.c.cost_nano)).one())
    assert status == ("unknown", NANO // 4)


async def test_calls_of_a_living_run_are_left_alone(ledger: Ledger) -> None:
    await reserved(ledger, opened(ledger), NANO // 4)
    assert reaped(ledger) == 0
    assert rows(ledger)[f"day:{DAY}"] == (0, NANO // 4)


async def test_a_lease_that_has_run_out_or_was_released_holds_nothing(ledger: Ledger) -> None:
    await reserved(ledger, opened(ledger), 100)
    assert reaped(ledger, NOW + timedelta(minutes=2)) == 1
    other = opened(ledger, "free")
    await reserved(ledger, other, 100, "c_2")
    ledger.writing(lambda connection: close_run(connection, other, "interrupted", None, NOW))
    assert reaped(ledger) == 1
    assert rows(ledger)[f"day:{DAY}"] == (200, 0)


async def test_a_lease_that_is_gone_holds_nothing(ledger: Ledger) -> None:
    await reserved(ledger, opened(ledger), 100)
    ledger.writing(lambda connection: connection.execute(lease.delete()))
    assert reaped(ledger) == 1


async def test_a_process_that_was_only_asleep_is_charged_what_it_has_used(ledger: Ledger) -> None:
    sent, reservation = await reserved(ledger, opened(ledger), 100)
    assert reaped(ledger, NOW + timedelta(minutes=2)) == 1
    budgets = Budgets(ledger, SystemClock(), ZoneInfo("UTC"), Caps())
    await budgets.settle(reservation, 30, also=Also(book, (sent, Ended("ok", 30, 1))))
    assert {sum(value) for value in rows(ledger).values()} == {30}


async def test_calls_that_ended_are_never_settled_again(ledger: Ledger) -> None:
    scope = opened(ledger)
    sent, reservation = await reserved(ledger, scope, 100)
    budgets = Budgets(ledger, SystemClock(), ZoneInfo("UTC"), Caps())
    ended = Ended("unknown", 100, 1, error_class="transient", error_code="timeout")
    await budgets.settle(reservation, 100, also=Also(book, (sent, ended)))
    assert reaped(ledger, NOW + timedelta(minutes=2)) == 0
    assert rows(ledger)[f"day:{DAY}"] == (100, 0)


async def test_others_need_not_wait_for_the_dead(ledger: Ledger) -> None:
    await reserved(ledger, opened(ledger), NANO)
    survivor = opened(ledger)
    reaped(ledger)
    ledger.writing(lambda connection: connection.execute(update(counters).values(extra_nano=NANO)))
    await reserved(ledger, survivor, NANO, "c_2")


def test_the_lookup_of_the_dead_is_quick(ledger: Ledger) -> None:
    """It is the first thing of every run: a hundred thousand finished calls must not delay it."""
    row: dict[str, Any] = {
        "job": "mail", "slot": DAY, "key": "k", "hash": "h", "nth": 0, "run_id": "r", "role": "editor", "model": "m",
        "status": "ok", "cost_nano": 1, "budget_day": "2026-01-01", "started_at": NOW,
    }  # fmt: skip
    many = [row | {"id": f"c{number}"} for number in range(20_000)]
    ledger.writing(lambda connection: connection.execute(insert(call), many))
    started = SystemClock().monotonic()
    assert reaped(ledger) == 0
    assert SystemClock().monotonic() - started < 0.5


WARNER = """
import asyncio, sys
from zoneinfo import ZoneInfo
from overnight.budget import Also, Budgets, Caps
from overnight.clock import SystemClock
from overnight.ledger import Ledger
from overnight.outcome import Scope

async def main():
    ledger = Ledger.open(sys.argv[1])
    budgets = Budgets(ledger, SystemClock(), ZoneInfo("UTC"), Caps(per_day=1000))
    warned = 0
    for number in range(9):
        one = await budgets.reserve(Scope("mail", "s", str(number), "r"), 50)
        await budgets.settle(one, 50)
        warned += one.warned
    print(warned)
    ledger.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_two_processes_warn_once_a_day_together_and_a_later_one_not_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    Ledger.open(url).close()
    command = [sys.executable, "-c", WARNER, url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(each.communicate(timeout=60)[0]) for each in both) == 1
    again = WARNER.replace("range(9)", "range(1)")
    later = subprocess.run([sys.executable, "-c", again, url], capture_output=True, text=True, check=True)
    assert int(later.stdout) == 0
