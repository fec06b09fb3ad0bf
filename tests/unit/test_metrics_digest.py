"""The mail to the operators."""

import dataclasses
import email
import json
import re
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.metrics_digest import Digest, Words, digest, last_until, metrics_digest, told
from overnight.ledger.items import Recorded, plan, record
from overnight.ledger.onces import keep_once
from overnight.mail.templates import Templates
from overnight.metrics import DayCost, ErrorFigure, Figures, JobFigures, Spending, Usual
from overnight.outcome import STATES, Outcome
from overnight.testing import Bench
from tests.slots import ManualClock, begin, open_ledger, run_in

UNTIL = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
PERIOD = "Sat 21 Nov 08:00 to Sun 22 Nov 08:00"
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
ROOT = Path(__file__).parents[2]
NO_ITEMS = dict.fromkeys(STATES, 0)

GOOD = Figures(
    since=UNTIL - timedelta(hours=24),
    until=UNTIL,
    runs={"ok": 3},
    items=NO_ITEMS | {"ok": 1204},
    success_rate=1.0,
    tasks_per_hour=4815.2,
    backlog=0,
    spending=Spending(523_400_000, 0, 2_100_000_000, 0.62),
    running=0,
    days=[
        DayCost(date(2026, 11, 9 + n), {HAIKU: 30_000_000 * n, SONNET: 10_000_000 * n}, 10_000_000_000)
        for n in range(14)
    ],
    usual=Usual(523_400_000, 1.0, 550_000_000, 0.996),
    day_cost_nano=523_400_000,
    budget_nano=10_000_000_000,
    p50_ms=840,
    p95_ms=4210,
    jobs=[
        JobFigures("daily_email", 1, NO_ITEMS | {"ok": 1200}, 1.0, 5200.0, 0, 850),
        JobFigures("nightly_agents", 2, NO_ITEMS | {"ok": 4}, 1.0, 16.0, 0, 125_000),
    ],
    errors=[],
    unknown_effects=0,
    spooled=0,
)
BAD = dataclasses.replace(
    GOOD,
    runs={"ok": 1, "partial": 1, "stopped": 1},
    items=NO_ITEMS | {"ok": 1143, "failed": 52, "retry": 9},
    success_rate=1143 / 1204,
    spending=Spending(523_400_000, 31_000_000, 2_100_000_000, 0.62),
    jobs=[
        JobFigures("daily_email", 1, NO_ITEMS | {"ok": 1140, "failed": 51, "retry": 9}, 0.95, 5200.0, 9, 850),
        JobFigures("nightly_agents", 2, NO_ITEMS | {"ok": 3, "failed": 1}, 0.75, 16.0, 0, 125_000),
    ],
    errors=[ErrorFigure("daily_email", "smtp_550", 49), ErrorFigure("nightly_agents", "http_404", 1, new=True)],
    unknown_effects=1,
    spooled=4,
)
LOST = dataclasses.replace(
    GOOD,
    failed=("runs", "budget", "durations"),
    **{field.name: None for field in dataclasses.fields(GOOD) if field.name not in {"since", "until", "failed"}},
)


def mail(digest: Digest) -> Any:
    context = {
        "digest": digest,
        "images": {},
        "to": None,
        "unsubscribe_mailto": "",
        "public_url": "",
        "slot": "",
        "site": "Site",
    }
    return Templates(ROOT).render("metrics_digest", context)


def test_a_good_night_is_told_in_the_subject() -> None:
    sent = mail(told(GOOD, PERIOD))
    assert sent.subject == "All well: 100 % ok (+0.4 points), $0.52 spent (-5 %), 5 % of today's budget ▁▂▂▃▃▄▄▅▅▆▆▇▇█"
    assert PERIOD in sent.text
    assert "!" not in sent.text


