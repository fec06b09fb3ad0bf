"""schedule.yaml as the engine sees it: types, defaults, hashes, the shipped file and its JSON Schema."""

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from overnight.health.reach import PORTS as REACHED
from overnight.mail.relay import _PORTS as RELAYS
from overnight.schedule import Rate, Schedule, ScheduleErrors, json_schema, load, loads
from overnight.schedule.values import duration, money, percent, rate
from overnight.triggers import At, Cron, Every

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "schedule.yaml"
MINIMAL = """\
version: 1
jobs:
  digest: { cron: "0 7 * * *" }
"""


def schedule(text: str, **environ: str) -> Schedule:
    return loads(text, environ)


def test_the_shipped_file_works_on_a_fresh_machine() -> None:
    shipped = load(SHIPPED, {})
    assert list(shipped.jobs) == ["daily_email", "metrics_digest", "nightly_agents", "hello"]
    assert shipped.ledger == "sqlite:///var/overnight.db"
    assert shipped.mail.transport == "outbox:var/outbox"
    assert shipped.reports.to == "var/reports"
    assert shipped.budget.per_day == 10_000_000_000
    assert shipped.budget.warn_at == Decimal("0.8")
    assert shipped.limits["anthropic"].input_tokens == Rate(40_000, 60)
    assert shipped.roles["editor"].model == ["claude-haiku-5-5", "claude-sonnet-5-5"]
    assert shipped.roles["reviewer"].budget.per_task == 500_000_000
    assert shipped.channels["chat"].webhook == ""
    assert shipped.alerts.daily_cost.above == Decimal("1.5")
    assert shipped.alerts.daily_cost.of == 7
    assert shipped.drain == timedelta(seconds=30)
    assert shipped.jobs["daily_email"].budget.per_run == 1_000_000_000
    assert shipped.jobs["metrics_digest"].after == "nightly_agents"
    assert shipped.warnings == ()


def test_settings_that_nothing_reads_yet_are_named() -> None:
    text = MINIMAL + (
        "  mail: { at: '08:00' }\n"
        "defaults: { retention: 30d }\n"
        "limits: { feed: { per_domain: 1/s } }\n"
        "roles: { editor: { model: [m], max_turns: 2 } }\n"
    )
    assert [warning.partition(":")[0] for warning in schedule(text).warnings] == [
        "roles.editor.max_turns",
        "limits.feed.per_domain",
    ]


def test_the_shipped_file_is_valid_for_editors_and_the_published_schema_is_current() -> None:
    published = json.loads((ROOT / "schedule.schema.json").read_text())
    assert published == json_schema(), "schedule.schema.json is old; write it anew with `overnight schema`"
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(YAML(typ="safe", pure=True).load(SHIPPED), published)


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"cron": "0 7 * * *", "every": "1h"},
        {"every": "one hour"},
        {"every": "1h", "budget": {"per_run": "5 USD"}},
        {"every": "1h", "concurency": 2},
        {"every": "1h", "overlap": "skp"},
        {"every": "1h", "concurrency": 0},
    ],
)
def test_an_editor_sees_what_validate_would_refuse(job: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "jobs": {"digest": job}}, json_schema())


def test_an_editor_accepts_variables_and_anchors() -> None:
    job = {"every": "${PERIOD}", "concurrency": "${WIDE:-8}", "timeout": "1h30m"}
    jsonschema.validate({"version": 1, "x-any": [1], "jobs": {"digest": job}}, json_schema())


def test_a_minimal_file_has_the_engine_defaults() -> None:
    job = schedule(MINIMAL).jobs["digest"]
    assert (job.name, job.target, job.zone.key, job.enabled) == ("digest", "jobs.digest:digest", "UTC", True)
    assert (job.concurrency, job.timeout, job.item_timeout) == (8, timedelta(hours=1), timedelta(minutes=2))
    assert (job.overlap, job.catch_up, job.on_unknown) == ("skip", "latest", "park")
    assert (job.max_age, job.retention) == (timedelta(hours=6), timedelta(days=90))
    assert job.explicit == {"cron"}


