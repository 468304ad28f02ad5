"""A job of cron as it stands on its server: /etc/serverflow/cron/NAME.json.

Written by the actions of the area cron, and by the executor when it disables one; read by what fires and runs them.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from . import argv, grammar
from . import schedule as schedules

FOLDER = "/etc/serverflow/cron"
CRONTAB = "/etc/cron.d/serverflow"
OVERLAPS = ("skip", "wait", "kill")


class Job(NamedTuple):
    """A job, which has either an app and its command, or an action and its parameters.

    schedule          crontab(5), see schedule.py; `timezone` says by which clock
    disabled_because  why the server has disabled it; "" when people did
    command           argv: no shell reads it
    params            KEY=VALUE, of the action
    timeout           seconds, for one attempt
    memory            bytes, of a command; 0 for an action, which has its own
    overlap           when the run before is still going: skip this one, wait for that one, or kill that one
    retries           further attempts after a failure; `retry_delay` seconds before the first, twice that before each
                      next one
    catch_up          one run after the machine was down at its time
    late              seconds after which a start counts as late
    """

    name: str
    schedule: str
    timezone: str = "UTC"
    enabled: bool = True
    disabled_because: str = ""
    app: str = ""
    command: tuple[str, ...] = ()
    action: str = ""
    params: tuple[str, ...] = ()
    timeout: int = 3600
    memory: int = 0
    overlap: str = "skip"
    retries: int = 0
    retry_delay: int = 60
    catch_up: bool = False
    late: int = 300

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}.json"

    def as_json(self) -> str:
        """The file's content: the same job is the same bytes."""
        return json.dumps({"v": 1, **self._asdict()}, sort_keys=True) + "\n"


def from_json(content: bytes) -> Job:
    """The job that `as_json` wrote; a version before this one may have known fewer fields. Raises ValueError."""
    try:
        value: dict[str, Any] = json.loads(content)
        if value.pop("v") != 1:
            raise ValueError("not a job of version 1")
        fields: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
        job = Job(**fields)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not the fields of a job: {error}") from error
    _check(job)
    return job


def _check(job: Job) -> None:
    for field, default in Job._field_defaults.items():
        found: Any = getattr(job, field)
        if type(found) is not type(default) or (isinstance(found, int) and found < 0):
            raise ValueError(f"{field} has a wrong type or value")
    if not all(isinstance(each, str) and each.isprintable() for each in (job.disabled_because, *job.params)):
        raise ValueError("disabled_because or params have a wrong type or control characters")
    grammar.name(job.name)
    grammar.timezone(job.timezone)
    schedules.parse(job.schedule)
    if job.overlap not in OVERLAPS:
        raise ValueError(f"overlap is not one of {', '.join(OVERLAPS)}")
    if bool(job.app) == bool(job.action):
        raise ValueError("it has neither an app nor an action, or both")
    if not job.timeout:
        raise ValueError("it has no timeout")
    if job.app:
        grammar.name(job.app)
        argv.check(job.command)
        if job.params or not job.memory:
            raise ValueError("a command has a limit of its memory, and no params")
    else:
        grammar.action(job.action)
        if job.command or job.memory:
            raise ValueError("an action has no command and no memory")
