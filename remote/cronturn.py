"""Whose turn it is: of each job one run goes on at a time, and one more may wait for its end.

Two locks, in which the run that holds each has written its name. They are in memory and the kernel's: a crash frees
them.
"""

from __future__ import annotations

import os
import time

import cronjobs

PAUSE_S = 0.2
_LOOKS = 4
RUNNING, WAITING = "running", "waiting"


def opened(name: str, what: str) -> int:
    """The descriptor of that lock of the job, not yet held. Raises ValueError or OSError."""
    return os.open(f"{cronjobs.in_memory(name)}/{what}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def take(descriptor: int, run: str) -> bool:
    """Hold it, for this run; False while another does."""
    if not cronjobs.taken(descriptor):
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, run.encode(), 0)
    return True


def take_soon(descriptor: int, run: str) -> bool:
    """More than once: the watch looks at it, for a moment."""
    for _ in range(_LOOKS):
        if take(descriptor, run):
            return True
        time.sleep(PAUSE_S)
    return False


def written(descriptor: int) -> str:
    """The run that holds it, or did last."""
    return os.pread(descriptor, 64, 0).decode("ascii", "replace")


def holder(name: str, what: str = RUNNING) -> str:
    """The run that holds that lock; "" when none does."""
    descriptor = opened(name, what)
    try:
        return "" if cronjobs.taken(descriptor) else written(descriptor)
    finally:
        os.close(descriptor)
