"""When a job runs next, and what a change of clocks does to it. Servers decide by the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import TYPE_CHECKING

from serverflow_actions.kit.schedule import zone_named

from ..errors import ConfigError

if TYPE_CHECKING:
    from serverflow_actions.kit.schedule import Schedule

_DAY_S = 86_400
#: Zones that change their clocks do so at least this often.
_LOOK_AHEAD_S = 400 * _DAY_S
#: So many runs of one change are looked at: those of a whole day that a zone leaves out (Apia in 2011).
_MOST = 1440


@dataclass(frozen=True)
class ClockChange:
    """Clocks of a zone go from one local time to another, at `at` (seconds since the epoch). Offsets are seconds."""

    at: int
    before: int
    after: int

    @property
    def forward(self) -> bool:
        return self.after > self.before


def zone_of(name: str) -> tzinfo:
    """As the kit knows it: UTC also where no zones are installed. Raises ConfigError."""
    try:
        return zone_named(name)
    except ValueError:
        raise ConfigError(
            f"there is no time zone {name}", hint="such as Europe/Paris or UTC: timedatectl list-timezones"
        ) from None


def next_runs(schedule: Schedule, zone: str, after: int, count: int) -> list[int]:
    """At most `count` runs after a moment, in seconds since the epoch; fewer only where the schedule ends."""
    zone_of(zone)
    return list(islice(schedule.following(after, zone), count))


def local(at: int, zone: str) -> str:
    """`Sun 2026-10-25 02:30 +01:00`: the offset tells the two 02:30 of that day apart."""
    moment = datetime.fromtimestamp(at, zone_of(zone))
    offset = moment.strftime("%z")
    return f"{moment:%a %Y-%m-%d %H:%M} {offset[:3]}:{offset[3:5]}"


def clock_notes(schedule: Schedule, zone: str, after: int, runs: list[int]) -> list[str]:
    """A remark on each change of clocks until the last of these runs, else on the next one, with what the job does."""
    changes = list(clock_changes(zone, after, max([after, *runs]) + _DAY_S))
    if not changes:
        changes = list(islice(clock_changes(zone, after, after + _LOOK_AHEAD_S), 1))
    return [_note(schedule, zone, change) for change in changes]


def clock_changes(zone: str, start: int, end: int) -> Iterator[ClockChange]:
    """The changes after `start` and until `end`, found by looking at each day."""
    info, at = zone_of(zone), start
    while at < end:
        then = min(at + _DAY_S, end)
        if _offset(info, at) != _offset(info, then):
            low, high = at, then
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(info, middle) == _offset(info, low) else (low, middle)
            yield ClockChange(high, _offset(info, low), _offset(info, high))
        at = then


def _offset(zone: tzinfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _note(schedule: Schedule, zone: str, change: ClockChange) -> str:
    # Local times are read as if they were UTC: so the schedule says what is due by the clock on the wall.
    first, last = sorted((change.at + change.before, change.at + change.after))
    due = schedule.between(first - 1, last - 1, "UTC", _MOST)
    moved = f"{_wall(change.at + change.before)} to {_wall(change.at + change.after)}"
    told = f"{_wall(change.at, '%a %Y-%m-%d', change.before)} in {zone}: clocks go from {moved}"
    if not due:
        return f"{told}; no run is due in between"
    times = _times(due)
    if change.forward:
        then = next(iter(next_runs(schedule, zone, change.at - 1, 1)), None)
        goes_on = f"; the next run is at {local(then, zone)}" if then else ""
        return f"{told}; {times} {'do' if len(due) > 1 else 'does'} not exist{goes_on}"
    length = change.before - change.after
    first_time = schedule.between(change.at - length - 1, change.at - 1, zone, _MOST)
    again = schedule.between(change.at - 1, change.at + length - 1, zone, _MOST)
    come = "come" if len(due) > 1 else "comes"
    if first_time and again:
        return f"{told}; {times} {come} twice, and so do its runs"
    return f"{told}; {times} {come} twice; it runs the first time only"


def _wall(at: int, form: str = "%H:%M", offset: int = 0) -> str:
    return (datetime.fromtimestamp(at, UTC) + timedelta(seconds=offset)).strftime(form)


def _times(due: list[int]) -> str:
    if len(due) <= 3:
        return ", ".join(map(_wall, due))
    return f"{_wall(due[0])} to {_wall(due[-1])} ({len(due)} times)"
