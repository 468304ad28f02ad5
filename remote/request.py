"""A verified command with all that is decided by, and the checks that its parameters and this server have to pass."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import layout
import store
from messages import Command, Denied
from verify import Signed

#: Reads that tell whether a managed file is as we wrote it.
_MANAGED = ("config.list", "config.show")
_ROUTES = ("route.list", "route.show")


class Request(NamedTuple):
    """`frame` is what arrived, `signed` the same taken apart, `entry` the action's in the registry, `about` what every
    answer says of it, `secrets` the values of the secrets frame.
    """

    frame: bytes
    signed: Signed
    command: Command
    entry: Mapping[str, Any]
    about: dict[str, Any]
    secrets: Mapping[str, str]

    @property
    def job(self) -> dict[str, Any]:
        """What the engine needs to know of it."""
        return {
            "action": self.command.action,
            "module": self.entry["module"],
            "params": dict(self.command.params),
            "confirm_s": self.command.confirm_s,
            "written": self._written(),
        }

    def _written(self) -> dict[str, str]:
        """What the engine may have to compare: of what it may write, or of managed files and routes. No more: the whole
        record can be longer than a line to the worker, and is no other key's business.
        """
        import declared
        import written

        if self.entry["kind"] == "change":
            folders = declared.folders(self.entry, self.command.params)
        elif self.command.action in _MANAGED:
            from serverflow_actions.config._kinds import KINDS

            folders = [kind.path for kind in KINDS.values()]
        elif self.command.action in _ROUTES:
            folders = ["/etc/nginx/conf.d"]
        else:
            return {}
        return {path: sha256 for path, sha256 in written.known().items() if declared.covers(folders, path)}

    @property
    def limits(self) -> tuple[int, int]:
        """Timeout in seconds and memory in bytes: the smaller of what the action allows and what the command asks."""
        timeout, memory = self.entry["timeout"], self.entry["memory"]
        asked = self.command.limits
        return min(timeout, asked.get("timeout_s", timeout)), min(memory, asked.get("memory", memory))


def check_params(request: Request) -> dict[str, Any]:
    """The parser of the action's own declaration, before anything is burned or started. Raises Denied(bad-params)."""
    import jobs
    from serverflow_actions.kit.spec import BadParams

    action = jobs.load(request.command.action, request.entry["module"])
    job = {"params": dict(request.command.params)}
    try:
        return dict(vars(jobs.parsed(action, job, dict(request.secrets))))
    except BadParams as error:
        raise Denied("bad-params", str(error)) from None


def app_user(request: Request) -> str:
    """Whom the engine runs as: root (""), or the user of the app that the parameters name. Raises Denied."""
    if request.entry["run_as"] != "app":
        return ""
    import pwd

    name = request.command.params.get("app") or request.command.params.get("name")
    record = store.read_file(f"{layout.APPS}/{name}.json")
    if record is None:
        raise Denied("bad-params", f"there is no app {name} on this server")
    user = str(json.loads(record)["user"])
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise Denied("action-failed", f"the app's user {user} does not exist") from None
    if found.pw_uid == 0:
        raise Denied("action-failed", "an app does not run as root")
    return user


def check_disk(needed: int) -> None:
    """Room for what is announced and a reserve. Raises Denied(disk-full)."""
    found = os.statvfs(layout.STATE)
    if found.f_bavail * found.f_frsize < needed + (8 << 20):
        raise Denied("disk-full", "not enough room on this server")
