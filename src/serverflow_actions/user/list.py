"""The people who have an account."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action, param
from ._shared import person


@action(
    "user.list",
    "List users",
    kind="read",
    params=[param("system", "boolean", "Accounts of the system too", default=False)],
)
def list_users(params: Params, probe: Probe) -> dict[str, Any]:
    # passwd(5) itself: getpwent would also ask directories on the network.
    lines = (probe.read("/etc/passwd") or b"").decode("utf-8", "replace").splitlines()
    found = [user for user in (probe.user(line.split(":", 1)[0]) for line in lines if ":" in line) if user]
    shown = [user for user in found if person(user) or params.system]
    return {
        "users": [
            {"name": user.name, "uid": user.uid, "groups": list(user.groups), "home": user.home, "shell": user.shell}
            for user in sorted(shown, key=lambda user: user.uid)
        ]
    }
