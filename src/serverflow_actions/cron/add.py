"""Run an action on a schedule, or change how.

Whoever asks needs the grant for that action with these parameters, too: see `schedules` in kit/spec.py.
"""

from __future__ import annotations

from .. import registry
from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.cronjob import FOLDER
from ..kit.scheduled import check
from ..kit.watch import TIMER
from ._shared import CRON_FOLDER, CRON_UNIT, NAME, SCHEDULE, SETTINGS, ZONE, install, job_of


@action(
    "cron.add",
    "Run an action on a schedule",
    kind="change",
    timeout=600,
    writes=(FOLDER, CRON_FOLDER),
    units=(CRON_UNIT, TIMER),
    packages=("cron",),
    host_verbs=("watch-unit",),
    table="cron",
    schedules="action",
    params=[
        NAME,
        SCHEDULE,
        param("action", "action", "Action such as service.restart", complete="action"),
        param("params", "text", "Parameter of that action, as unit=nginx", default=(), many=True),
        ZONE,
        *SETTINGS,
    ],
)
def add(params: Params, probe: Probe) -> Steps:
    try:
        check(registry.load(params.action), params.params)
    except KeyError:
        raise Refused(f"there is no action {params.action}") from None
    except ValueError as error:
        raise Refused(str(error)) from None
    return (yield from install(probe, job_of(params, action=params.action, params=tuple(params.params))))
