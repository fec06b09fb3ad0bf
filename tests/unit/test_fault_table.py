"""Faults of mail, scheduler, process and clock, and who shows what comes of each: a reader finds the test by the fault.

The numbers are those of the fault table in the notes on resilience. None of these needs root; time is virtual where the
fault is one of the clock, and real processes are killed, stopped and blocked where it is one of the process.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SERVICE, TRIGGERS = "unit/test_service.py", "unit/test_triggers.py"
DEFERRAL, OUTCOMES, PLANNING = (f"unit/batch/test_{word}.py" for word in ("deferral", "outcomes", "planning"))
TALK, PACE, SMTP = "unit/test_mail_conversation.py", "unit/test_mail_pace.py", "acceptance/test_smtp.py"
ENDS, SERVE, HUNG = "acceptance/test_ends.py", "acceptance/test_serve.py", "acceptance/test_hung.py"

ROWS: dict[str, list[tuple[str, str]]] = {
    "18 421 at the greeting, between messages and in one": [
        (TALK, "test_a_fault_is_known_by_how_far_the_message_got"),
        (TALK, "test_what_a_relay_says_unasked_ends_its_connection"),
        (PACE, "test_a_421_slows_its_domain_each_time_by_half_and_for_ten_minutes"),
    ],
    "19 450 and 451": [
        ("unit/test_mail_smtp.py", "test_a_refusal_is_classified_and_the_next_message_still_goes"),
        (SMTP, "test_one_refused_and_one_deferred_recipient_hold_up_nobody"),
        (SMTP, "test_a_deferred_recipient_gets_the_mail_when_the_slot_is_run_again"),
    ],
    "20 550 5.1.1": [
        (SMTP, "test_one_refused_and_one_deferred_recipient_hold_up_nobody"),
        ("acceptance/test_postfix.py", "test_a_thousand_mails_and_who_cannot_be_reached_is_left_alone_the_next_day"),
    ],
    "21 552 or 554 for all": [
        (PACE, "test_a_relay_that_refuses_everybody_alike_stops_the_mailing_and_suppresses_nobody"),
        (PACE, "test_ten_equal_refusals_in_a_row_stop_and_a_success_or_another_code_begins_anew"),
    ],
    "22 the connection is lost after the text": [
        (TALK, "test_a_fault_is_known_by_how_far_the_message_got"),
        (SMTP, "test_a_message_without_an_answer_is_unknown_and_not_sent_twice"),
    ],
    "23 the connection is lost before the text": [
        (TALK, "test_a_fault_is_known_by_how_far_the_message_got"),
        (TALK, "test_a_connection_lost_while_the_intent_is_committed_is_replaced_and_nothing_is_unknown"),
    ],
    "24 the login is refused": [
        (SMTP, "test_a_refused_login_stops_the_run_before_anything_is_sent"),
    ],
    "25 STARTTLS is not offered, or the certificate has expired": [
        ("unit/test_mail_smtp.py", "test_required_starttls_that_is_not_offered_stops_the_run"),
        ("unit/test_mail_smtp.py", "test_a_password_is_never_sent_in_the_clear_to_another_machine"),
        (TALK, "test_a_certificate_that_has_expired_stops_the_run"),
    ],
    "26 a relay that takes its time": [
        (TALK, "test_a_relay_that_takes_its_time_is_waited_for"),
        (TALK, "test_a_message_given_up_in_the_middle_takes_its_connection_with_it"),
        (DEFERRAL, "test_an_item_that_works_too_long_is_deferred_and_waiting_its_turn_is_not_work"),
    ],
    "39 the clock is set during a run": [
        (SERVICE, "test_a_clock_that_is_set_during_a_run_changes_no_duration_and_no_slot"),
        (SERVICE, "test_a_clock_stepped_back_runs_nothing_twice"),
        (SERVICE, "test_a_clock_stepped_forth_and_back_loses_no_later_day"),
        ("unit/test_budget.py", "test_the_budget_day_is_the_date_on_the_wall"),
    ],
    "40, 41 the hour that is skipped, and the one that comes twice": [
        (TRIGGERS, "test_a_daily_job_runs_exactly_once_on_every_local_day"),
        (TRIGGERS, "test_the_skipped_hour_runs_right_after_the_gap_and_the_repeated_hour_runs_once"),
        (TRIGGERS, "test_from_every_minute_of_a_clock_change_the_next_time_is_later"),
    ],
    "42 a run over midnight, into a leap day or a new year": [
        (SERVICE, "test_a_run_over_midnight_stays_in_the_slot_it_began_in"),
    ],
    "43 the machine was asleep for nights": [
        (SERVICE, "test_a_machine_that_slept_catches_up_with_the_latest_and_names_the_rest"),
        (SERVICE, "test_after_a_long_absence_runs_that_live_have_time_to_say_so"),
    ],
    "44 SIGTERM during a run": [
        (ENDS, "test_a_run_that_has_drained_ends_with_130_and_started_nothing_more"),
        (SERVE, "test_after_sigterm_the_run_is_drained_and_the_next_serve_goes_on_with_it"),
        ("acceptance/test_ticks.py", "test_sigterm_lets_mails_in_flight_finish_and_a_second_run_brings_the_rest"),
        (SERVICE, "test_a_dispatcher_that_is_asked_to_end_takes_nothing_more"),
    ],
    "45 a second signal": [
        (ENDS, "test_a_second_signal_ends_a_run_at_once_and_nothing_is_lost"),
        (ENDS, "test_a_second_signal_ends_serve_with_its_runs_and_the_next_one_goes_on"),
    ],
    "46 SIGKILL at any instant": [
        ("acceptance/test_kill_points.py", "test_the_outbox_has_every_mail_exactly_once_after_a_hundred_kills"),
        (
            "acceptance/test_kill_points.py",
            "test_over_smtp_nobody_is_lost_or_doubled_and_every_ambiguous_mail_is_named",
        ),
        (SERVE, "test_after_kill_9_of_everything_nothing_is_lost"),
        (SERVE, "test_after_kill_9_of_serve_its_run_goes_on_and_a_new_serve_lets_it"),
    ],
    "47, 50 MemoryError, CancelledError or any BaseException in one item": [
        (OUTCOMES, "test_what_an_item_raises_decides_what_becomes_of_it_and_of_it_alone"),
    ],
    "48 a run blocks its event loop": [
        (ENDS, "test_a_run_that_blocks_its_loop_is_ended_by_serve_and_taken_up_again"),
        (SERVICE, "test_a_child_that_let_its_lease_run_out_is_ended_and_one_that_keeps_it_is_not"),
        ("unit/test_health.py", "test_a_run_that_has_fallen_silent_is_a_degradation_for_an_hour"),
        ("unit/test_health.py", "test_a_scheduler_that_does_not_look_is_unhealthy"),
    ],
    "49 an item never ends": [
        (DEFERRAL, "test_an_item_that_works_too_long_is_deferred_and_waiting_its_turn_is_not_work"),
    ],
    "51 schedule.yaml is saved broken": [
        (ENDS, "test_a_schedule_that_is_broken_while_serve_goes_on_is_told_and_the_one_before_stays"),
        (SERVICE, "test_a_broken_schedule_leaves_the_one_before_in_force_until_it_is_mended"),
        (SERVICE, "test_runs_work_by_the_schedule_that_was_kept_while_the_file_is_broken_or_gone"),
        ("unit/test_health.py", "test_a_broken_schedule_is_a_degradation_with_its_reason"),
    ],
    "52 schedule.yaml is half written": [
        (SERVICE, "test_a_changed_schedule_counts_once_nobody_writes_it_any_more"),
    ],
    "53 a job is removed, renamed or switched off while it runs": [
        (SERVICE, "test_a_job_taken_out_while_it_runs_ends_and_nothing_more_of_it_is_started"),
        (SERVICE, "test_a_job_that_is_switched_off_gives_up_what_waits"),
    ],
    "54 several schedulers on one ledger": [
        ("acceptance/test_schedulers.py", "test_two_schedulers_run_each_of_200_occurrences_once"),
        (
            "acceptance/test_schedulers.py",
            "test_five_schedulers_and_a_tick_do_and_one_killed_in_the_middle_changes_nothing",
        ),
        ("acceptance/test_ticks.py", "test_five_ticks_at_once_run_an_occurrence_once"),
    ],
    "55 SIGSTOP of the holder, and SIGCONT": [
        (HUNG, "test_no_mail_is_doubled_over_smtp_when_a_stopped_run_wakes"),
        (HUNG, "test_the_outbox_has_each_mail_once_when_a_stopped_run_wakes"),
    ],
    "56 the previous run still goes on": [
        (ENDS, "test_overlap_skip_leaves_out_what_comes_while_a_run_goes_on"),
        (ENDS, "test_overlap_queue_runs_all_of_them_in_turn"),
        (ENDS, "test_overlap_replace_ends_the_older_run_and_nobody_goes_on_with_it"),
        (ENDS, "test_a_run_that_was_replaced_before_it_could_listen_does_not_begin"),
        (SERVICE, "test_a_run_that_died_after_it_was_replaced_or_cancelled_is_not_gone_on_with"),
    ],
    "60 an audience of nobody": [
        (SERVICE, "test_an_audience_of_nobody_is_a_run_like_any_other"),
        ("acceptance/test_bad_input.py", "test_nobody_to_mail_is_no_error"),
    ],
    "61 a very large audience (a million: bench/run.py)": [
        (PLANNING, "test_workers_begin_before_the_plan_is_complete_and_memory_does_not_hold_it"),
    ],
    "62 duplicates": [
        ("unit/test_subscribers.py", "test_duplicates_in_a_file_are_merged_and_their_topics_united"),
        (PLANNING, "test_two_items_with_one_key_are_one_item"),
    ],
    "63 addresses that are none": [
        ("unit/test_subscribers.py", "test_good_rows_are_imported_and_each_bad_one_is_named"),
        ("unit/test_subscribers.py", "test_a_bad_address_cannot_be_added"),
    ],
    "68 nobody reads the output, or it takes no more": [
        (ENDS, "test_nobody_left_to_read_the_output_is_no_reason_to_stop"),
        ("unit/test_logs.py", "test_a_closed_stream_ends_logging_and_not_the_job"),
        ("unit/test_logs.py", "test_a_full_disk_loses_the_line_and_not_the_job"),
    ],
    "69 the port is taken": [
        (ENDS, "test_a_port_that_is_taken_is_told_and_the_jobs_run"),
        ("unit/test_health.py", "test_a_port_that_is_taken_does_not_keep_jobs_from_running"),
    ],
    "70 the key is refused": [
        ("acceptance/test_model_faults.py", "test_a_wrong_key_stops_the_job_at_once_with_one_alert"),
        (SERVICE, "test_runs_work_by_the_schedule_that_was_kept_while_the_file_is_broken_or_gone"),
    ],
    "71 the channel of the alerts is down": [
        ("unit/test_alerts.py", "test_a_channel_that_fails_raises_no_alert_of_its_own_and_the_others_are_told"),
    ],
}


@cache
def named_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("fault", ROWS)
def test_each_fault_has_its_tests(fault: str) -> None:
    assert [f"{file}::{name}" for file, name in ROWS[fault] if name not in named_in(file)] == []
