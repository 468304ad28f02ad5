"""What the runner answers about jobs itself: list, show, history, logs, run. Times in ms since 1970, 0 for none."""

from __future__ import annotations

from itertools import islice
from typing import Any

import cronfire
import cronjobs
import cronlog
import cronturn
import cronvouch
from messages import Denied
from serverflow_actions.kit.schedule import parse

_SOME = 5


def cron_list() -> dict[str, Any]:
    """All jobs. A damaged one has its name and `problem` alone."""
    zone = cronjobs.server_zone()
    return {"jobs": [_summary(found) for found in cronjobs.everything()], "server_timezone": zone}


def cron_show(name: str) -> dict[str, Any]:
    """One job, its next times (`upcoming`) and its last runs. Raises Denied."""
    found = _found(name)
    runs = [cronlog.told(run) for run in cronlog.runs(name)[:_SOME]]
    return {**_summary(found), "upcoming": _next(found, _SOME), "runs": runs, "server_timezone": cronjobs.server_zone()}


def cron_history(name: str, limit: int) -> dict[str, Any]:
    """Its runs, newest first, also of a job that is not there any more. Raises Denied."""
    runs = [cronlog.told(run) for run in cronlog.runs(name)[:limit]]
    if not runs:
        _found(name)
    return {"name": name, "runs": runs}


def cron_logs(name: str, run: str) -> dict[str, Any]:
    """What a run wrote, as far as it is kept, and its record; `run` is "" for the newest of which something is kept.
    Raises Denied.
    """
    runs = cronlog.runs(name)
    if not runs:
        _found(name)
    wanted = [one for one in runs if run in ("", one["run"])]
    if not wanted:
        raise Denied("action-failed", f"{name} has no run {run}" if run else f"{name} has not run yet")
    for one in wanted:
        output = cronlog.output(name, one["run"])
        if output:
            return {"name": name, "run": one["run"], "record": cronlog.told(one), "kept": True, **output}
    nothing = {"head": "", "tail": "", "length": 0, "omitted": 0}
    return {"name": name, "run": wanted[0]["run"], "record": cronlog.told(wanted[0]), "kept": False, **nothing}


def cron_run(name: str, by: str) -> dict[str, Any]:
    """Start it now, as far as it may run; `by` is the name of the key that asks. Raises Denied."""
    found = _found(name)
    standing = cronvouch.standing(found)
    if standing.problem:
        raise Denied("action-failed", f"the job {name} does not run: {standing.said}")
    return {"name": name, "run": cronfire.launch(name, 0, "manual", by)}


def _found(name: str) -> cronjobs.Found:
    found = cronjobs.read(name)
    if found is None:
        raise Denied("action-failed", f"there is no job {name} on this server")
    return found


def _summary(found: cronjobs.Found) -> dict[str, Any]:
    """The job's fields as in its file, and how it stands: `problem` is "", changed or disabled, `said` why. `installed`
    is when; `next` 0 for never; `running` the id of the run that goes on, or "".
    """
    standing = cronvouch.standing(found)
    runs = cronlog.runs(found.name)
    job = found.job._asdict() if found.job else {"name": found.name}
    following = _next(found, 1) if not standing.problem else []
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in job.items()},
        "problem": standing.problem,
        "said": standing.said,
        "installed": standing.since,
        "installed_by": standing.name,
        "op": standing.op,
        "next": following[0] if following else 0,
        "running": cronturn.holder(found.name),
        "last": cronlog.told(runs[0]) if runs else None,
    }


def _next(found: cronjobs.Found, count: int) -> list[int]:
    if found.job is None or not found.job.enabled:
        return []
    try:
        runs = parse(found.job.schedule).following(cronjobs.now(), found.job.timezone)
    except ValueError:
        return []
    return [run * 1000 for run in islice(runs, count)]
