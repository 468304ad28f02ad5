"""Take an app away."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.apps import FOLDER, app_record, jobs_of
from ..kit.steps import Directory, File, User
from ._shared import NAME, check_data, made_for


@action(
    "app.remove",
    "Remove an app; its data and its user stay unless they are purged",
    kind="change",
    profile="account",
    timeout=600,
    writes=(FOLDER, "/srv", "/home"),
    accounts=True,
    destructive=True,
    table="apps",
    params=[NAME, param("purge-data", "boolean", "Delete its data folders and its own user too", default=False)],
)
def remove(params: Params, probe: Probe) -> Steps:
    record = app_record(probe, params.name)
    if not record:
        return
    jobs = jobs_of(probe, record.name)
    if jobs:
        raise Refused(f"cron jobs run as this app: {', '.join(jobs)}; first: sf cron remove {jobs[0]}")
    if params.purge_data:
        check_data(probe, record.name, record.user, record.data, record)
        for folder in record.data:
            yield Directory(folder, absent=True, purge=True)
        # Kept with the data otherwise: a new account could be given the old number, and all these files with it.
        if made_for(probe.user(record.user), record.name):
            yield User(record.user, absent=True, purge_home=True)
    yield File(record.path, absent=True)
