"""Cron, every and at: what is due, in UTC, in every zone and at every clock change."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overnight.triggers import At, Cron, Every, Trigger

PARIS = ZoneInfo("Europe/Paris")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # changes by 30 minutes
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)

ZONES = [
    *("Europe/Paris", "Europe/London", "Europe/Lisbon", "Europe/Chisinau", "Atlantic/Azores", "America/New_York"),
    *("America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Santiago", "America/Nuuk", "Africa/Cairo"),
    *("Africa/Casablanca", "Asia/Beirut", "Asia/Jerusalem", "Asia/Gaza", "Australia/Lord_Howe", "Australia/Sydney"),
    *("Pacific/Chatham", "Asia/Kolkata"),
]
TIMES = ["00:00", "00:30", "01:30", "02:00", "02:30", "03:00", "23:30"]

CHANGES = [  # (zone, an instant shortly before the change, hours to try)
    (PARIS, datetime(2026, 10, 24, 23, 30, tzinfo=UTC), 3),
    (PARIS, datetime(2027, 3, 27, 23, 30, tzinfo=UTC), 3),
    (NEW_YORK, datetime(2026, 11, 1, 4, 30, tzinfo=UTC), 3),
    (NEW_YORK, datetime(2027, 3, 14, 5, 30, tzinfo=UTC), 3),
    (LORD_HOWE, datetime(2026, 10, 3, 14, 0, tzinfo=UTC), 3),
    (LORD_HOWE, datetime(2027, 4, 3, 13, 30, tzinfo=UTC), 3),
]
EXPRESSIONS = ["30 2 * * *", "30 1 * * *", "*/30 1-2 * * *", "*/15 2 * * *", "0 * * * *", "*/7 * * * *", "0 0,2 * * *"]


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[misc,arg-type]


def firsts(trigger: Trigger, after: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    while len(found) < count and (due := trigger.next(found[-1] if found else after)):
        found.append(due)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_job_runs_exactly_once_on_every_local_day(zone: str) -> None:
    tz = ZoneInfo(zone)
    first, last = date(2025, 1, 1), date(2029, 12, 31)
    days = {first + timedelta(days=n) for n in range((last - first).days + 1)}
    for clock in TIMES:
        trigger = At(clock, tz)
        due = trigger.between(utc(2024, 12, 30), utc(2030, 1, 2))
        runs = Counter(trigger.local(at).date() for at in due)
        assert {day: runs[day] for day in days if runs[day] != 1} == {}, clock


@pytest.mark.parametrize(("tz", "start", "hours"), CHANGES)
@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_from_every_minute_of_a_clock_change_the_next_time_is_later(
    tz: ZoneInfo, start: datetime, hours: int, expr: str
) -> None:
    trigger = Cron(expr, tz)
    for minute in range(hours * 60 + 1):
        after = start + timedelta(minutes=minute)
        due = firsts(trigger, after, 3)
        assert len(due) == 3
        assert after < due[0] < due[1] < due[2]


@pytest.mark.parametrize(("tz", "start", "hours"), CHANGES)
@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_where_the_search_starts_does_not_change_what_is_due(
    tz: ZoneInfo, start: datetime, hours: int, expr: str
) -> None:
    trigger = Cron(expr, tz)
    until = start + timedelta(hours=hours + 30)
    whole = list(trigger.between(start - timedelta(hours=30), until))
    for minute in range(0, hours * 60, 7):
        after = start + timedelta(minutes=minute)
        assert list(trigger.between(after, until)) == [at for at in whole if at > after]


@pytest.mark.parametrize(("tz", "start", "hours"), CHANGES)
def test_a_wildcard_schedule_follows_elapsed_time_and_misses_no_minute_that_matches(
    tz: ZoneInfo, start: datetime, hours: int
) -> None:
    due = list(Cron("*/15 0-3 * * *", tz).between(start, start + timedelta(hours=hours)))
    minutes = [start + timedelta(minutes=n) for n in range(1, hours * 60 + 1)]
    walls = [(at, at.astimezone(tz)) for at in minutes]
    assert due == [at for at, wall in walls if wall.hour <= 3 and wall.minute % 15 == 0]


def test_the_skipped_hour_runs_right_after_the_gap_and_the_repeated_hour_runs_once() -> None:
    trigger = Cron("30 2 * * *", PARIS)
    assert trigger.next(utc(2027, 3, 27, 12)) == utc(2027, 3, 28, 1)
    assert trigger.note(utc(2027, 3, 28, 1)) == "02:30 does not exist that day, runs at 03:00"
    autumn = list(trigger.between(utc(2026, 10, 24, 12), utc(2026, 10, 25, 12)))
    assert autumn == [utc(2026, 10, 25, 0, 30)]
    assert trigger.note(autumn[0]) == "clocks go back that night: 02:30 comes twice, runs once"
    assert trigger.note(utc(2026, 10, 26, 1, 30)) == ""


def test_a_gap_over_midnight_does_not_move_the_run_to_the_next_day() -> None:
    trigger = At("23:30", ZoneInfo("America/Nuuk"))
    [due] = trigger.between(utc(2027, 3, 27, 12), utc(2027, 3, 28, 12))
    assert trigger.slot(due) == "2027-03-27"
    assert trigger.note(due) == "23:30 does not exist that day, runs at 22:59"
    assert trigger.scheduled_for("2027-03-27") == due


def test_a_local_day_that_was_left_out_has_no_run() -> None:
    trigger = At("07:00", ZoneInfo("Pacific/Apia"))
    due = trigger.between(utc(2011, 12, 28), utc(2012, 1, 1))
    assert [trigger.slot(at) for at in due] == ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"]
    with pytest.raises(ValueError, match="outside the calendar of Pacific/Apia"):
        trigger.scheduled_for("2011-12-30")


def test_an_hourly_job_says_that_it_runs_in_both_copies_of_the_hour() -> None:
    note = Cron("*/30 * * * *", PARIS).note(utc(2026, 10, 25, 0, 30))
    assert note == "clocks go back that night: 02:30 comes twice, runs each time"


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun"])
def test_sunday_is_0_and_7(sunday: str) -> None:
    assert Cron(f"0 7 * * {sunday}", ZoneInfo("UTC")).next(MIDNIGHT) == utc(2026, 11, 22, 7)


def test_monday_to_friday_starts_on_a_monday() -> None:
    due = firsts(Cron("0 7 * * 1-5", PARIS), MIDNIGHT, 6)
    assert [at.weekday() for at in due] == [0, 1, 2, 3, 4, 0]


def test_day_of_month_and_day_of_week_are_alternatives() -> None:
    due = firsts(Cron("0 7 1 * 1", ZoneInfo("UTC")), utc(2026, 11, 20), 4)
    assert [at.day for at in due] == [23, 30, 1, 7]


@pytest.mark.parametrize(
    ("nickname", "due"),
    [
        ("@yearly", utc(2027, 1, 1)),
        ("@monthly", utc(2026, 12, 1)),
        ("@weekly", utc(2026, 11, 29)),
        ("@daily", utc(2026, 11, 23)),
        ("@hourly", utc(2026, 11, 22, 1)),
    ],
)
def test_nicknames_are_understood(nickname: str, due: datetime) -> None:
    assert Cron(nickname, ZoneInfo("UTC")).next(MIDNIGHT) == due


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("0 0 31 2 *", "never fires: no month has such a day"),
        ("0 0 30 2 */2", "never fires"),
        ("0 0 */30 2 1#5", "never fires"),
        ("61 * * * *", "never fires: '61' is no minute 0-59"),
        ("0 24 * * *", "'24' is no hour 0-23"),
        ("0 7 * * 8", "'8' is no day of week 0-7"),
        ("0 7 * * MOO", "'MOO' is no day of week"),
        ("0 7 * *", "needs 5 fields"),
        ("0 0 7 * * *", "needs 5 fields"),
        ("", "needs 5 fields"),
        ("@reboot", "needs 5 fields"),
        ("0 7 * * " + "1," * 200, "is not a cron expression"),
    ],
)
def test_an_expression_that_never_fires_is_refused(expr: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        Cron(expr, PARIS)
    assert said in str(refusal.value)


@given(st.text(max_size=30) | st.lists(st.text("0123456789*/-,L#W", max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_text_is_a_trigger_or_a_value_error(text: str) -> None:
    try:
        trigger = Cron(text, PARIS)
    except ValueError:
        return
    due = trigger.next(MIDNIGHT)
    assert due is None or due > MIDNIGHT


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  made aware by timezones
    st.sampled_from(ZONES),
    st.sampled_from(TIMES),
)
def test_slot_and_scheduled_for_are_inverse(instant: datetime, zone: str, clock: str) -> None:
    trigger = At(clock, ZoneInfo(zone))
    due = trigger.next(instant)
    assert due is not None
    assert due > instant
    assert trigger.scheduled_for(trigger.slot(due)) == due


def test_a_date_on_which_the_job_does_not_fire_is_that_day_at_its_time() -> None:
    assert Cron("0 7 * * 1", PARIS).scheduled_for("2026-11-22") == utc(2026, 11, 22, 6)
    assert At("02:30", PARIS).scheduled_for("2027-03-28") == utc(2027, 3, 28, 1)


@pytest.mark.parametrize("slot", ["", "2026-13-01", "2026-02-30", "22.11.2026", "2026-11-22T07:30Z", "9999-12-31x"])
def test_a_malformed_date_is_refused(slot: str) -> None:
    with pytest.raises(ValueError, match="is not a date such as"):
        At("07:00", PARIS).scheduled_for(slot)


@pytest.mark.parametrize("slot", ["", "2026-11-22", "2026-11-22T25:00Z", "2026-11-22T07:30", "2026-11-22T07:30+01:00"])
def test_a_malformed_instant_is_refused(slot: str) -> None:
    with pytest.raises(ValueError, match="is not a UTC instant such as"):
        Every(3600).scheduled_for(slot)


def test_the_ends_of_the_calendar_are_no_crash() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    assert Cron("0 7 * * *", PARIS).next(end) is None
    assert Cron("* * * * *", PARIS).next(end) is None
    assert Every(60).next(end) is None
    with pytest.raises(ValueError, match="calendar"):
        At("07:00", PARIS).scheduled_for("0001-01-01")


@pytest.mark.parametrize(
    ("trigger", "daily"),
    [
        (Cron("0 7 * * *", PARIS), True),
        (Cron("30 2 1 * 1", PARIS), True),
        (At("08:00", PARIS), True),
        (Cron("0 7,19 * * *", PARIS), False),
        (Cron("*/30 7 * * *", PARIS), False),
        (Cron("0 * * * *", PARIS), False),
        (Every(86_400), True),
        (Every(21_600), False),
    ],
)
def test_at_most_daily_decides_the_form_of_the_slot(trigger: Trigger, daily: bool) -> None:
    assert trigger.at_most_daily is daily
    assert trigger.slot(utc(2026, 11, 22, 7, 30)) == ("2026-11-22" if daily else "2026-11-22T07:30Z")


def test_every_is_aligned_to_the_epoch() -> None:
    six_hours = Every(21_600)
    assert firsts(six_hours, utc(2026, 11, 22, 6), 2) == [utc(2026, 11, 22, 12), utc(2026, 11, 22, 18)]
    assert six_hours.describe() == "every 6h"
    assert Every(10).slot(utc(2026, 11, 22, 7, 30, 10)) == "2026-11-22T07:30:10Z"
    assert Every(10).scheduled_for("2026-11-22T07:30:10Z") == utc(2026, 11, 22, 7, 30, 10)


def test_every_36_hours_finds_the_instant_of_its_date() -> None:
    trigger = Every(129_600)
    for due in firsts(trigger, MIDNIGHT, 4):
        assert trigger.scheduled_for(trigger.slot(due)) == due


@pytest.mark.parametrize("clock", ["8", "24:00", "08:60", "8am", "", "08:00:00", "\u0660\u0668:\u0660\u0660"])
def test_a_bad_time_of_day_is_refused(clock: str) -> None:
    with pytest.raises(ValueError, match="is not a time of day"):
        At(clock, PARIS)


def test_a_schedule_describes_itself() -> None:
    assert Cron("0 7 * * 1-5", PARIS).describe() == "At 07:00 on Monday through Friday"
    assert At("08:00", PARIS).describe() == "At 08:00 every day"
    assert At("08:00", PARIS).local(MIDNIGHT).isoformat() == "2026-11-22T01:00:00+01:00"
    assert Every(5400).describe() == "every 1h30m"


def test_the_two_copies_of_a_repeated_hour_are_two_times() -> None:
    quarters = Cron("*/15 * * * *", PARIS)
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=fold) for fold in (0, 1))
    assert [quarters.next(first), quarters.next(second)] == [utc(2026, 10, 25, 0, 45), utc(2026, 10, 25, 1, 45)]
