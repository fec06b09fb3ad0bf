"""The pytest plugin, as a job author uses it."""

from datetime import timedelta
from typing import Any

import pytest

from overnight import Permanent, Run, Skip, Stop, Subscriber, Transient, job
from overnight.clock import SystemClock
from overnight.mail import fuse
from overnight.model import Model, ModelRequest
from overnight.testing import NOW, SLOT, Bench

pytest_plugins = ["pytester"]


def names(_run: Run) -> list[str]:
    return ["ann", "bob"]


@job(items=names)
async def greet(name: str, run: Run) -> str:
    if name == "bob":
        raise Permanent("bob is away")
    return f"{name} {run.slot} {run.params.get('greeting', 'hello')}"


def test_a_batch_runs_the_jobs_own_items_or_those_it_is_given(bench: Bench) -> None:
    assert bench.batch(greet).states == {"ann": "ok", "bob": "failed"}


def test_given_items_parameters_and_the_slot_are_what_the_test_says(bench: Bench) -> None:
    batch = bench.batch(greet, "cem", params={"greeting": "hi"})
    assert batch.results == {"cem": f"cem {SLOT} hi"}


def test_errors_are_told_by_key(bench: Bench) -> None:
    batch = bench.batch(greet)
    assert batch.errors == {"bob": "bob is away"}
    assert batch.outcomes["bob"].error_class == "permanent"


def test_a_bug_of_the_job_is_raised_in_the_test(bench: Bench) -> None:
    @job
    async def buggy(slot: str, run: Run) -> str:
        raise ZeroDivisionError("in the job")

    with pytest.raises(ZeroDivisionError, match="in the job"):
        bench.batch(buggy)


def test_an_assertion_within_a_job_fails_the_test(bench: Bench) -> None:
    @job
    async def checked(slot: str, run: Run) -> None:
        pytest.fail("seen inside")

    with pytest.raises(pytest.fail.Exception, match="seen inside"):
        bench.batch(checked)


def test_a_stop_is_raised_in_the_test(bench: Bench) -> None:
    @job
    async def stopping(slot: str, run: Run) -> None:
        raise Stop("nothing to do it with")

    with pytest.raises(Stop, match="nothing to do it with"):
        bench.batch(stopping)


def test_waiting_takes_no_time_and_can_be_seen(bench: Bench) -> None:
    tries: list[int] = []

    @job
    async def flaky(slot: str, run: Run) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise Transient("503", after=40)
        return len(tries)

    assert bench.batch(flaky).results == {SLOT: 3}
    assert [seconds for seconds in bench.clock.slept if seconds > 1] == [42.0, 42.0]
    assert bench.clock.now() >= NOW + timedelta(seconds=84)


def test_a_second_batch_of_the_slot_repeats_nothing(bench: Bench) -> None:
    assert bench.batch(greet).states == {"ann": "ok", "bob": "failed"}
    assert bench.batch(greet).states == {"bob": "failed"}, "only what failed is done again"


def test_a_bounce_concerns_one_recipient_and_the_outbox_shows_the_others(bench: Bench) -> None:
    people = [Subscriber(f"s_{name}", f"{name}@example.org", name.title()) for name in ("ann", "bob")]
    bench.bouncing = {"bob@example.org"}

    @job(items=lambda _run: people, key=lambda one: one.id)
    async def notify(subscriber: Subscriber, run: Run) -> str:
        return await run.mail.send(subscriber, "alert", **_alarm())

    batch = bench.batch(notify)
    assert batch.states == {"s_ann": "ok", "s_bob": "failed"}
    assert [mail.to for mail in bench.outbox] == ["ann@example.org"]


def _alarm() -> dict[str, Any]:
    from overnight.alerts.book import Told

    return {"changes": (Told("bug", "greet", "oops", "new", NOW, NOW),), "now": NOW}


def test_the_script_answers_in_turn_and_then_the_fallback_has_its(bench: Bench) -> None:
    bench.script.answers = ["Rain"]

    @job(items=lambda _run: ["first", "second"], concurrency=1)
    async def headline(name: str, run: Run) -> list[str]:
        answer = await run.agent("editor", data={"story": name}, output=str, fallback="plain")
        return [answer.value, answer.source]

    assert bench.batch(headline).results == {"first": ["Rain", "model"], "second": ["plain", "fallback"]}
    assert len(bench.script.calls) == 2


def test_what_a_job_skips_is_no_error(bench: Bench) -> None:
    @job
    async def nothing(slot: str, run: Run) -> None:
        raise Skip("no news")

    batch = bench.batch(nothing)
    assert batch.states == {SLOT: "skipped"}


@pytest.mark.usefixtures("bench")
async def test_relays_and_models_on_the_network_refuse_to_work_under_the_bench() -> None:
    with pytest.raises(Stop, match="no SMTP connection was opened"):
        fuse.check()
    model = Model.open(
        {"ANTHROPIC_API_KEY": "sham", "ANTHROPIC_BASE_URL": "https://model.example.org"}, clock=SystemClock()
    )
    with pytest.raises(Stop, match="a test would have asked the real model"):
        await model.create(ModelRequest("claude-haiku-5-5", "", (), 10))


@pytest.mark.slow
def test_the_plugin_is_found_by_every_pytest_and_costs_nothing_without_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_nothing_heavy():
            assert not {"sqlalchemy", "anthropic", "pandas", "boto3", "aiohttp"} & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:anyio", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
