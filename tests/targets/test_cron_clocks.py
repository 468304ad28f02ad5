"""Jobs and time: both changes of clocks under a cron whose clock is libfaketime's, and runs that did not come."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from .operator import eventually
from .shop import Shop, alerts, history, look, open_shop
from .target import Fleet, Target, call

_HERE, _THERE = "Europe/Berlin", "America/New_York"
_RC = "/etc/faketimerc"
_HOOK = "http://127.0.0.1:9/hook"
ALERTS = "/var/lib/serverflow/alerts"


@pytest.fixture(scope="module")
def opened(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(fleet, tmp_path_factory.mktemp("clocks")) as shop:
        shop.script("good", "#!/bin/sh\necho good\n")
        # Nobody answers there: what is to be told waits where it can be read.
        shop.operator.run("notify", "add", "webhook", "ops", "--stdin", "--yes", input=_HOOK)
        yield shop


@pytest.fixture
def shop(opened: Shop) -> Iterator[Shop]:
    """Without jobs, before and after."""
    yield opened
    for job in opened.jobs():
        opened.operator.run("cron", "remove", job, "--yes")


def _stanza(schedule: str, options: str = "", zone: str = _HERE) -> str:
    return f'schedule = "{schedule}"\ntimezone = "{zone}"\napp = "shop"\ncommand = ["bin/good"]\n{options}'


# --- changes of clocks ------------------------------------------------------------------------------------------------


def _library(target: Target) -> str:
    """libfaketime's path, once it is installed."""
    listed = "dpkg -L libfaketime 2>/dev/null | grep /libfaketime.so"
    found = target.run("sh", "-c", listed, check=False).stdout.strip()
    if not found:
        target.run("apt-get", "-qq", "install", "libfaketime")
        found = target.run("sh", "-c", listed).stdout.strip()
    return found


class _Cron:
    """The real cron daemon, and what it starts, by another clock. The rest of the server goes by the true one: cron
    takes its children's environment from PAM, and what they start is systemd's.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        library = _library(target)
        variables = f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={_RC}", "FAKETIME_NO_CACHE=1"
        target.run("sh", "-c", "cat > /etc/environment", input="".join(f"{each}\n" for each in variables))
        target.run("systemctl", "stop", "cron")
        self._write("+0")
        environment = (f"--setenv={each}" for each in variables)
        target.run("systemd-run", "--quiet", "--unit=fake-cron", *environment, "/usr/sbin/cron", "-f")

    def set(self, at: datetime) -> None:
        """Its clock goes on from there."""
        self._write(f"{at.timestamp() - time.time():+.0f}")
        self._target.run("systemctl", "kill", "--signal=HUP", "fake-cron")  # it looks at the clock again

    def stop(self) -> None:
        """The true clock again."""
        self._target.run("systemctl", "stop", "fake-cron")
        self._target.run("sh", "-c", f": > /etc/environment; rm {_RC}")
        self._target.run("systemctl", "start", "cron")

    def _write(self, offset: str) -> None:
        self._target.run("sh", "-c", f"cat > {_RC}", input=f"{offset}\n")


def _change(zone: str, year: int, month: int) -> datetime:
    """The moment of that month at which the zone's clocks change."""
    clock = ZoneInfo(zone)
    start = int(datetime(year, month, 1, tzinfo=clock).timestamp())
    days = calendar.monthrange(year, month)[1]
    (at,) = (
        hour
        for hour in range(start, start + days * 86400, 3600)
        if datetime.fromtimestamp(hour, clock).utcoffset() != datetime.fromtimestamp(hour - 1, clock).utcoffset()
    )
    return datetime.fromtimestamp(at, UTC)


