"""Schedules, held against cronsim, which follows Debian's cron, and against a clock that is looked at every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from serverflow_actions.kit import schedule
from serverflow_actions.kit.schedule import Schedule, parse

#: Half an hour (Lord_Howe), a quarter of an hour off (Chatham), a day left out (Apia), changes at midnight (Havana,
#: Beirut, Asuncion), one minute after it and so back into the day before (St_Johns until 2011), twice in Ramadan
#: (Casablanca), two hours (Troll), three (Casey).
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham",
    "America/Havana", "Asia/Beirut", "America/Asuncion", "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll",
    "Antarctica/Casey", "Asia/Kathmandu", "Asia/Pyongyang", "America/Caracas",
)  # fmt: skip
#: Where clocks change by whole hours and away from midnight. Elsewhere cronsim steps over some of the times of jobs
#: that go by the clock, or has some that were left out.
PLAIN = ("UTC", "Europe/Berlin", "America/New_York", "Antarctica/Troll", "Asia/Kathmandu")


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def shown(run: int, zone: str) -> str:
    return datetime.fromtimestamp(run, ZoneInfo(zone)).strftime("%m-%d %H:%M %z")


def on(text: str, zone: str, start: str, end: str) -> list[str]:
    runs = parse(text).between(at(start, zone) - 1, at(end, zone), zone, 10_000)
    return [shown(run, zone) for run in runs]


# What is a schedule


@pytest.mark.parametrize(
    ("raw", "text", "fields"),
    [
        ("15 3 * * *", "15 3 * * *", "15 3 * * *"),
        ("  05  03 * *   MON-Fri ", "5 3 * * mon-fri", "5 3 * * 1-5"),
        ("*/5 0-23/2 1,15 jan,Jul 0,7", "*/5 0-23/2 1,15 jan,jul 0,7", "*/5 0-23/2 1,15 1,7 0,7"),
        ("0 0 * * 5-7/1", "0 0 * * 5-7/1", "0 0 * * 5-7/1"),
        ("@hourly", "@hourly", "0 * * * *"),
        ("@Daily", "@daily", "0 0 * * *"),
        ("@midnight", "@daily", "0 0 * * *"),
        ("@weekly", "@weekly", "0 0 * * 0"),
        ("@monthly", "@monthly", "0 0 1 * *"),
        ("@annually", "@yearly", "0 0 1 1 *"),
        ("@yearly", "@yearly", "0 0 1 1 *"),
    ],
)
def test_one_spelling(raw: str, text: str, fields: str) -> None:
    found = parse(raw)
    assert (found.text, " ".join(found.fields)) == (text, fields)
    assert parse(found.text) == found


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", "has 0 fields"),
        ("daily", "has 1 field;"),
        ("* * * *", "has 4 fields"),
        ("0 15 3 * * *", "knows no seconds"),
        ("@reboot", "@reboot is no time"),
        ("@often", "'@often' is not one of @hourly"),
        ("60 * * * *", "minute: 60 is not 0 to 59"),
        ("* 24 * * *", "hour: 24 is not 0 to 23"),
        ("* * 0 * *", "day of month: 0 is not 1 to 31"),
        ("* * 32 * *", "day of month: 32"),
        ("* * * 13 *", "month: 13"),
        ("* * * * 8", "day of week: 8 is not 0 to 7"),
        ("* * * foo *", "month: 'foo' is not a number from 1 to 12, or jan to dec"),
        ("* * * mon *", "month: 'mon'"),
        ("mon * * * *", "minute: 'mon' is not a number from 0 to 59, a range"),
        ("5-1 * * * *", "minute: '5-1' ends before it begins"),
        ("* * * * fri-sun", "day of week: 'fri-sun' ends before it begins; Sunday at its end is 7: 5-7"),
        ("5/10 * * * *", "minute: crons disagree on '5/10': write 5-59/10"),
        ("*/0 * * * *", "minute: '*/0' has a step"),
        ("*/90 * * * *", "minute: '*/90' has a step that is not 1 to 59"),
        ("1,,2 * * * *", "minute: ''"),
        ("1- * * * *", "minute: '1-'"),
        ("-1 * * * *", "minute: '-1'"),
        ("*/ * * * *", "minute: '*/'"),
        ("** * * * *", "minute: '**'"),
        ("0 0 L * *", "day of month: 'l' is of another scheduler"),
        ("0 0 15W * *", "day of month: '15w' is of another scheduler"),
        ("0 0 ? * *", "day of month: '?' is of another scheduler"),
        ("0 0 * * 5L", "day of week: '5l' is of another scheduler"),
        ("0 0 * * mon#1", "day of week: 'mon#1' is of another scheduler"),
        ("H * * * *", "minute: 'h' is not a number"),
        ("0 0 31 2 *", "day of month: 31 never comes in month 2"),
        ("0 0 30-31 feb */2", "day of month: 30 never comes in month 2"),
        ("0 0 31 4,6,9 *", "day of month: 31 never comes in month 4,6,9"),
        ("0\t0 * * *", "must be five fields"),
        ("0 0 * * *\n", "must be five fields"),
        ("0 0 * * \u0663", "must be five fields"),
        ("0 0 * * 1,", "day of week: ''"),
        (300 * "0", "must be five fields"),
        (None, "must be five fields"),
        (5, "must be five fields"),
    ],
)
def test_refused_with_the_field_and_the_reason(raw: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(raw)
    assert said in str(caught.value)


def test_a_day_that_does_not_come_may_stand_beside_a_day_of_the_week() -> None:
    assert parse("0 0 31 2 mon").either


@given(st.text(alphabet="0123456789*/-,@ LW#?abcdefghijklmnopqrstuvwxyz", max_size=30) | st.text())
def test_anything_is_read_or_refused(raw: str) -> None:
    try:
        found = parse(raw)
    except ValueError:
        return
    assert parse(found.text) == found
    assert parse(" ".join(found.fields))[2:] == found[2:]


# Against others


def terms(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    # A range of one with a step is another thing to cronsim.
    ordered = st.tuples(value, value).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, high).map(lambda number: f"/{number}")
    kinds = [value.map(str), ordered, st.builds("{}{}".format, st.just("*") | ordered, step)]
    return st.one_of(*kinds, st.sampled_from(names)) if names else st.one_of(*kinds)


def column(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    return st.just("*") | st.lists(terms(low, high, names), min_size=1, max_size=3).map(",".join)


schedules = st.tuples(
    column(0, 59), column(0, 23), column(1, 31), column(1, 12, ("jan", "Feb", "dec")), column(0, 7, ("sun", "Fri"))
).map(" ".join)
#: Those that run at night, when clocks change.
nightly = st.tuples(
    column(0, 59), column(0, 3) | st.sampled_from(["23", "23,0", "*"]), st.just("*"), st.just("*"), st.just("*")
).map(" ".join)
zones = st.sampled_from(ZONES)
moments = st.integers(at("1995-01-01"), at("2045-01-01"))


def changes(zone: str) -> list[int]:
    """The moments at which its offset changes, from 2000 to 2030."""
    clock = ZoneInfo(zone)
    found = []
    for hour in range(at("2000-01-01"), at("2030-01-01"), 21_600):
        low, high = hour, hour + 21_600
        before, after = (datetime.fromtimestamp(each, clock).utcoffset() for each in (low, high))
        while before != after and high - low > 60:
            middle = (low + high) // 120 * 60
            low, high = (middle, high) if datetime.fromtimestamp(middle, clock).utcoffset() == before else (low, middle)
        found += [high] if before != after else []
    return found


CHANGES = [(zone, change) for zone in ZONES for change in changes(zone)]


def by_cronsim(text: str, after: int, zone: str) -> Iterator[int]:
    """Its runs, each once: where it has several that are left out run at one moment."""
    clock = UTC if zone == "UTC" else ZoneInfo(zone)
    last = after
    for moment in CronSim(text, datetime.fromtimestamp(after, clock)):
        run = int(moment.timestamp())
        if run > last:
            yield run
        last = max(run, last)


def by_looking(wanted: Schedule, start: int, end: int, zone: str) -> list[int]:
    """Every minute from `start` to `end` at which the job runs: the definition in the words of cron(8), not quick."""
    clock = ZoneInfo(zone)
    found = []
    seen = datetime.fromtimestamp(start - 2 * 86400, clock).replace(tzinfo=None)
    for minute in range(start - 2 * 86400, end + 1, 60):
        wall = datetime.fromtimestamp(minute, clock).replace(tzinfo=None, fold=0)
        if wanted.by_clock:
            due = is_due(wanted, wall)
        else:
            due = any(
                is_due(wanted, seen + timedelta(minutes=n)) for n in range(1, (wall - seen) // timedelta(minutes=1) + 1)
            )
            seen = max(seen, wall)
        if due and minute >= start:
            found.append(minute)
    return found


def is_due(wanted: Schedule, wall: datetime) -> bool:
    in_month, in_week = wall.day in wanted.days, wall.isoweekday() % 7 in wanted.weekdays
    day = (in_month or in_week) if wanted.either else (in_month and in_week)
    return day and wall.month in wanted.months and wall.hour in wanted.hours and wall.minute in wanted.minutes


def parsed(text: str) -> Schedule:
    try:
        return parse(text)
    except ValueError as error:
        assume("never comes" not in str(error))
        raise


@settings(deadline=None)
@given(schedules, zones, moments)
def test_as_cronsim_has_it(text: str, zone: str, after: int) -> None:
    wanted = parsed(text)
    assume(not wanted.by_clock or zone in PLAIN)
    ours = islice(wanted.following(after, zone), 10)
    assert list(ours) == list(islice(by_cronsim(text, after, zone), 10))


@settings(deadline=None)
@given(nightly, st.sampled_from(CHANGES), st.integers(-86_400, 86_400))
def test_as_cronsim_has_it_around_a_change_of_clocks(text: str, change: tuple[str, int], off: int) -> None:
    zone, moment = change
    wanted = parsed(text)
    assume(not wanted.by_clock or zone in PLAIN)
    ours = islice(wanted.following(moment + off, zone), 30)
    assert list(ours) == list(islice(by_cronsim(text, moment + off, zone), 30))


@settings(deadline=None)
@given(nightly | schedules, st.sampled_from(CHANGES))
@example("0 3 * * *", ("Pacific/Apia", at("2011-12-30 10:00")))
@example("30 23 * * *", ("America/St_Johns", at("2009-11-01 02:31")))
@example("*/10 * * * *", ("America/St_Johns", at("2009-11-01 02:31")))
def test_as_somebody_sees_it_who_looks_at_the_clock(text: str, change: tuple[str, int]) -> None:
    zone, moment = change
    wanted, start, end = parsed(text), moment - 86_400, moment + 86_400
    runs = by_looking(wanted, start, end, zone)
    assert wanted.between(start - 1, end, zone, 10_000) == runs
    for each in {start, moment - 60, moment, moment + 60, moment + 3600, moment + 7199, end}:
        before = [run for run in runs if run <= each]
        if before:
            assert wanted.previous(each, zone) == before[-1]


@settings(deadline=None)
@given(schedules | nightly, zones, moments)
def test_the_run_before_is_the_one_after_which_the_next_follows(text: str, zone: str, moment: int) -> None:
    wanted = parsed(text)
    before, following = wanted.previous(moment, zone), next(wanted.following(moment, zone))
    assert following > moment
    if before is not None:
        assert before <= moment
        assert next(wanted.following(before, zone)) == following
        assert wanted.previous(before, zone) == before
        assert wanted.previous(following - 1, zone) == before


# Known days


def test_jobs_of_fixed_times_when_clocks_change() -> None:
    assert on("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-30 12:00") == [
        "03-29 03:00 +0200", "03-30 02:30 +0200",
    ]  # fmt: skip
    assert on("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-26 12:00") == [
        "10-25 02:30 +0200", "10-26 02:30 +0100",
    ]  # fmt: skip
    # All that is left out is one run, also with what is due at that moment anyway.
    assert on("0,20,40 2-3 * * *", "Europe/Berlin", "2026-03-29 00:00", "2026-03-29 12:00") == [
        "03-29 03:00 +0200", "03-29 03:20 +0200", "03-29 03:40 +0200",
    ]  # fmt: skip


def test_jobs_that_go_by_the_clock_when_it_changes() -> None:
    assert on("0 * * * *", "Europe/Berlin", "2026-03-29 01:00", "2026-03-29 04:00") == [
        "03-29 01:00 +0100", "03-29 03:00 +0200", "03-29 04:00 +0200",
    ]  # fmt: skip
    assert on("*/30 2 * * *", "Europe/Berlin", "2026-03-29 00:00", "2026-03-29 12:00") == []
    assert on("*/30 2 * * *", "Europe/Berlin", "2026-10-25 00:00", "2026-10-25 12:00") == [
        "10-25 02:00 +0200", "10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100",
    ]  # fmt: skip


def test_half_an_hour_of_lord_howe() -> None:
    zone = "Australia/Lord_Howe"
    assert on("15 2 * * *", zone, "2026-10-03 12:00", "2026-10-05 12:00") == ["10-04 02:30 +1100", "10-05 02:15 +1100"]
    assert on("45 * * * *", zone, "2026-04-05 00:00", "2026-04-05 03:00") == [
        "04-05 00:45 +1100", "04-05 01:45 +1100", "04-05 01:45 +1030", "04-05 02:45 +1030",
    ]  # fmt: skip


def test_the_day_that_apia_left_out() -> None:
    assert on("0 9 * * *", "Pacific/Apia", "2011-12-29 00:00", "2011-12-31 12:00") == [
        "12-29 09:00 -1000", "12-31 00:00 +1400", "12-31 09:00 +1400",
    ]  # fmt: skip
    assert on("0 */12 * * *", "Pacific/Apia", "2011-12-29 00:00", "2011-12-31 12:00") == [
        "12-29 00:00 -1000", "12-29 12:00 -1000", "12-31 00:00 +1400", "12-31 12:00 +1400",
    ]  # fmt: skip


def test_clocks_that_go_back_over_midnight() -> None:
    # At 00:01 of the first of November it was 23:01 of the day before again.
    assert on("0 0,23 * * *", "America/St_Johns", "2009-10-31 22:00", "2009-11-01 12:00") == [
        "10-31 23:00 -0230", "11-01 00:00 -0230",
    ]  # fmt: skip
    assert on("30 * * * *", "America/St_Johns", "2009-10-31 22:45", "2009-11-01 01:00") == [
        "10-31 23:30 -0230", "10-31 23:30 -0330", "11-01 00:30 -0330",
    ]  # fmt: skip


def test_either_day_when_both_are_restricted() -> None:
    assert on("0 0 13 * fri", "UTC", "2026-02-01", "2026-03-14") == [
        f"{day} 00:00 +0000" for day in ("02-06", "02-13", "02-20", "02-27", "03-06", "03-13")
    ]
    # A field that begins with a star restricts, and yet does not count as a restriction.
    assert on("0 0 */2 * mon", "UTC", "2026-02-01", "2026-02-28") == ["02-09 00:00 +0000", "02-23 00:00 +0000"]


def test_years_may_lie_between_two_runs() -> None:
    leap = parse("0 0 29 2 */7")
    assert [datetime.fromtimestamp(run, UTC).year for run in leap.following(at("2026-01-01"), "UTC")] == [2032, 2060]
    assert leap.previous(at("2026-01-01"), "UTC") == at("2004-02-29")
    assert next(leap.following(at("2088-03-01"), "UTC")) == at("2128-02-29")


def test_runs_end_with_the_calendar() -> None:
    assert list(parse("@yearly").following(at("9990-06-01"), "UTC"))[-1] == at("9998-01-01")
    assert parse("@yearly").previous(at("0001-06-01"), "UTC") is None


def test_what_is_asked_for_lies_between_the_ends() -> None:
    start, end = at("2026-01-01 10:00"), at("2026-01-01 12:00")
    assert parse("@hourly").between(start, end, "UTC", 9) == [at("2026-01-01 11:00"), end]
    assert parse("@hourly").between(start, end, "UTC", 1) == [at("2026-01-01 11:00")]
    assert parse("@hourly").previous(end, "UTC") == end


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "../etc/passwd", "", "/etc/passwd", "a\0b"])
def test_zones_that_are_not_there(zone: str) -> None:
    calls: list[Any] = [lambda: parse("@daily").following(0, zone), lambda: parse("@daily").previous(0, zone)]
    for call in calls:
        with pytest.raises(ValueError, match="no time zone"):
            call()


def test_known_nicknames_are_those_of_crontab() -> None:
    for name, fields in schedule.NICKNAMES.items():
        assert " ".join(parse(name).fields) == fields
