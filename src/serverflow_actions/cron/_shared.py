"""What the verbs of this area share: the parameters of a job, and the steps that put one in place or take it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..kit import HostError, Params, Probe, Refused, Steps
from ..kit.change import Change
from ..kit.cronjob import CRONTAB, FOLDER, OVERLAPS, Job, from_json
from ..kit.crontab import render
from ..kit.spec import Param, param
from ..kit.steps import File, Package, Service
from ..kit.watching import unwatch, watch
from ..kit.zone import exists, require, server_zone

CRON_FOLDER = "/etc/cron.d"
CRON_UNIT = "cron.service"

NAME: Param = param("name", "name", "Job name", positional=True, complete="cron")
SCHEDULE: Param = param("schedule", "schedule", "When it runs, as in crontab(5): `15 3 * * *` or @daily")
ZONE: Param = param("timezone", "timezone", "Time zone of the schedule; UTC when left out", default="UTC")
#: How it runs.
SETTINGS: Sequence[Param] = (
    param(
        "timeout", "duration", "How long a run may take; 1h when left out", default=3600, minimum=1, maximum=7 * 86400
    ),
    param(
        "overlap",
        "text",
        "What happens when it is due and still running: skip the new run, wait for the old one, or kill that",
        default="skip",
        choices=OVERLAPS,
    ),
    param("retries", "integer", "How often a run that failed is tried again", default=0, maximum=10),
    param(
        "retry-delay",
        "duration",
        "Time before the first retry, doubled for each one after it; 1m when left out",
        default=60,
        minimum=1,
        maximum=3600,
    ),
    param("catch-up", "boolean", "Run once after the server was down when it was due", default=False),
    param("late", "duration", "From what delay on a start is called late; 5m when left out", default=300, minimum=60),
    param("enabled", "boolean", "Whether the schedule is in force", default=True),
)


def job_of(given: Params, /, **does: Any) -> Job:
    """The job as its file has it; `does` is what differs between a command and an action."""
    return Job(
        name=given.name,
        schedule=given.schedule,
        timezone=given.timezone,
        enabled=given.enabled,
        timeout=given.timeout,
        overlap=given.overlap,
        retries=given.retries,
        retry_delay=given.retry_delay,
        catch_up=given.catch_up,
        late=given.late,
        **does,
    )


def install(probe: Probe, job: Job) -> Steps:
    """The job's file, the crontab with all jobs, and whatever fires them and looks after them. Returns the result."""
    require(probe, job.timezone)
    before = _installed(probe, job.name)
    if before and (before.app, before.action) != (job.app, job.action):
        # A grant for one app, or for one action, is none for the jobs of others that have the same name.
        raise Refused(f"another job is named {job.name} here: remove it first (sf cron remove {job.name})")
    others, damaged = jobs(probe, job.name)
    zone = server_zone(probe)

    yield Package(("cron",))
    # Before the crontab: cron must not fire what is not there.
    yield JobFile(job.path, job.as_json(), 0o600, show_diff=False, before=before, job=job)
    yield _crontab([*others, job], zone)
    yield Service(CRON_UNIT)
    yield from watch()
    told = {"job": job.name, "enabled": job.enabled, "server_timezone": zone}
    return {**told, "damaged": damaged} if damaged else told


def uninstall(probe: Probe, name: str) -> Steps:
    """The reverse. With the last job the crontab goes, and the watch when nothing else needs it."""
    path = f"{FOLDER}/{name}.json"
    others, _ = jobs(probe, name)
    yield _crontab(others, server_zone(probe)) if others else File(CRONTAB, absent=True)
    yield from unwatch(probe, path)
    yield File(path, absent=True)


def _crontab(found: Sequence[Job], zone: str) -> File:
    # Readable by root alone, as the jobs' own files: it tells their command lines. So a plan does not show it, either.
    return File(CRONTAB, render(found, zone), 0o600, show_diff=False)


@dataclass(frozen=True)
class JobFile(File):
    """The file of `job`. Its plan shows the fields that are new or other than `before`, not what else may stand there:
    whoever changed it by hand may have had more in it.
    """

    before: Job | None = None
    job: Job | None = None

    def check(self, probe: Probe) -> Change | None:
        change = super().check(probe)
        if change is None or self.job is None:
            return change
        known = _plain(self.before) if self.before else {}
        fields = {
            key: (known.get(key), value)
            for key, value in _plain(self.job).items()
            if known.get(key) != value and (known or value)
        }
        return change._replace(fields={**change.fields, **fields})


def _plain(job: Job) -> dict[str, Any]:
    """Its fields as JSON has them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in job._asdict().items()}


def _installed(probe: Probe, name: str) -> Job | None:
    """The job of that name; None where there is none, or what is there is damaged."""
    try:
        found = from_json(probe.read(f"{FOLDER}/{name}.json", follow=False) or b"")
    except (ValueError, HostError):
        return None
    return found if found.name == name else None


def jobs(probe: Probe, but: str) -> tuple[list[Job], list[str]]:
    """All jobs but one, and the names of those whose file is damaged: they do not run, and keep no other from it."""
    found, damaged = [], []
    for file in probe.names(FOLDER):
        name = file[: -len(".json")]
        if not file.endswith(".json") or file.startswith(".") or name == but:
            continue
        try:
            job = from_json(probe.read(f"{FOLDER}/{file}", follow=False) or b"")
            if job.name != name or not exists(probe, job.timezone):
                raise ValueError("the file of another job, or a zone that went")
            found.append(job)
        except (ValueError, HostError):
            damaged.append(name)
    return found, damaged
