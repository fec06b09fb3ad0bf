"""What a run has come to."""

import pytest

from overnight.outcome import STATES, RunStatus, Scope, run_status


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, "ok"),
        ({"ok": 3}, "ok"),
        ({"skipped": 3}, "ok"),
        ({"ok": 1, "skipped": 1}, "ok"),
        ({"ok": 1, "failed": 1}, "partial"),
        ({"skipped": 1, "failed": 1}, "partial"),
        ({"failed": 1}, "failed"),
        ({"failed": 1, "retry": 1, "unknown": 1}, "failed"),
        ({"retry": 2}, "partial"),
        ({"unknown": 1}, "partial"),
        ({"ok": 1, "retry": 1}, "partial"),
    ],
    ids=str,
)
def test_the_status_of_a_run_says_the_worst_without_hiding_what_succeeded(
    counts: dict[str, int], status: RunStatus
) -> None:
    assert run_status(dict.fromkeys(STATES, 0) | counts) == status


def test_a_task_is_named_by_job_slot_and_key() -> None:
    assert Scope("daily_email", "2026-11-22", "s_ann", "r_1").task_id == "daily_email/2026-11-22/s_ann"
