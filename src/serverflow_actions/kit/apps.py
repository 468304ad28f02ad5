"""What an app may touch: /etc/serverflow/apps/NAME.json.

Written by the actions of the area app only, read by all that act for an app.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from . import cronjob
from .probe import HostError, Probe
from .refused import Refused

FOLDER = "/etc/serverflow/apps"


class AppRecord(NamedTuple):
    """An app: the user that it runs as, the folders that are its own, its units, and its port (0: none)."""

    name: str
    user: str
    data: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    port: int = 0

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}.json"

    def as_json(self) -> str:
        """The file's content."""
        data = {"data": list(self.data), "name": self.name, "port": self.port, "units": list(self.units)}
        return json.dumps({"v": 1, "user": self.user, **data}, sort_keys=True) + "\n"


def app_record(probe: Probe, name: str) -> AppRecord | None:
    """The app of that name. Raises HostError when its file is damaged."""
    found = probe.read(f"{FOLDER}/{name}.json")
    if found is None:
        return None
    try:
        value = json.loads(found)
        if value["v"] != 1 or value["name"] != name:
            raise ValueError("wrong version or name")
        return AppRecord(name, value["user"], tuple(value["data"]), tuple(value["units"]), value["port"])
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(f"{FOLDER}/{name}.json is damaged: {error}") from error


def existing_app(probe: Probe, name: str) -> AppRecord:
    """The app of that name; refused when there is none."""
    record = app_record(probe, name)
    if not record:
        raise Refused(f"there is no app {name} on this server")
    return record


def app_records(probe: Probe) -> list[AppRecord]:
    """All apps, by name."""
    names = [name[: -len(".json")] for name in probe.names(FOLDER) if name.endswith(".json") and name[0] != "."]
    return [record for record in (app_record(probe, name) for name in sorted(names)) if record]


def jobs_of(probe: Probe, app: str) -> list[str]:
    """The jobs that run as this app's user. A damaged one names nobody, and does not run."""
    found = []
    for file in probe.names(cronjob.FOLDER):
        try:
            job = cronjob.from_json(probe.read(f"{cronjob.FOLDER}/{file}", follow=False) or b"")
        except (ValueError, HostError):
            continue
        if job.app == app:
            found.append(job.name)
    return found
