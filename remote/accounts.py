"""Accounts that go with a rollback: what still runs as one of them ends first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection

import layout
import store
import units

_PATIENCE_S = 5


def gone(before: str) -> set[int]:
    """The user ids in passwd(5) now that it did not have `before`, a copy of it. None once the copy has moved back, nor
    by what is no copy: without root in it nobody would be left.
    """
    known = _ids(before)
    return _ids(layout.PASSWD) - known if 0 in known else set()


def _ids(path: str) -> set[int]:
    lines = (store.read_file(path) or b"").splitlines()
    fields = [line.split(b":") for line in lines]
    return {int(found[2]) for found in fields if len(found) > 3 and found[2].isdigit()}


def end_processes(ids: Collection[int]) -> list[str]:
    """Kill whatever runs as one of these users, until nothing does; a sentence for each where something stays."""
    for uid in ids:
        with contextlib.suppress(subprocess.TimeoutExpired):
            units.run(["systemctl", "stop", "--", f"user@{uid}.service"])
    end = time.monotonic() + _PATIENCE_S
    while (found := _processes(ids)) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return [f"processes of the user {uid} go on, and the account is gone" for uid in sorted(set(found.values()))]


def _processes(ids: Collection[int]) -> dict[int, int]:
    """Process ids, with the one of these users that each runs as: its real, effective, saved or file system's."""
    found = {}
    for name in os.listdir("/proc") if ids else ():
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/status", "rb") as file:
            about = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
            state, owners = about.get(b"State", b"").split()[:1], set(map(int, about.get(b"Uid", b"").split()))
            if state != [b"Z"] and owners & set(ids):
                found[int(name)] = min(owners & set(ids))
    return found
