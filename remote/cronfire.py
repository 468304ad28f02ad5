"""`runner fire NAME`: cron's line says that a job may be due. Look whether it is, and start its run, as its own unit.

Quick, and silent: cron would mail what is said here. Nothing of the run stays in cron's control group.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence

import cronjobs
import layout
import store
from serverflow_actions.kit.cronjob import Job
from serverflow_actions.kit.schedule import parse

#: A line may fire this long after the job's time.
GRACE_S = 300
#: Debian's cron does not repeat what runs at fixed times when its clock is set back by less, as daylight saving does;
#: by more, and the clock was wrong before (cron(8)).
_SET_BACK_S = 3 * 3600


def fire(name: str) -> None:
    """Raises ValueError for what is no name."""
    with cronjobs.alone(name):
        found = cronjobs.read(name)
        if found is None or found.job is None or not found.job.enabled:
            return  # its line goes with the next change; one that was changed by hand is the watch's to tell
        now = cronjobs.now()
        due = due_now(found.job, now, cronjobs.state(name).get("last_due", 0))
        if due is None:
            return
        cronjobs.set_state(name, last_due=due)
    launch(name, due, "schedule", "")


def due_now(job: Job, now: int, last_due: int) -> int | None:
    """The time that it is due for and has not run for yet, in seconds; None for none."""
    schedule = parse(job.schedule)
    due = schedule.previous(now, job.timezone)
    if due is None or now - due > GRACE_S:
        return None
    if due > last_due:
        return due
    # The clock was set back.
    is_new = last_due > now and (last_due - now > _SET_BACK_S or schedule.by_clock)
    return due if is_new else None


def launch(name: str, due: int, trigger: str, by: str, run: str = "") -> str:
    """Start a run; returns its id. Where not even that is possible its record says so."""
    run = run or store.new_id()
    argv = [
        "systemd-run",
        "--no-block",
        "--collect",
        "--quiet",
        f"--unit={supervisor_unit(name, run)}",
        *(f"--property={line}" for line in _PROPERTIES),
        "--",
        layout.RUNNER,
        "cron-run",
        name,
        run,
        str(due),
        trigger,
        by,
    ]
    said = _started(argv)
    if said:
        _never_began(name, run, due, trigger, by, said)
    return run


#: First the supervisor is told, and ends the job; what then is left is killed.
_PROPERTIES = ("KillMode=mixed", "OOMScoreAdjust=-500", "TimeoutStopSec=30", "UMask=0077", "LogLevelMax=notice")


def supervisor_unit(name: str, run: str) -> str:
    return f"serverflow-cron-{name}-{run.lower()}.service"


def _started(argv: Sequence[str]) -> str:
    """Why systemd did not take it; "" when it did."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()[-300:] or "systemd refused it"


def _never_began(name: str, run: str, due: int, trigger: str, by: str, said: str) -> None:
    import alerts
    import cronlog

    message = f"systemd did not start it: {said}"
    at = store.now_ms()
    line = {"t": "end", "run": run, "due": due * 1000, "started": at, "ended": at, "trigger": trigger, "by": by}
    with contextlib.suppress(OSError):
        cronlog.append(name, {**line, "outcome": "failed", "message": message})
    alerts.emit("cron.failed", f"cron.failed/{name}", f"Cron job {name} was not started", message)
