"""When a job runs: five fields of crontab(5), in a time zone. Both sides know the times from here alone.

Days, and changes of clocks, are as in Debian's cron (cron(8), crontab(5)). A job whose minute or hour begins with `*`
goes by the clock: it does not run at times that are left out, and runs again at times that come twice. Any other has
its fixed times: what is left out runs right afterwards, and what comes twice runs the first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from itertools import islice, takewhile
from typing import Any, NamedTuple

#: How far ahead a run is looked for. 29 February is a given day of the week every 28 years, around 2100 after 40.
YEARS = 50

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_USUAL = {"@midnight": "@daily", "@annually": "@yearly"}
_EXAMPLE = 'five fields (minute, hour, day of month, month, day of week), as in "15 3 * * *", or @daily and the like'
_LONGEST = 255
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EPOCH = datetime(1970, 1, 1)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    title: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_TERM = re.compile(r"(?:(\*)|([0-9]{1,2}|[a-z]{3})(?:(-)([0-9]{1,2}|[a-z]{3}))?)(?:(/)([0-9]{1,3}))?\Z", re.ASCII)


class Schedule(NamedTuple):
    """A schedule, as `parse` makes it.

    text      in its one spelling: lower case, no needless zeros or blanks
    fields    the five, names as numbers: what any cron reads alike
    weekdays  0 is Sunday
    by_clock  the minute or the hour begins with `*`
    either    both days are restricted, and one of them is enough
    """

    text: str
    fields: tuple[str, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    by_clock: bool
    either: bool

    def following(self, after: int, zone: str) -> Iterator[int]:
        """The runs after that moment, in order, as seconds since the epoch; as they are asked for, for 50 years.

        Raises ValueError when there is no such zone.
        """
        clock = zone_named(zone)
        # A day earlier: clocks may go back over midnight.
        start = datetime.fromtimestamp(after, clock).date() - timedelta(days=1)
        return (run for run in self._runs(start, clock) if run > after)

    def previous(self, at: int, zone: str) -> int | None:
        """The latest run at that moment or before it, within 50 years; None without one. Raises ValueError."""
        clock = zone_named(zone)
        found: list[int] = []
        last = date.min
        for day in self._days(datetime.fromtimestamp(at, clock).date() + timedelta(days=1), -1):
            if day < last:
                break
            runs = [run for run in self._on(day, clock) if run <= at]
            if runs and not found:
                last = day - timedelta(days=1)  # it may have a later one: see `_runs`
            found += runs
        return max(found, default=None)

    def between(self, start: int, end: int, zone: str, limit: int) -> list[int]:
        """At most `limit` runs after `start` and until `end`, which counts. Raises ValueError."""
        return list(islice(takewhile(lambda run: run <= end, self.following(start, zone)), limit))

    def _runs(self, start: date, clock: tzinfo) -> Iterator[int]:
        """All from that day on. Where clocks go back over midnight, runs of two days alternate."""
        waiting: list[int] = []
        for day in self._days(start, 1):
            begins = _seconds(_midnight(day)) - max(_offsets(_midnight(day), clock))
            yield from (run for run in waiting if run < begins)
            waiting = sorted({*(run for run in waiting if run >= begins), *self._on(day, clock)})
        yield from waiting

    def _days(self, start: date, step: int) -> Iterator[date]:
        """The days that match, from that one on (`step` 1) or back (-1)."""
        year, month = start.year, start.month
        for _ in range(12 * YEARS):
            if not 1 < year < 9999:
                return
            if month in self.months:
                first = date(year, month, 1).toordinal()
                days = range(first, date(year + month // 12, month % 12 + 1, 1).toordinal())
                for ordinal in days[::step]:
                    if (ordinal - start.toordinal()) * step >= 0 and self._has(date.fromordinal(ordinal)):
                        yield date.fromordinal(ordinal)
            year, month = (year, month + step) if 1 <= month + step <= 12 else (year + step, 12 if step < 0 else 1)

    def _has(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either else in_month and in_week

    def _on(self, day: date, clock: tzinfo) -> set[int]:
        """The runs of one day of the calendar."""
        found: set[int] = set()
        for hour in self.hours:
            first = _midnight(day) + timedelta(hours=hour)
            offsets = {*_offsets(first, clock), *_offsets(first + timedelta(minutes=59), clock)}
            if len(offsets) == 1:
                begins = _seconds(first) - offsets.pop()
                found.update(begins + 60 * minute for minute in self.minutes)
                continue
            for minute in self.minutes:
                wall = first + timedelta(minutes=minute)
                found.update(_readings(wall, clock) if self.by_clock else [_first_moment(wall, clock)])
        return found


def parse(text: Any) -> Schedule:
    """Raises ValueError, which names the field and says what is wrong with it."""
    if not isinstance(text, str) or len(text) > _LONGEST or not re.match(r"[ -~]*\Z", text):
        raise ValueError(f"must be {_EXAMPLE}")
    words = text.lower().split()
    usual = ""
    if len(words) == 1 and words[0].startswith("@"):
        usual = _USUAL.get(words[0], words[0])
        words = _nickname(usual).split()
    if len(words) == 6:
        raise ValueError(f"has six fields: cron knows no seconds and no years; must be {_EXAMPLE}")
    if len(words) != 5:
        raise ValueError(f"has {len(words)} field{'s' * (len(words) != 1)}; must be {_EXAMPLE}")
    read = [_field(field, word) for field, word in zip(_FIELDS, words)]
    spelled, numbers, values = zip(*read)
    minutes, hours, days, months, weekdays = (tuple(sorted(each)) for each in values)
    either = not (words[2].startswith("*") or words[4].startswith("*"))
    if not either and all(days[0] > _DAYS_IN_MONTH[month - 1] for month in months):
        raise ValueError(f"day of month: {days[0]} never comes in month {numbers[3]}")
    by_clock = words[0].startswith("*") or words[1].startswith("*")
    weekdays = tuple(sorted({each % 7 for each in weekdays}))
    return Schedule(usual or " ".join(spelled), numbers, minutes, hours, days, months, weekdays, by_clock, either)


def zone_named(name: str) -> tzinfo:
    """The time zone of that name, from this machine's tzdata. Raises ValueError."""
    from zoneinfo import ZoneInfo  # costs a few milliseconds; `parse` does without

    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:64]!a} here (package tzdata)") from None


