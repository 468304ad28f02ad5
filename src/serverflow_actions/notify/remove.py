"""Take a channel for alerts away. What waited for it is not sent any more."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import File
from ..kit.watch import TIMER
from ..kit.watching import CHANNELS, unwatch
from ._shared import NAME, path


@action(
    "notify.remove",
    "Remove a channel for alerts",
    kind="change",
    writes=(CHANNELS,),
    units=(TIMER,),
    host_verbs=("watch-unit",),
    resource="notify.{name}",
    params=[NAME],
)
def remove(params: Params, probe: Probe) -> Steps:
    yield from unwatch(probe, path(params.name))
    yield File(path(params.name), absent=True, secret=True)
