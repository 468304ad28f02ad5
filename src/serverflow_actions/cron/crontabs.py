"""What cron runs on this server besides our jobs."""

from __future__ import annotations

import json
import re
from typing import Any

from ..kit import HostError, Params, Probe, action
from ..kit.cronjob import CRONTAB
from ..kit.zone import server_zone
from ._lines import entries
from ._shared import CRON_FOLDER

_SYSTEM = "/etc/crontab"
_OF_USERS = "/var/spool/cron/crontabs"
#: In bytes. Users write crontabs, and longer answers do not arrive.
_LONGEST_FILE, _ROOM = 64 << 10, 512 << 10


@action(
    "cron.crontabs",
    "List what crontabs run besides our jobs",
    kind="read",
    reads=(_SYSTEM, CRON_FOLDER, _OF_USERS),
)
def crontabs(_: Params, probe: Probe) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    more, room = 0, _ROOM
    for path, user in _files(probe):
        try:
            text = _text(probe, path)
        except HostError as error:
            unread.append({"file": path, "why": str(error)})
            continue
        for entry in entries(text, path, user):
            room -= len(json.dumps(entry))
            if room > 0:
                found.append(entry)
            else:
                more += 1
    return {"lines": found, "more": more, "unread": unread, "server_timezone": server_zone(probe)}


def _files(probe: Probe) -> list[tuple[str, str]]:
    """Those that cron reads (cron(8)), each with its user; "" where every line names one."""
    system = [f"{CRON_FOLDER}/{name}" for name in probe.names(CRON_FOLDER) if re.match(r"[A-Za-z0-9_-]+\Z", name)]
    of_users = [(f"{_OF_USERS}/{name}", name) for name in probe.names(_OF_USERS) if probe.user(name)]
    return [(path, "") for path in (_SYSTEM, *system) if path != CRONTAB] + of_users


def _text(probe: Probe, path: str) -> str:
    content = probe.read(path, follow=False) or b""
    if len(content) > _LONGEST_FILE:
        raise HostError(f"{path} is longer than {_LONGEST_FILE >> 10} KiB")
    return content.decode("utf-8", "replace")