def _nickname(word: str) -> str:
    if word == "@reboot":
        raise ValueError("@reboot is no time but an event: have a service start with the machine")
    if word not in NICKNAMES:
        raise ValueError(f"{word[:60]!a} is not one of {', '.join(NICKNAMES)}")
    return NICKNAMES[word]


def _field(field: _Field, text: str) -> tuple[str, str, set[int]]:
    """Its one spelling, the same in numbers, and its values."""
    try:
        terms = [_term(field, term) for term in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{field.title}: {error}") from None
    spelled, numbers, values = zip(*terms)
    return ",".join(spelled), ",".join(numbers), set().union(*values)


def _term(field: _Field, text: str) -> tuple[str, str, set[int]]:
    match = _TERM.match(text)
    if not match:
        raise ValueError(_misread(field, text))
    star, first, dash, last, slash, step = match.groups()
    low = field.low if star else _number(field, first)
    high = field.high if star else _number(field, last) if dash else low
    if low > high:
        sunday = f"; Sunday at its end is 7: {low}-7" if field.high == 7 and high == 0 else ""
        raise ValueError(f"{text!a} ends before it begins{sunday}")
    if slash and not (star or dash):
        raise ValueError(f"crons disagree on {text!a}: write {low}-{field.high}/{int(step)}")
    every = int(step) if slash else 1
    if not 1 <= every <= field.high:
        raise ValueError(f"{text!a} has a step that is not 1 to {field.high}")
    stepped = f"/{every}" if slash else ""
    numbers = "*" if star else f"{low}-{high}" if dash else str(low)
    spelled = "*" if star else f"{_spelled(first)}-{_spelled(last)}" if dash else _spelled(first)
    return spelled + stepped, numbers + stepped, set(range(low, high + 1, every))


def _spelled(word: str) -> str:
    return str(int(word)) if word.isdigit() else word


def _number(field: _Field, word: str) -> int:
    if word in field.names:
        return field.names.index(word) + field.low
    if not word.isdigit():
        raise ValueError(_misread(field, word))
    if not field.low <= int(word) <= field.high:
        raise ValueError(f"{int(word)} is not {field.low} to {field.high}")
    return int(word)


def _misread(field: _Field, text: str) -> str:
    foreign = re.search(r"[?#]|(?<![a-z])[0-9]*l?w?(?![a-z])", text)
    if foreign and foreign.group() and not foreign.group().isdigit():
        return f"{text[:60]!a} is of another scheduler: crontab(5) knows no L, W, # and ?"
    names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
    return f"{text[:60]!a} is not a number from {field.low} to {field.high}{names}, a range, a list, or one with a step"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def _seconds(wall: datetime) -> int:
    """Of the clock on the wall since it showed 1970."""
    since = wall - _EPOCH
    return since.days * 86400 + since.seconds


def _offsets(wall: datetime, clock: tzinfo) -> tuple[int, int]:
    """From UTC, in seconds, for both readings of that time (PEP 495): the first one is larger where it comes twice,
    smaller where it is left out.
    """
    return _offset(wall.replace(tzinfo=clock)), _offset(wall.replace(tzinfo=clock, fold=1))


def _offset(moment: datetime) -> int:
    found = moment.utcoffset() or timedelta()
    return found.days * 86400 + found.seconds


def _readings(wall: datetime, clock: tzinfo) -> list[int]:
    """The moments at which the clock shows that time: none, one or two."""
    moments = {_seconds(wall) - offset for offset in _offsets(wall, clock)}
    return [each for each in moments if datetime.fromtimestamp(each, clock).replace(tzinfo=None, fold=0) == wall]


def _first_moment(wall: datetime, clock: tzinfo) -> int:
    """The first full minute at which the clock shows that time or a later one."""
    before, after = _offsets(wall, clock)
    high = _seconds(wall) - before
    if before >= after:
        return high
    low = _seconds(wall) - after  # the clock is put forward between the two
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, clock)) == before:
            low = middle
        else:
            high = middle
    return high + -(high + after) % 60
