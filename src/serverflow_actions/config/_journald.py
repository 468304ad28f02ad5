"""What may stand in journald.conf(5): how much is kept, how long, how fast. Nothing that names a path or a socket."""

from __future__ import annotations

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
