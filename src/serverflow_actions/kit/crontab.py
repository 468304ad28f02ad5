"""The crontab that fires our jobs: /etc/cron.d/serverflow, from the jobs alone.

Cron knows the server's time zone only. What it fires looks for itself whether the job is due, so a line may fire more
often than that, and never less.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone, tzinfo

from . import argv, schedule
from .cronjob import Job

RUNNER = "/usr/local/libexec/serverflow/runner"

_HEADER = """\
# Written by ServerFlow (cron.add, cron.command): changes by hand are undone. `sf cron list` shows these jobs.
SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=""
"""
_LONGEST = 200
#: Rules of zones are looked at from 2025 to 2040: those of today, and those that hold for good. The span is fixed so
#: that the same jobs are the same text at any time.
_FROM, _TO = 1735689600, 2208988800
_WEEK = 7 * 86400


def render(jobs: Iterable[Job], server_zone: str) -> str:
    """The file's text. `server_zone` names the server's time zone. Raises ValueError for a zone that is not there."""
    return _HEADER + "".join(_lines(job, server_zone) for job in sorted(jobs, key=lambda job: job.name))


def _lines(job: Job, server_zone: str) -> str:
    runs = f"{job.app}: {argv.quoted(job.command)}" if job.app else " ".join([job.action, *job.params])
    about = f"{job.name}: {job.schedule} {job.timezone}, {runs}"
    shown = "".join(char if " " <= char <= "~" else "?" for char in about)[:_LONGEST]
    if not job.enabled:
        return f"\n# disabled: {shown}\n"
    when = trigger(schedule.parse(job.schedule), job.timezone, server_zone)
    return f"\n# {shown}\n{when} root {RUNNER} fire {job.name}\n"


def trigger(when: schedule.Schedule, zone: str, server_zone: str) -> str:
    """Five fields by which the server's cron fires whenever the job is due, or more often.

    By the same clock they are as written. Otherwise every hour, at each minute that it may be there.
    """
    theirs, ours = schedule.zone_named(zone), schedule.zone_named(server_zone)
    if zone == server_zone:
        return " ".join(when.fields)
    changes = _changes(theirs)
    differences = {_offset(at, ours) - _offset(at, theirs) for at in (_FROM, *changes, *_changes(ours))}
    if differences == {0}:
        return " ".join(when.fields)
    minutes = {(60 * minute + difference) // 60 % 60 for minute in when.minutes for difference in differences}
    if not when.by_clock:  # what their clock leaves out runs when it has been put forward
        minutes |= {
            (at + _offset(at, ours)) // 60 % 60 for at in changes if _offset(at, theirs) > _offset(at - 1, theirs)
        }
    return f"{_listed(minutes)} * * * *"


def _changes(zone: tzinfo) -> list[int]:
    """The moments at which the zone's offset changes. Those of Ramadan come closest together, and are weeks apart."""
    found = []
    before = _offset(_FROM, zone)
    for low in range(_FROM, _TO, _WEEK):
        high = low + _WEEK
        after = _offset(high, zone)
        if after == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
        found.append(high)
        before = after
    return found


def _offset(at: int, zone: tzinfo) -> int:
    found = datetime.fromtimestamp(at, timezone.utc).astimezone(zone).utcoffset()
    return round(found.total_seconds()) if found else 0


def _listed(minutes: set[int]) -> str:
    return "*" if len(minutes) == 60 else ",".join(str(minute) for minute in sorted(minutes))
