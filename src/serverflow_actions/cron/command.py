"""Run a command line of an app on a schedule, as the app's user, or change how.

The one place where a server is told what to execute. See docs/adr/0019-cron-jobs.md for what it can and cannot do.
"""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.apps import existing_app
from ..kit.argv import check
from ..kit.cronjob import FOLDER
from ..kit.watch import TIMER
from ._shared import CRON_FOLDER, CRON_UNIT, NAME, SCHEDULE, SETTINGS, ZONE, install, job_of


@action(
    "cron.command",
    "Run a command line of an app on a schedule, as the app's user",
    kind="change",
    timeout=600,
    writes=(FOLDER, CRON_FOLDER),
    units=(CRON_UNIT, TIMER),
    packages=("cron",),
    host_verbs=("watch-unit",),
    table="cron",
    params=[
        NAME,
        SCHEDULE,
        param("app", "name", "App whose user runs it, in its first data folder", complete="app"),
        # Words of a command line may begin with a dash, and kit/argv.py looks at each: it is no option of ours.
        param("command", "document", "Word of the command line, the program first", many=True),
        ZONE,
        param("memory", "size", "Memory for a run; 512MiB when left out", default=512 << 20, minimum=16 << 20),
        *SETTINGS,
    ],
)
def command(params: Params, probe: Probe) -> Steps:
    try:
        check(params.command)
    except ValueError as error:
        raise Refused(str(error)) from None
    existing_app(probe, params.app)
    job = job_of(params, app=params.app, command=tuple(params.command), memory=params.memory)
    return (yield from install(probe, job))
