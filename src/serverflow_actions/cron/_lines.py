"""Reads other people's crontabs, crontab(5) as Debian's cron takes it: what is in them, not what it would do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_ASSIGNMENT = re.compile(r"(\"[^\"]*\"|'[^']*'|[^\s=\"'#]+)\s*=\s*(.*)\Z")
#: What changes how a line runs. Others may hold passwords, and only their names are told.
_TOLD = frozenset(
    (
        "CRON_TZ", "HOME", "LANG", "LC_ALL", "LOGNAME", "MAILFROM", "MAILTO", "PATH", "RANDOM_DELAY", "SHELL", "TZ",
        "USER",
    )
)  # fmt: skip


def entries(text: str, file: str, user: str) -> Iterator[dict[str, Any]]:
    """The lines that run something, each with the variables that are set above it.

    `user` is whose crontab it is; "" where each line names one. A line that cannot be read has `schedule` "".
    """
    env: dict[str, str | None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        match = None if re.match(r"[0-9*@]", line) else _ASSIGNMENT.match(line)
        if match:
            name = _unquoted(match.group(1))
            env[name] = _unquoted(match.group(2)) if name in _TOLD else None
            continue
        schedule, runner, command = _parts(line, user)
        found = {"file": file, "line": number, "text": line, "user": runner, "schedule": schedule, "command": command}
        yield {**found, "env": dict(env)}


def _parts(line: str, user: str) -> tuple[str, str, str]:
    """Schedule, user and command."""
    fields = 1 if line.startswith("@") else 5
    words = line.split(None, fields if user else fields + 1)
    if len(words) <= (fields if user else fields + 1):
        return "", user, ""
    return " ".join(words[:fields]), user or words[fields], words[-1]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
