"""What the watch (kit/watch.py) is there for: each job and each channel for alerts. With the last of them it goes."""

from __future__ import annotations

from .cronjob import FOLDER as JOBS
from .engine import Steps
from .probe import Probe
from .steps import Service
from .steps.watch import WatchUnit
from .watch import TIMER

#: A file NAME.json each, for root alone: it holds passwords. See remote/channels.py.
CHANNELS = "/etc/serverflow/notify"


def watch() -> Steps:
    """Its units in place, the timer running."""
    yield WatchUnit()
    yield Service(TIMER)


def unwatch(probe: Probe, gone: str) -> Steps:
    """Take it away, unless another file than the one that goes now is a reason for it."""
    reasons = {f"{folder}/{name}" for folder in (JOBS, CHANNELS) for name in probe.names(folder) if _is_one(name)}
    if not reasons - {gone}:
        yield Service(TIMER, running=False, enabled=False)
        yield WatchUnit(absent=True)


def _is_one(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")
