"""Values as people read them. A field's name says its unit; JSON output never passes through here.

_s                                  seconds          277200            → 3d 5h
_at, since, deadline                ms since epoch or RFC 3339         → 2026-11-22 17:25:03 +01:00
next, not_after and the like        ms since epoch, as numbers alone   → 2026-11-22 17:25:03 +01:00
size, memory, swap, disk, _bytes    bytes            1288490189        → 1.2 GiB
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

_BYTE_WORDS = frozenset(("bytes", "disk", "memory", "size", "swap"))
#: Of certificates, jobs and their runs; 0 is none. As texts they are other things: `ended` how a change did, say.
_MOMENTS = frozenset(("due", "ended", "installed", "next", "not_after", "not_before", "started", "upcoming", "window"))
#: 1973. What is less counts something else: where `dns.fetch` goes on, say.
_FIRST_MOMENT = 10**11


def humane(field: str, value: Any, *, local: bool) -> str:
    """The value of a field, in one line (not yet cleaned). `local` shows times in the zone of the machine."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(humane(field, item, local=local) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={humane(key, item, local=local)}" for key, item in value.items())
    if field in _MOMENTS and isinstance(value, int) and (value == 0 or value >= _FIRST_MOMENT):
        return time(value, local=local) if value else "-"
    words = field.replace("-", "_").split("_")
    if words[-1] in ("at", "since", "deadline"):
        return time(value, local=local) if value else "-"
    if isinstance(value, int) and words[-1] == "s" and len(words) > 1:
        return duration(value)
    if isinstance(value, int) and not _BYTE_WORDS.isdisjoint(words):
        return size(value)
    return str(value)


def is_none(field: str, value: Any) -> bool:
    """Whether nothing is there to be shown: an empty text or list, a moment that is 0."""
    return value == {} or humane(field, value, local=False) == "-"


def size(count: int) -> str:
    """Bytes with IEC 80000-13 prefixes: `1.2 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def share(used: int, total: int) -> str:
    """Bytes of bytes: `3.0 of 8.0 GiB`."""
    part, whole = size(used), size(total)
    unit = whole.rpartition(" ")[2]
    return f"{part.removesuffix(f' {unit}')} of {whole}"


def duration(seconds: int) -> str:
    """Seconds in the two largest units: `3d 4h`, `5m 2s`."""
    parts: list[str] = []
    rest = abs(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (name == "s" and not parts):
            parts.append(f"{count}{name}")
        elif parts:
            break
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def time(value: int | str, *, local: bool) -> str:
    """Milliseconds since the epoch, or RFC 3339 text, as local time with offset or as RFC 3339 in UTC."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            moment = datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(value)
    if local:
        here = moment.astimezone()
        offset = here.strftime("%z")
        return f"{here:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