def test_a_bad_night_says_what_to_do() -> None:
    digest = told(BAD, PERIOD)
    assert digest.verdict == "Needs a look: 94.9 % ok (+0.4 points), $0.52 spent (-5 %), 5 % of today's budget"
    assert digest.troubles == [
        "below the target of 95 %: nightly_agents",
        "52 items failed: overnight show RUN, then overnight retry RUN",
        "not seen before: http_404 (nightly_agents)",
        "1 effect may or may not have happened: overnight show RUN",
        "1 run did not end well: overnight runs",
        "4 reports not uploaded yet: overnight doctor",
    ]
    assert "smtp_550" in mail(digest).text


def test_what_was_skipped_or_never_begun_is_in_neither_side_of_a_share_and_is_named() -> None:
    items = NO_ITEMS | {"ok": 37, "skipped": 11, "pending": 2}
    quiet = dataclasses.replace(GOOD, items=items, jobs=[JobFigures("mail", 1, items, 1.0, 9.0, 2, 5)])
    digest = told(quiet, PERIOD)
    assert digest.facts[0] == ("Success rate", "100 %", "37 of 37, 11 skipped, 2 not begun")
    assert digest.jobs is not None
    assert digest.jobs[0].done == "37 of 37, 2 not begun"
    sent = mail(digest)
    assert ">37 of 37,<br>2 not begun<" in sent.html
    assert re.search(r"mail +37 of 37 .* 5 ms  2 not begun\n", sent.text)


def test_figures_that_cannot_be_had_are_na_and_the_mail_is_made() -> None:
    sent = mail(told(LOST, PERIOD))
    assert "Cost                         n/a" in sent.text
    assert "not to be had from the ledger: runs, budget, durations" in sent.text
    assert "nothing was asked yet" not in sent.text


def test_a_day_on_which_nothing_was_asked_has_cost_nothing() -> None:
    early = told(dataclasses.replace(GOOD, day_cost_nano=None, budget_nano=None), PERIOD)
    assert ("Budget today", "$0.00", "nothing was asked yet") in early.facts
    assert early.troubles == []
    unsure = told(dataclasses.replace(GOOD, day_cost_nano=None, budget_nano=None, failed=("budget",)), PERIOD)
    assert ("Budget today", "n/a", "of n/a") in unsure.facts
    assert unsure.troubles == ["not to be had from the ledger: budget"]


async def test_the_digest_counts_what_waits_in_the_spool_and_links_every_report(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock(UNTIL))
    for folder in ("elsewhere/00000001", "elsewhere/00000002", "reports"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "reports/mine.py").touch()
    params = {"reports": "https://site.example.org/r/"}
    scope = begin(ledger, "metrics_digest")
    run = run_in(ledger, scope, tmp_path, scheduled_for=UNTIL, spool=tmp_path / "elsewhere", params=params)
    made = await digest(run)
    assert ("Reports in the spool", "2", "wait for the store") in made.facts
    assert made.links == [("mine", "https://site.example.org/r/latest/mine.csv")]
    ledger.close()


def test_a_night_without_work_is_no_trouble() -> None:
    idle = dataclasses.replace(GOOD, runs={}, items=NO_ITEMS, success_rate=None, jobs=[])
    assert told(idle, PERIOD).verdict == "All well: nothing was to be done"


@pytest.mark.parametrize("figures", [GOOD, BAD, LOST])
def test_the_mail_reads_well_as_text_and_is_small(figures: Figures) -> None:
    sent = mail(told(figures, PERIOD))
    assert all(len(line) <= 90 for line in sent.text.splitlines())
    assert len(sent.html) < 60_000


def test_an_error_code_cannot_break_the_page() -> None:
    evil = dataclasses.replace(BAD, errors=[ErrorFigure("daily_email", "<script>alert(1)</script>", 1, new=True)])
    assert "<script>" not in mail(told(evil, PERIOD)).html


def test_one_failed_item_in_a_thousand_is_not_all() -> None:
    digest = told(dataclasses.replace(GOOD, success_rate=0.9999), PERIOD)
    assert "99.9 %" in digest.verdict


