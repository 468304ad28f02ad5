"""Take a job off its schedule. Its history stays until it is too old."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.cronjob import FOLDER
from ..kit.watch import TIMER
from ._shared import CRON_FOLDER, NAME, uninstall


@action(
    "cron.remove",
    "Remove a job; a run that goes on is stopped",
    kind="change",
    timeout=120,
    writes=(FOLDER, CRON_FOLDER),
    units=(TIMER,),
    host_verbs=("watch-unit",),
    table="cron",
    params=[NAME],
)
def remove(params: Params, probe: Probe) -> Steps:
    yield from uninstall(probe, params.name)
