"""Redaction against a generator that was written without a look at its patterns."""

import time

import pytest

from overnight import formats
from overnight.redact import REDACTED, Redactor
from tests.unit.held_out_secrets import DEVELOPMENT, NAMES, SECRETS, TEST, Secret
from tests.unit.innocent_lines import INNOCENT

VALUE = "kX93jd8sLq02mZpE7rTy"
HOSTILE = (
    *("a", "<", "Aa1_", "-", "@", "\\", "İ", "<a", "--a-", "key=", "key ", "key key_", '"token" ', "session=", "pass "),
    *("://a:", "?", 'auth="', "auth plain ", "authorization: bb cc ", "login a password ", "mysql -p", "curl -u a"),
    *("discord", "hook.", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "Private-Lines:", ":1:a:", "jdbc:oracle:a:"),
)


def test_there_are_hundreds_of_kinds_and_thousands_of_innocent_lines() -> None:
    assert len({secret.kind for secret in SECRETS}) >= 300
    assert len(INNOCENT) >= 2_000


@pytest.mark.parametrize("half", [DEVELOPMENT, TEST], ids=["the half patterns were tuned on", "the other half"])
def test_at_least_99_percent_of_the_secrets_vanish(half: list[Secret]) -> None:
    redactor = Redactor()
    leaked = [secret for secret in half if secret.leaks(redactor.text(secret.line))]
    assert len(leaked) <= len(half) * 0.01, [(secret.kind, secret.line) for secret in leaked]


def test_at_most_one_innocent_line_in_200_is_changed() -> None:
    redactor = Redactor()
    changed = [(line, redactor.text(line)) for line in INNOCENT if redactor.text(line) != line]
    assert len(changed) <= len(INNOCENT) * 0.005, changed


def test_a_secret_vanishes_as_surely_inside_an_event_as_alone() -> None:
    redactor = Redactor()
    fields = {"task_id": "daily/2026-11-22/s_0042", "status": "failed", "cost": 12}
    for secret in SECRETS[::7]:
        clean = redactor.value(fields | {"error": secret.line, "texts": ["nothing here", secret.line]})
        assert clean["error"] == redactor.text(secret.line)
        assert clean["texts"] == ["nothing here", clean["error"]]


def test_what_was_found_clean_once_is_searched_again_when_a_secret_is_learnt() -> None:
    redactor = Redactor()
    assert redactor.value({"model": "plain-value-7"}) == {"model": "plain-value-7"}
    redactor.learn("plain-value-7")
    assert redactor.value({"model": "plain-value-7"}) == {"model": REDACTED}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_in_a_structure_what_it_tells_in_a_text(name: str) -> None:
    assert Redactor().value({"user": "ada", name: VALUE}) == {"user": "ada", name: REDACTED}
    assert VALUE not in Redactor().text(f"{name}={VALUE}")


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_no_rule_goes_back_over_what_it_has_read(unit: str) -> None:
    """Eight times the text is eight times the work; a rule that backtracks does 64 times as much.

    This thread's own time is compared with itself, so that neither a loaded machine nor a thread beside it decides.
    """
    for rule in formats.RULES:
        short, long = (_work(rule, unit * (size // len(unit))) for size in (4_000, 32_000))
        assert long <= 24 * short + 0.005, (rule.triggers, short, long)


def _work(rule: formats.Rule, text: str) -> float:
    """The least of a few measurements: what the machine does beside only adds to them."""
    took = []
    for _ in range(3):
        started = time.thread_time()
        rule.clean(text)
        took.append(time.thread_time() - started)
    return min(took)
