"""`run.once`: a value that a whole slot shares, paid for once."""

import asyncio
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from overnight import Run, job
from overnight import run as run_module
from overnight.alerts.rules import STANDING
from overnight.batch import Batch, Picked
from overnight.errors import Permanent, Stop, Transient
from overnight.jobs import Options
from overnight.ledger import Ledger
from overnight.ledger.tables import item, once, seen
from overnight.run import ENGINES
from tests.slots import NOW, begin, rows, run_in

HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Edition:
    """What the items share."""

    title: str
    pages: list[int]


def fresh(ledger: Ledger, tmp_path: Path, *, rehearsal: bool = False, slot: str = "2026-11-22") -> Run:
    return run_in(ledger, begin(ledger, slot=slot), tmp_path, rehearsal=rehearsal)


async def test_items_that_ask_at_the_same_time_share_one_computation(ledger: Ledger, tmp_path: Path) -> None:
    calls = 0

    async def edition(run: Run) -> Edition:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return Edition("Rain", [1, 2])

    run = fresh(ledger, tmp_path)
    values = await asyncio.gather(*(run.for_item(f"k{n}").once(edition) for n in range(50)))
    assert calls == 1
    assert values == [Edition("Rain", [1, 2])] * 50


async def test_a_later_run_gets_the_stored_value_and_computes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    titles = iter(["Rain", "Sun"])

    async def edition(run: Run) -> Edition:
        return Edition(next(titles), [])

    assert await fresh(ledger, tmp_path).once(edition) == Edition("Rain", [])
    assert await fresh(ledger, tmp_path).once(edition) == Edition("Rain", [])
    assert await fresh(ledger, tmp_path, slot="2026-11-23").once(edition) == Edition("Sun", [])


