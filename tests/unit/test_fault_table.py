"""Every fault that is planned for, and who shows what comes of each: a reader finds the test by the fault.

The numbers are those of the fault table in the notes on resilience. Two need root, for a small file system of their own
(a test beside each does not); time is virtual where the fault is one of the clock, and real processes are killed,
stopped and blocked where it is one of the process.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SERVICE, TRIGGERS = "unit/test_service.py", "unit/test_triggers.py"
DEFERRAL, OUTCOMES, PLANNING = (f"unit/batch/test_{word}.py" for word in ("deferral", "outcomes", "planning"))
TALK, PACE, SMTP = "unit/test_mail_conversation.py", "unit/test_mail_pace.py", "acceptance/test_smtp.py"
API, BUCKET = "unit/test_api_faults.py", "conformance/test_storage.py"
FILE, DISK, CARE = "unit/test_ledger_faults.py", "acceptance/test_full_disk.py", "acceptance/test_care.py"
ENDS, SERVE, HUNG = "acceptance/test_ends.py", "acceptance/test_serve.py", "acceptance/test_hung.py"

ROWS: dict[str, list[tuple[str, str]]] = {
    "1, 2 429 with Retry-After, in any form or none": [
        (API, "test_what_the_api_asks_to_wait_is_never_undercut_and_never_over_a_quarter_of_an_hour"),
        ("unit/test_retry.py", "test_retry_after_is_read_in_all_its_forms"),
        ("unit/test_retry.py", "test_whatever_the_other_side_says_is_a_wait_of_at_most_a_quarter_of_an_hour"),
    ],
    "3, 5 500 to 503, and 400 to 404": [
        (API, "test_a_refusal_costs_nothing_and_is_sent_as_often_as_it_may_help"),
        ("unit/test_retry.py", "test_backoff_is_full_jitter_below_the_maximum"),
        ("unit/test_retry.py", "test_a_used_up_quota_defers_the_item_and_names_the_error"),
    ],
    "4 529 for half an hour": [
        (API, "test_half_an_hour_of_overload_defers_every_item_and_costs_a_handful_of_requests"),
    ],
    "6 a question that is too long": [
        ("unit/test_split.py", "test_what_the_api_refuses_for_its_size_is_asked_in_halves"),
        (
            "acceptance/test_model_faults.py",
            "test_a_question_that_is_too_long_is_asked_in_parts_and_no_part_is_paid_twice",
        ),
    ],
    "7, 13 nobody takes the connection, or the name is not known": [
        (API, "test_an_address_that_swallows_connections_was_sent_nothing"),
        (API, "test_a_server_that_cannot_be_reached_was_sent_nothing_and_the_reason_is_said"),
    ],
    "8, 9, 11, 12 the answer hangs, breaks off, or trickles": [
        (API, "test_a_request_whose_end_nobody_knows_is_charged_at_its_worst"),
    ],
    "10, 16 a 200 that is no message, or lacks its usage": [
        (API, "test_a_200_that_is_no_message_is_lost_and_charged_in_full"),
        (API, "test_a_message_that_is_no_answer_is_paid_and_invalid"),
    ],
    "14 a certificate that does not hold, a handshake that is cut": [
        (API, "test_a_certificate_that_is_not_valid_stops_the_run"),
        (API, "test_a_line_cut_in_the_handshake_was_sent_nothing"),
    ],
    "15 a proxy that refuses, or leads elsewhere": [
        (API, "test_what_a_proxy_refuses_never_reached_the_model"),
        (API, "test_nobody_is_followed_elsewhere"),
    ],
    "17 a model without a price": [
        ("unit/test_catalogue.py", "test_a_model_without_a_price_is_refused_at_its_place"),
        ("unit/test_catalogue.py", "test_the_commands_refuse_a_model_without_a_price"),
    ],
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
    "27 the bucket refuses us": [
        (BUCKET, "test_a_wrong_secret_needs_a_person_and_is_not_told"),
        (
            "acceptance/test_other_sides.py",
            "test_a_bucket_that_refuses_us_keeps_its_circuit_and_the_operators_are_told_once",
        ),
    ],
    "28 the bucket asks for less": [
        (BUCKET, "test_a_server_that_asks_for_less_is_waited_for_and_then_left_alone"),
    ],
    "29 the bucket is not there": [
        (BUCKET, "test_a_bucket_that_is_not_there_needs_a_person"),
    ],
    "30 the answer to an upload is lost": [
        (BUCKET, "test_an_answer_lost_after_the_upload_costs_the_same_bytes_once_more"),
    ],
    "31 the bucket is down for three nights": [
        (
            "acceptance/test_other_sides.py",
            "test_three_nights_without_the_bucket_arrive_in_order_and_none_is_overwritten",
        ),
    ],
    "32 the disk of the ledger is full": [
        (DISK, "test_a_full_disk_stops_the_run_with_one_attempt_to_tell"),
        (DISK, "test_a_file_that_may_not_grow_stops_the_run_and_loses_nothing"),
        (FILE, "test_a_full_disk_refuses_everything_until_somebody_tries_again"),
        ("simulation/test_sweep.py", "test_with_a_relay_everybody_gets_the_mail_once_or_is_named"),
    ],
    "33 the disk of the log or of the reports is full": [
        (DISK, "test_a_log_that_cannot_grow_loses_lines_and_not_the_job"),
        (DISK, "test_reports_that_do_not_fit_wait_in_the_spool_and_are_never_half_a_file"),
        (SERVICE, "test_a_report_for_which_the_disk_has_no_room_stays_owed"),
    ],
    "34 fsync fails": [
        (DISK, "test_an_error_of_fsync_ends_the_process_and_is_not_tried_again"),
        (FILE, "test_an_error_of_the_disk_is_never_forgiven"),
    ],
    "35 another program locks the ledger": [
        (FILE, "test_a_lock_held_by_another_program_is_told_and_is_over_when_it_lets_go"),
        ("unit/test_writer.py", "test_a_locked_file_fails_everybody_after_one_wait"),
        (SERVE, "test_health_is_503_within_its_limit_while_another_process_locks_the_ledger"),
    ],
    "36 the ledger is damaged, cut short, or deleted": [
        (FILE, "test_a_file_damaged_in_its_middle_or_cut_short_is_found_by_the_check"),
        (FILE, "test_a_file_that_goes_away_while_it_is_open_is_saved_and_written_no_more"),
        (CARE, "test_a_damaged_ledger_sends_nothing_and_says_how_to_go_on"),
        (CARE, "test_a_deleted_ledger_is_not_begun_anew_by_itself"),
    ],
    "37 the log of the ledger is lost": [
        (FILE, "test_a_lost_write_ahead_log_is_refused_and_can_be_accepted"),
    ],
    "38 the ledger is of a newer version": [
        ("unit/test_ledger.py", "test_a_ledger_of_a_newer_version_is_refused"),
        ("unit/test_backup.py", "test_a_backup_of_a_newer_version_is_refused"),
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
    "57, 59 the budget is spent, and the process begins anew": [
        ("acceptance/test_model_faults.py", "test_a_spent_budget_is_told_once_and_outlives_the_process"),
        ("unit/test_budget.py", "test_many_callers_of_several_processes_never_pass_the_cap"),
    ],
    "58 the budget is nearly spent": [
        ("unit/test_budget_command.py", "test_two_processes_warn_once_a_day_together_and_a_later_one_not_again"),
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
    "64 somebody leaves during the run": [
        ("unit/test_mail.py", "test_who_left_since_the_run_began_gets_nothing"),
        ("unit/test_mail.py", "test_who_leaves_while_the_mail_is_on_its_way_to_the_relay_gets_nothing"),
    ],
    "65 a template is broken": [
        ("unit/test_mail.py", "test_a_broken_template_stops_the_run_before_anything_is_noted"),
    ],
    "66 the network is gone for a while": [
        (
            "acceptance/test_model_faults.py",
            "test_a_line_that_is_dead_for_a_while_loses_nothing_and_the_slot_is_finished_later",
        ),
    ],
    "67 figures that cannot be had": [
        ("unit/test_metrics.py", "test_a_figure_that_cannot_be_had_leaves_the_others"),
        ("unit/test_metrics_digest.py", "test_figures_that_cannot_be_had_are_na_and_the_mail_is_made"),
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
        (API, "test_a_key_that_is_exchanged_in_the_night_is_told_once_and_the_next_run_has_the_new_one"),
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


def test_no_fault_is_left_out() -> None:
    numbers = [re.match(r"(?:\d+, )*\d+", fault) for fault in ROWS]
    listed = [int(number) for found in numbers if found for number in found[0].split(", ")]
    assert sorted(listed) == list(range(1, 72))