def test_defaults_are_merged_into_every_job_and_the_job_wins() -> None:
    jobs = schedule(
        """\
version: 1
timezone: Europe/Paris
defaults: { concurrency: 3, overlap: queue, retry: { attempts: 5, max: 1m } }
jobs:
  one: { every: 1h, concurrency: 20, retry: { attempts: 2 } }
  two: { at: "08:00", timezone: America/New_York }
"""
    ).jobs
    assert (jobs["one"].concurrency, jobs["one"].overlap) == (20, "queue")
    assert jobs["one"].retry is not None
    assert (jobs["one"].retry.attempts, jobs["one"].retry.max) == (2, timedelta(minutes=1))
    assert (jobs["two"].concurrency, jobs["two"].zone.key) == (3, "America/New_York")
    assert jobs["two"].explicit == {"at", "timezone", "concurrency", "overlap", "retry"}


def test_each_way_to_say_when_becomes_its_trigger() -> None:
    jobs = schedule(
        """\
version: 1
timezone: Europe/Paris
jobs:
  one: { cron: "0 7 * * MON-FRI" }
  two: { every: 6h }
  three: { at: 08:00 }
"""
    ).jobs
    paris = ZoneInfo("Europe/Paris")
    assert [job.trigger() for job in jobs.values()] == [
        Cron("0 7 * * MON-FRI", paris),
        Every(21_600),
        At("08:00", paris),
    ]
    assert jobs["three"].trigger().next(datetime(2026, 11, 22, tzinfo=UTC)) == datetime(2026, 11, 22, 7, tzinfo=UTC)


def test_yaml_1_2_words_stay_words() -> None:
    text = MINIMAL + "  two: { at: 12:30, enabled: no, params: { on: no, 12:30: yes, 7: 007, day: 2026-11-22 } }\n"
    job = schedule(text).jobs["two"]
    assert job.enabled is False
    assert job.at == "12:30"
    assert job.params == {"on": "no", "12:30": "yes", "7": 7, "day": "2026-11-22"}


def test_anchors_and_merges_are_understood() -> None:
    text = """\
version: 1
x-night: &night { timeout: 4h, overlap: queue }
x-more: &more { overlap: replace, concurrency: 2 }
jobs:
  one: { <<: *night, every: 1h, timeout: 2h }
  two: { <<: [*night, *more], every: 1h }
"""
    jobs = schedule(text).jobs
    assert (jobs["one"].timeout, jobs["one"].overlap) == (timedelta(hours=2), "queue")
    assert (jobs["two"].timeout, jobs["two"].overlap, jobs["two"].concurrency) == (timedelta(hours=4), "queue", 2)


def test_the_job_hash_follows_timing_and_nothing_else() -> None:
    def hashed(job: str, zone: str = "UTC") -> str:
        return schedule(f"version: 1\ntimezone: {zone}\njobs:\n  digest: {{ {job} }}\n").job_hash("digest")

    first = hashed('at: "08:00"')
    assert len(first) == 16
    assert first == hashed('at: "08:00", concurrency: 2, timeout: 2h, params: { a: 1 }')
    others = [hashed('at: "08:01"'), hashed('at: "08:00"', "Europe/Paris"), hashed('at: "08:00", enabled: false')]
    assert len({first, *others}) == 4


def test_the_config_hash_follows_every_setting() -> None:
    first = schedule(MINIMAL).config_hash
    assert first == schedule(MINIMAL + "# a comment\n").config_hash
    assert first != schedule(MINIMAL + "drain: 10s\n").config_hash


