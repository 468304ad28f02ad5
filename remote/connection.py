"""The SSH connection that a request came over, as the kernel knows it: /proc, proc_pid_stat(5)."""

from __future__ import annotations

import os
from typing import NamedTuple

#: Between sshd and the runner are a shell and sudo, which may fork once more.
_GENERATIONS = 8
_SSHD = ("sshd", "sshd-session")  # the second from OpenSSH 9.8 on


class _Process(NamedTuple):
    name: str
    parent: int
    began: int


def began() -> int | None:
    """When it did, in ticks since boot (as CLOCK_BOOTTIME); None where no sshd is among our ancestors.

    The nearest sshd is the logged-in user's, made after authentication. Its parent is the one that the listener forked
    when the connection came in, before keys were exchanged: that moment counts.
    """
    pid = os.getppid()
    for _ in range(_GENERATIONS):
        process = _look(pid)
        if process is None:
            return None
        if process.name in _SSHD:
            monitor = _look(process.parent)
            return monitor.began if monitor and monitor.name in _SSHD else None
        pid = process.parent
    return None


def _look(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name is in parentheses, and may itself have some.
            head, _, rest = file.read().rpartition(") ")
    except OSError:
        return None
    fields = rest.split()
    return _Process(head.partition(" (")[2], int(fields[1]), int(fields[19]))