def test_the_items_of_the_job_are_the_operators() -> None:
    class Stub:
        params = {"to": ["ops@example.org", "boss@example.org"]}  # noqa: RUF012

    assert metrics_digest.items is not None
    assert list(metrics_digest.items(Stub())) == ["ops@example.org", "boss@example.org"]  # type: ignore[arg-type]
    Stub.params = {"to": "ops@example.org"}  # type: ignore[dict-item]
    assert list(metrics_digest.items(Stub())) == ["ops@example.org"]  # type: ignore[arg-type]
    key = metrics_digest.key("ops@example.org")
    assert key.startswith("o_")
    assert "ops" not in key


async def test_a_digest_begins_where_the_last_one_that_was_sent_ended(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, ManualClock(UNTIL))
    for days, state in ((3, "ok"), (2, "ok"), (1, "failed")):
        at = UNTIL - timedelta(days=days)
        scope = begin(ledger, "metrics_digest", f"{at:%Y-%m-%d}", scheduled_for=at)
        value = json.dumps({"until": (at + timedelta(minutes=7)).isoformat()})
        ledger.writing(lambda c, s=scope, v=value: keep_once(c, s, "digest", v, [], UNTIL))  # type: ignore[misc]
        ledger.writing(lambda c, s=scope: plan(c, s, [(1, "o_1", '"ops"')]))  # type: ignore[misc]
        entry = Recorded(dataclasses.replace(scope, key="o_1"), "pending", Outcome("o_1", state), UNTIL)  # type: ignore[arg-type]
        ledger.writing(lambda c, e=entry: record(c, [e]))  # type: ignore[misc]
    today = run_in(ledger, begin(ledger, "metrics_digest", "2026-11-22"), tmp_path, scheduled_for=UNTIL)
    assert await last_until(today) == UNTIL - timedelta(days=2) + timedelta(minutes=7)
    ledger.close()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([Words("It went well.\n\tNothing was dear.")], "It went well. Nothing was dear."),
        ([], "0 runs worked on 0 items. Nothing went wrong."),  # the model is away
        ([Words("so " * 2_000)], "so so so"),
    ],
)
def test_the_analyst_sums_it_up_and_plain_words_do_while_the_model_is_away(
    bench: Bench, answers: list[Words], said: str
) -> None:
    bench.script.answers = list(answers)
    done = bench.batch(metrics_digest, "ops@example.org", params={"narrative": "analyst"})
    assert list(done.states.values()) == ["ok"]
    (mail,) = bench.outbox
    assert said in mail.text
    assert said in mail.html
    assert len(mail.text) < 3_000
    assert len(bench.script.calls) == 1


def test_nobody_is_asked_for_a_narrative_that_was_not_wanted(bench: Bench) -> None:
    bench.batch(metrics_digest, "ops@example.org")
    assert bench.script.calls == []
    assert "0 runs worked on 0 items." in bench.outbox[0].text


def pictures(bench: Bench) -> list[tuple[str, bytes]]:
    """The images of the mail by content id, as a mail program finds them."""
    (path,) = (bench.folder / "var/outbox").rglob("*.eml")
    parts = email.message_from_bytes(path.read_bytes()).walk()
    return [
        (part["Content-ID"], part.get_payload(decode=True)) for part in parts if part.get_content_type() == "image/png"
    ]  # type: ignore[misc]


def test_the_chart_is_a_picture_for_who_asks_for_one(bench: Bench) -> None:
    pytest.importorskip("PIL", reason="pillow is not installed")
    bench.batch(metrics_digest, "ops@example.org", params={"charts": "png"})
    ((name, content),) = pictures(bench)
    assert (name, content[:4]) == ("<costs>", b"\x89PNG")
    assert 'src="cid:costs"' in bench.outbox[0].html
    assert 'alt="Cost per day: ' in bench.outbox[0].html


def test_without_pillow_the_bars_are_in_the_place_of_the_picture(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = bench.batch(metrics_digest, "ops@example.org", params={"charts": "png"})
    assert list(done.states.values()) == ["ok"]
    assert pictures(bench) == []
    assert "cid:costs" not in bench.outbox[0].html
