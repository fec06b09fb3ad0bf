"""Redaction against shapes it has not been shown: secrets of many vendors and innocent lines, drawn from a seed."""

import time
from collections import Counter

import pytest

from overnight.redact import Redactor
from tests.unit.secret_formats import innocent, leaks, names, secrets

SEEDS = [20261122, 1, 77, 4242]
EACH = 10  # lines of every kind


def test_there_are_more_than_a_hundred_kinds_of_secrets() -> None:
    assert len(set(names())) >= 200


@pytest.mark.parametrize("seed", SEEDS)
def test_at_least_99_percent_of_secrets_vanish(seed: int) -> None:
    redactor = Redactor()
    samples = list(secrets(seed, EACH))
    leaked = [sample for sample in samples if leaks(sample.written, redactor.text(sample.line))]
    assert len(leaked) <= len(samples) * 0.01, [(sample.kind, sample.line) for sample in leaked]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_kind_of_secret_is_missed_more_often_than_not(seed: int) -> None:
    redactor = Redactor()
    leaked = Counter(s.kind for s in secrets(seed, EACH) if leaks(s.written, redactor.text(s.line)))
    assert {kind: count for kind, count in leaked.items() if count > EACH / 2} == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_at_most_one_innocent_line_in_200_is_changed(seed: int) -> None:
    redactor = Redactor()
    lines = list(innocent(seed, EACH))
    changed = [(line, redactor.text(line)) for line in lines if redactor.text(line) != line]
    assert len(changed) <= len(lines) * 0.005, changed


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_redacted_once_stays_as_it_is(seed: int) -> None:
    redactor = Redactor()
    cleaned = [redactor.text(sample.line) for sample in secrets(seed, 2)]
    assert [text for text in cleaned if redactor.text(text) != text] == []


def test_a_secret_vanishes_from_the_middle_of_a_structure_as_well() -> None:
    redactor = Redactor()
    samples = list(secrets(5, 2))
    cleaned = redactor.value({"a": [{"line": sample.line} for sample in samples]})["a"]
    leaked = [s.kind for s, kept in zip(samples, cleaned, strict=True) if leaks(s.written, kept["line"])]
    assert len(leaked) <= len(samples) * 0.01, leaked


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 9])
def test_the_time_grows_with_the_length_only(seed: int) -> None:
    """Four times as much of any line takes about four times as long: no pattern goes back over what it has read."""
    redactor = Redactor()
    for sample in secrets(seed, 1):
        short, long = (_seconds(redactor, sample.line, size) for size in (20_000, 80_000))
        assert long < 12 * short + 0.5, (sample.kind, sample.line, short, long)


def _seconds(redactor: Redactor, line: str, size: int) -> float:
    text = line.replace("\n", " ") * (size // len(line) + 1)
    started = time.thread_time()
    redactor.text(text)
    return time.thread_time() - started
