"""The crontab: what cron reads, and that it fires whenever a job is due."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverflow_actions.kit.cronjob import Job
from serverflow_actions.kit.crontab import render, trigger
from serverflow_actions.kit.schedule import parse

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham",
    "America/Havana", "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll", "Asia/Kathmandu",
)  # fmt: skip
SCHEDULES = (
    "15 3 * * *", "*/20 * * * *", "30 2 * * *", "5,50 0,2,3 * * *", "@hourly", "7 */2 * * 1-5", "59 1-3 * * sun",
    "0 0 1 * mon",
)  # fmt: skip

REPORT = Job("report", "15 3 * * mon-fri", app="shop", command=("bin/report", "--all"))


def test_the_file() -> None:
    jobs = [
        Job("restart", "@daily", "Europe/Berlin", action="service.restart", params=("unit=nginx",)),
        REPORT,
        REPORT._replace(name="off", enabled=False),
    ]
    assert render(jobs, "UTC") == (
        "# Written by ServerFlow (cron.add, cron.command): changes by hand are undone."
        " `sf cron list` shows these jobs.\n"
        "SHELL=/bin/sh\n"
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        'MAILTO=""\n'
        "\n# disabled: off: 15 3 * * mon-fri UTC, shop: bin/report --all\n"
        "\n# report: 15 3 * * mon-fri UTC, shop: bin/report --all\n"
        "15 3 * * 1-5 root /usr/local/libexec/serverflow/runner fire report\n"
        "\n# restart: @daily Europe/Berlin, service.restart unit=nginx\n"
        "0 * * * * root /usr/local/libexec/serverflow/runner fire restart\n"
    )


def test_no_jobs_are_a_file_without_lines_of_jobs() -> None:
    assert "runner" not in render([], "UTC")


@given(st.text(), st.text())
def test_a_comment_is_one_line_of_ascii_whatever_it_tells(word: str, param: str) -> None:
    for job in (REPORT._replace(command=("x", word)), Job("report", "* * * * *", action="a.b", params=(param,))):
        lines = render([job], "UTC").split("\n")
        assert len(lines) == 8 and lines[5].startswith("# report: ")
        assert all(line.isascii() and (line.isprintable() or not line) and len(line) < 300 for line in lines)
        assert lines[6].endswith(" fire report") and "%" not in lines[6]


@pytest.mark.parametrize(
    ("schedule", "zone", "server_zone", "fields"),
    [
        ("15 3 * * mon", "Europe/Berlin", "Europe/Berlin", "15 3 * * 1"),
        ("@hourly", "UTC", "UTC", "0 * * * *"),
        ("*/5 3 * * *", "Etc/UTC", "UTC", "*/5 3 * * *"),
        ("15 3 * * *", "Europe/Paris", "Europe/Berlin", "15 3 * * *"),
        ("15 3 * * *", "Europe/Berlin", "UTC", "0,15 * * * *"),
        ("*/15 3 * * *", "Europe/Berlin", "UTC", "0,15,30,45 * * * *"),
        ("15 3 * * *", "Asia/Kolkata", "UTC", "45 * * * *"),
        ("15 3 * * *", "UTC", "Asia/Kathmandu", "0 * * * *"),
        ("15 3 * * *", "Australia/Lord_Howe", "UTC", "15,30,45 * * * *"),
        ("* * * * *", "Asia/Tokyo", "UTC", "* * * * *"),
    ],
)
def test_when_cron_fires(schedule: str, zone: str, server_zone: str, fields: str) -> None:
    assert trigger(parse(schedule), zone, server_zone) == fields


@settings(deadline=None)
@given(
    st.sampled_from(SCHEDULES),
    st.sampled_from(ZONES),
    st.sampled_from(ZONES),
    st.integers(1_735_689_600, 2_524_608_000),
)
def test_it_fires_whenever_the_job_is_due(schedule: str, zone: str, server_zone: str, start: int) -> None:
    due = parse(schedule).between(start, start + 40 * 86_400, zone, 2000)
    fires = parse(trigger(parse(schedule), zone, server_zone))
    clock = ZoneInfo(server_zone)
    if zone == server_zone:
        assert fires.between(start, start + 40 * 86_400, server_zone, 2000) == due
    else:
        assert fires.by_clock and len(fires.hours) == 24
        assert {datetime.fromtimestamp(run, clock).minute for run in due} <= set(fires.minutes)


def test_zones_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="Mars"):
        render([REPORT._replace(timezone="Mars/Olympus")], "UTC")
    with pytest.raises(ValueError, match="Mars"):
        render([REPORT], "Mars/Olympus")