def test_a_role_has_the_tools_that_are_named_and_no_others() -> None:
    text = MINIMAL + "roles: { helper: { model: m, tools: { files.read: { root: repo/ }, tasks.results: } } }\n"
    read = schedule(text)
    granted = read.roles["helper"].granted()
    assert {name: grant.limits.shown() for name, grant in granted.items()} == {
        "files.read": "max_calls 20, root repo/, max_bytes 200000",
        "tasks.results": "max_calls 20",
    }
    assert read.warnings == ()


def test_settings_are_read_only() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        schedule(MINIMAL).drain = timedelta(0)


def test_variables_come_from_the_environment_and_from_the_file_beside(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(MINIMAL + 'public_url: "https://${HOST}"\nmail: { transport: "${MAIL_URL}" }\n')
    (tmp_path / ".env").write_text(
        "HOST=from.dotenv\nMAIL_URL='smtp://u:s3cr3t-pw@relay:587'\nANTHROPIC_API_KEY=key-one\n"
    )
    read = load(file, {"HOST": "from.environment", "ANTHROPIC_API_KEY": "key-two-of-env"})
    assert read.public_url == "https://from.environment"
    assert read.mail.transport == "smtp://u:s3cr3t-pw@relay:587"
    assert read.environ["ANTHROPIC_API_KEY"] == "key-two-of-env"
    assert read.secrets == {"s3cr3t-pw", "key-two-of-env"}
    assert "key-two-of-env" not in repr(read)


def test_a_variable_cannot_inject_yaml_and_dollars_can_be_written() -> None:
    text = (
        MINIMAL
        + "  two: { every: 1h, params: { a: '${A}', b: $$x, c: $5, d: '${D:-}', e: '$${A}', f: '${A}-${A}' } }\n"
    )
    params = schedule(text, A="x: {y}\n- z").jobs["two"].params
    assert params == {"a": "x: {y}\n- z", "b": "$x", "c": "$5", "d": "", "e": "${A}", "f": "x: {y}\n- z-x: {y}\n- z"}


def test_numbers_and_flags_may_come_from_variables() -> None:
    text = MINIMAL + '  two: { every: "${P}", concurrency: "${N}", enabled: "${ON}" }\n'
    job = schedule(text, P="2h", N="12", ON="false").jobs["two"]
    assert (job.every, job.concurrency, job.enabled) == (timedelta(hours=2), 12, False)


def test_a_byte_order_mark_and_windows_lines_are_no_trouble(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load(file, {}).version == 1


@given(st.integers(0, 10**16 - 1))
def test_money_is_read_without_loss(nano: int) -> None:
    assert money(f"${nano // 10**9}.{nano % 10**9:09d}") == nano


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "read"),
    [("50/min", Rate(50, 60)), ("40k/min", Rate(40_000, 60)), ("5000/h", Rate(5000, 3600)), ("1.5k/s", Rate(1500, 1))],
)
def test_rates_are_read(text: str, read: Rate) -> None:
    assert rate(text) == read


def test_percentages_are_exact_fractions() -> None:
    assert percent("99.5%") == Decimal("0.995")


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for read in (duration, money, percent, rate):
        with contextlib.suppress(ValueError):
            read(text)


@given(st.text(max_size=200))
def test_any_text_is_a_schedule_or_a_list_of_problems(text: str) -> None:
    with pytest.raises(ScheduleErrors) as refusal:
        loads(text, {})
    assert all(problem.line >= 1 and problem.column >= 1 for problem in refusal.value.errors)


def test_importing_it_stays_light() -> None:
    heavy = "anthropic boto3 pandas sqlalchemy apscheduler aiohttp jinja2 rich click structlog"
    code = f"import sys, overnight.schedule; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("scheme", sorted(RELAYS))
def test_every_form_of_a_relay_is_a_transport_and_can_be_tried(scheme: str) -> None:
    text = f"version: 1\nmail: {{ transport: '{scheme}://relay.example.org' }}\njobs: {{ a: {{ every: 1d }} }}\n"
    assert loads(text, {}).mail.transport == f"{scheme}://relay.example.org"
    assert REACHED[scheme] == RELAYS[scheme]