def _due(target: Target, job: str) -> list[str]:
    """For what times its runs were, oldest first, by the server's clock with its offset."""
    found = [line["due"] // 1000 for line in history(target, job) if line["t"] == "end" and line["due"]]
    return [datetime.fromtimestamp(at, ZoneInfo(_HERE)).strftime("%m %H:%M %Z") for at in found]


def test_both_changes_of_clocks(shop: Shop) -> None:
    """By the schedule of the server's zone and of another; a job at a fixed time and one that follows the clock."""
    target = shop.target
    shop.operator.run("system", "timezone", _HERE, "--on", "web1", "--yes")
    year = datetime.now().year + 1
    there, gap, fold = _change(_THERE, year, 3), _change(_HERE, year, 3), _change(_HERE, year, 10)
    shop.apply(
        {
            "fixed-gap": _stanza("30 2 * * *"),
            "fixed-fold": _stanza("0 2 * * *"),
            "hourly": _stanza("0 * * * *"),
            "half-past": _stanza("30 * * * *"),
            # At its own 02:30, which it does not have that day; and at the second 02:00 of the server's long night.
            "there-gap": _stanza("30 2 * mar *", zone=_THERE),
            "there-fold": _stanza(f"0 {fold.astimezone(ZoneInfo(_THERE)).hour} * oct *", zone=_THERE),
        }
    )
    clock = _Cron(target)

    # The other zone's clocks go forward; the server's do not yet.
    clock.set(there - timedelta(seconds=3))
    eventually(
        lambda: _due(target, "there-gap") == [there.astimezone(ZoneInfo(_HERE)).strftime("03 %H:00 CET")], "it ran", 60
    )
    # 02:00 to 03:00 is left out. Cron leaves ten seconds between what it makes up for.
    clock.set(gap - timedelta(seconds=3))
    eventually(lambda: _due(target, "fixed-gap") == ["03 03:00 CEST"], "it ran right after the gap", 90)
    # 03:00 is 02:00 again: the hour before has come and gone, then comes again.
    clock.set(fold - timedelta(seconds=3603))
    eventually(lambda: _due(target, "fixed-fold")[-1:] == ["10 02:00 CEST"], "it ran the first time", 90)
    clock.set(fold - timedelta(seconds=3))
    eventually(lambda: "10 02:00 CET" in _due(target, "hourly"), "it follows the clock", 90)
    eventually(lambda: _due(target, "there-fold") == ["10 02:00 CET"], "by the other zone's clock", 90)

    assert [due for due in _due(target, "hourly") if not due.startswith(there.strftime("%m %d"))][1:] == [
        "03 03:00 CEST",
        "10 02:00 CEST",
        "10 02:00 CET",
    ]
    assert _due(target, "fixed-gap") == ["03 03:00 CEST"]
    assert _due(target, "fixed-fold").count("10 02:00 CET") == 0
    assert _due(target, "half-past") == []
    fired = target.run("journalctl", "--unit=fake-cron", "--output=cat", "--no-pager").stdout
    assert fired.count("fire hourly") >= 4
    clock.stop()


# --- runs that did not come -------------------------------------------------------------------------------------------

#: Until a run that did not come counts as missed.
_SETTLED = 400


def _now() -> datetime:
    return datetime.now(UTC)


def _next_minute(within: int = 30) -> datetime:
    """The next minute that begins so many seconds from now, or later."""
    begins = _now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    return begins if (begins - _now()).total_seconds() > within else begins + timedelta(minutes=1)


def _pass(due: datetime) -> None:
    eventually(lambda: _now() > due + timedelta(seconds=3), f"it is {due:%H:%M}", 120)


def _told(target: Target) -> dict[str, str]:
    """What the letters say that wait in the spool, the last one of each key."""
    names = f"cat {ALERTS}/spool/* 2>/dev/null || true"
    lines = target.run("sh", "-c", names).stdout.replace("}{", "}\n{").splitlines()
    events = sorted((json.loads(line)["event"] for line in lines), key=lambda event: event["id"])
    return {event["key"]: f"{event['title']}: {event['text']}" for event in events if event["state"] == "open"}


def test_a_cron_that_was_stopped(shop: Shop) -> None:
    target = shop.target
    due = _next_minute(20)
    shop.apply({"quiet": _stanza(f"{due.minute} {due.hour} * * *", zone="UTC")})
    look(target)
    target.run("systemctl", "stop", "cron")
    assert _now() < due
    _pass(due)
    look(target)
    assert alerts(target) == set()  # it may yet come
    look(target, _SETTLED)
    assert alerts(target) == {"cron.missed/quiet"}
    assert "cron did not fire (cron.service is inactive)" in _told(target)["cron.missed/quiet"]
    assert shop.operator.run("plan", "--check", "--only", "cron", check=False).returncode == 11
    shop.operator.run("apply", "--only", "cron", "--yes")
    assert target.run("systemctl", "is-active", "cron").stdout == "active\n"


def test_runs_that_did_not_come(shop: Shop) -> None:
    """The server was down, then cron was stopped: both are told, each for what it is, and made up for where asked."""
    target = shop.target
    due = _next_minute()
    daily = f"{due.minute} {due.hour} * * *"
    shop.apply({"down": _stanza(daily, zone="UTC"), "again": _stanza(daily, "catch_up = true", zone="UTC")})
    look(target)
    assert _now() < due
    call("docker", "kill", target.container)
    _pass(due)
    call("docker", "start", target.container)
    target.wait_until_up()
    assert history(target, "down") == history(target, "again") == []

    look(target, _SETTLED)
    assert "the host was down" in _told(target)["cron.missed/down"]
    (record,) = shop.ended("again")
    assert (record["outcome"], record["message"]) == ("ok", "")
    assert (record["trigger"], record["due"]) == ("catch-up", int(due.timestamp()) * 1000)
    eventually(lambda: "cron.missed/again" not in alerts(target), "it has run by now")
    look(target, _SETTLED + 60)
    assert [line["t"] for line in history(target, "again")] == ["start", "end"]  # once
    assert history(target, "down") == []
    assert "cron.missed/down" in alerts(target)
    shop.by_hand("down")
    assert "cron.missed/down" not in alerts(target)
