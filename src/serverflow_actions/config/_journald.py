"""What may stand in journald.conf(5): how much is kept, how long, how fast. Nothing that names a path or a socket.

Logs beyond a limit are deleted at once, and no rollback brings them back: each limit has a minimum.
"""

from __future__ import annotations

import re

from ._content import check_value, refusal, statements

_SWITCH = "yes|no|true|false|on|off|1|0"
_SIZE = "[0-9]{1,15}[KMGTPE]?"
_TIME = r"(?:[0-9]{1,9} ?(?:us|ms|s|sec|min|m|h|hour|hours|d|day|days|w|week|weeks|month|months|year|years)? ?){1,4}"
_LEVEL = "emerg|alert|crit|err|warning|notice|info|debug|[0-7]"

ALLOWED = {
    "Storage": "volatile|persistent|auto|none",
    "Compress": f"{_SWITCH}|{_SIZE}",
    "Seal": _SWITCH,
    "SplitMode": "uid|none",
    "SyncIntervalSec": _TIME,
    "RateLimitIntervalSec": _TIME,
    "RateLimitBurst": "[0-9]{1,9}",
    "SystemMaxUse": _SIZE,
    "SystemKeepFree": _SIZE,
    "SystemMaxFileSize": _SIZE,
    "SystemMaxFiles": "[0-9]{1,9}",
    "RuntimeMaxUse": _SIZE,
    "RuntimeKeepFree": _SIZE,
    "RuntimeMaxFileSize": _SIZE,
    "RuntimeMaxFiles": "[0-9]{1,9}",
    "MaxRetentionSec": _TIME,
    "MaxFileSec": _TIME,
    "ForwardToSyslog": _SWITCH,
    "ForwardToKMsg": _SWITCH,
    "ForwardToConsole": _SWITCH,
    "ForwardToWall": _SWITCH,
    "MaxLevelStore": _LEVEL,
    "MaxLevelSyslog": _LEVEL,
    "MaxLevelKMsg": _LEVEL,
    "MaxLevelConsole": _LEVEL,
    "MaxLevelWall": _LEVEL,
    "LineMax": _SIZE,
    "ReadKMsg": _SWITCH,
    "Audit": f"{_SWITCH}|keep",
}
_UNITS = "KMGTPE"
_SECONDS = {
    "us": 1e-6, "ms": 1e-3, "": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400,
    "day": 86400, "w": 604_800, "week": 604_800, "month": 2_629_800, "year": 31_557_600,
}  # fmt: skip
_LEAST_SIZE = {
    "SystemMaxUse": "16M",
    "RuntimeMaxUse": "16M",
    "SystemMaxFileSize": "1M",
    "RuntimeMaxFileSize": "1M",
    "SystemMaxFiles": "16",
    "RuntimeMaxFiles": "16",
}
#: Files that are begun often push out the oldest. 0 is no limit.
_LEAST_TIME = {"MaxRetentionSec": "1day", "MaxFileSec": "1day"}


def check(content: str) -> None:
    """Raises Refused."""
    begun = False
    for number, line in statements(content, "#;"):
        if line.startswith("["):
            if line != "[Journal]":
                raise refusal(number, "[Journal] is the only section")
            begun = True
            continue
        key, equals, value = (part.strip(" \t") for part in line.partition("="))
        if not equals or not begun:
            raise refusal(number, "is not of the form `Key=value` below [Journal]")
        check_value(number, key, value, ALLOWED)
        if _is_less(key, value):
            least = _LEAST_SIZE.get(key) or _LEAST_TIME[key]
            raise refusal(number, f"{key} of less than {least} deletes logs, which do not come back")


def _is_less(key: str, value: str) -> bool:
    if key in _LEAST_SIZE:
        return _size(value) < _size(_LEAST_SIZE[key])
    return key in _LEAST_TIME and 0 < _seconds(value) < _seconds(_LEAST_TIME[key])


def _size(value: str) -> int:
    return int(value.rstrip(_UNITS)) << 10 * (_UNITS.find(value[-1]) + 1)


def _seconds(value: str) -> float:
    """systemd.time(7). Plurals have the singular's length."""
    parts = re.findall("([0-9]+) ?([a-z]*)", value)
    return sum(int(number) * _SECONDS[unit if unit in _SECONDS else unit.rstrip("s")] for number, unit in parts)