async def test_the_value_is_stored_before_anybody_uses_it(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        assert rows(ledger, once) == []
        return "Rain"

    await fresh(ledger, tmp_path).once(edition)
    [row] = rows(ledger, once)
    assert (row["name"], row["value"]) == ("edition", '"Rain"')


async def test_a_value_of_nothing_is_a_value(ledger: Ledger, tmp_path: Path) -> None:
    calls = 0

    async def warm_up(run: Run) -> None:
        nonlocal calls
        calls += 1

    for _ in range(2):
        assert await fresh(ledger, tmp_path).once(warm_up) is None
    assert calls == 1


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (Stop("no feed could be read", code="no_feed"), "no feed could be read", "no_feed"),
        (Transient("503", code="http_503"), "once edition: 503", "http_503"),
        (Permanent("404", code="http_404"), "once edition: 404", "http_404"),
        (ValueError("oops"), "once edition: ValueError: oops", "bug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_a_value_that_cannot_be_had_stops_the_run(
    ledger: Ledger, tmp_path: Path, error: Exception, said: str, code: str
) -> None:
    calls = 0

    async def edition(run: Run) -> str:
        nonlocal calls
        calls += 1
        raise error

    @job(items=lambda _run: ["ann", "bob", "cem"])
    async def greet(name: str, run: Run) -> str:
        return await run.once(edition)

    batch = Batch(greet, fresh(ledger, tmp_path), Options(concurrency=3), NOW)
    await batch.plan()
    await batch.work(Picked())
    assert (str(batch.stopped), batch.stopped and batch.stopped.code) == (said, code)
    assert {row["state"] for row in rows(ledger, item)} == {"pending"}
    assert calls == 1
    assert rows(ledger, once) == []


async def test_a_failed_value_is_computed_anew_by_the_next_run(ledger: Ledger, tmp_path: Path) -> None:
    well = False

    async def edition(run: Run) -> str:
        if not well:
            raise Transient("503")
        return "Rain"

    with pytest.raises(Stop):
        await fresh(ledger, tmp_path).once(edition)
    well = True
    assert await fresh(ledger, tmp_path).once(edition) == "Rain"


async def test_marks_are_stored_with_the_value_and_seen_by_the_next_slot(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> set[str]:
        found = await run.seen("stories")
        run.mark_seen("stories", ["s-1", "s-2"])
        assert rows(ledger, seen) == [] or found
        return found

    assert await fresh(ledger, tmp_path).once(edition) == set()
    assert {row["key"] for row in rows(ledger, seen)} == {"s-1", "s-2"}
    assert await fresh(ledger, tmp_path, slot="2026-11-23").once(edition) == {"s-1", "s-2"}


async def test_a_computation_that_fails_marks_nothing(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        run.mark_seen("stories", ["s-1"])
        raise Permanent("no")

    with pytest.raises(Stop):
        await fresh(ledger, tmp_path).once(edition)
    assert rows(ledger, seen) == []


async def test_a_rehearsal_marks_nothing(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        run.mark_seen("stories", ["s-1"])
        return "Rain"

    await fresh(ledger, tmp_path, rehearsal=True).once(edition)
    assert rows(ledger, seen) == []
    assert len(rows(ledger, once)) == 1


async def test_marking_outside_of_once_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"called through run\.once"):
        fresh(ledger, tmp_path).mark_seen("stories", ["s-1"])


async def test_the_computation_is_booked_under_a_name_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        return run.scope.task_id

    assert await fresh(ledger, tmp_path).for_item("ann").once(edition) == "greet/2026-11-22/once:edition"


async def test_waiting_for_a_slow_value_does_not_count_in_the_items_time(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        await asyncio.sleep(0.15)
        return "Rain"

    @job(items=lambda _run: ["ann", "bob"])
    async def greet(name: str, run: Run) -> str:
        return await run.once(edition)

    batch = Batch(greet, fresh(ledger, tmp_path), Options(item_timeout=0.05), NOW)
    await batch.plan()
    await batch.work(Picked())
    assert {row["state"] for row in rows(ledger, item)} == {"ok"}


async def test_a_value_that_never_comes_stops_the_run(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def edition(run: Run) -> str:
        await asyncio.sleep(60)
        return "never"

    monkeypatch.setattr(run_module, "ONCE", 0.02)
    with pytest.raises(Stop, match=r"once edition: took longer than 0\.02 s"):
        await fresh(ledger, tmp_path).once(edition)


async def test_a_bug_of_the_jobs_is_logged_with_its_traceback_and_names_the_line(
    ledger: Ledger, tmp_path: Path
) -> None:
    async def edition(run: Run) -> str:
        return str(len(run.params["stories"]))

    line = edition.__code__.co_firstlineno + 1
    log = CapturingLogger()
    with pytest.raises(Stop, match=rf"once edition: KeyError: 'stories' \({HERE.name}:{line}\)"):
        await dataclasses.replace(fresh(ledger, tmp_path), root=HERE.parent, log=log).once(edition)
    [call] = log.calls
    assert (call.method_name, call.args, call.kwargs["name"]) == ("exception", ("once has a bug",), "edition")
    assert call.kwargs["exc_info"].__traceback__ is not None


async def test_an_item_that_gives_up_does_not_take_the_value_from_the_others(ledger: Ledger, tmp_path: Path) -> None:
    async def edition(run: Run) -> str:
        await asyncio.sleep(0.02)
        return "Rain"

    run = fresh(ledger, tmp_path)
    first = asyncio.create_task(run.for_item("ann").once(edition))
    second = asyncio.create_task(run.for_item("bob").once(edition))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "Rain"
    assert first.cancelled()


async def test_warnings_are_kept_by_topic_for_one_alert(ledger: Ledger, tmp_path: Path) -> None:
    run = fresh(ledger, tmp_path)
    run.for_item("ann").warn("feeds", "a.xml: 404")
    run.for_item("bob").warn("feeds", "b.xml: 404")
    assert run.notices == {"feeds": ["a.xml: 404", "b.xml: 404"]}


async def test_a_warning_takes_no_name_of_an_alert_that_the_engine_ends(ledger: Ledger, tmp_path: Path) -> None:
    run = fresh(ledger, tmp_path)
    run.warn("stuck", "the crane does not move")
    run.warn("budget", "two of three offers were too dear")
    assert list(run.notices) == ["job_stuck", "budget"]


def test_each_alert_of_the_operations_page_is_a_name_that_no_warning_can_take() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = page.partition("| key of the alert |")[2].partition("\n\n")[0].splitlines()
    keys = [set(re.findall(r"`(\w+):[^`]*`", row.partition(" | ")[0])) for row in rows]
    topic = keys.index({"TOPIC"})
    assert "except those of the row above and `budget` |" in rows[topic]
    by_runs = keys[topic - 1] | {"TOPIC", "budget"}
    assert {"feeds", "roles"} <= by_runs
    assert set[str]().union(*keys) - ENGINES == by_runs, "of which a run tells, and which its next run ends"
    assert STANDING <= ENGINES
