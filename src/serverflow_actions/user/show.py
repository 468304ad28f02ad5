"""One account."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Refused, action
from ._shared import NAME, app_of, person


@action("user.show", "Show a user", kind="read", params=[NAME])
def show(params: Params, probe: Probe) -> dict[str, Any]:
    found = probe.user(params.name)
    if not found:
        raise Refused(f"there is no user {params.name}")
    return {
        "name": found.name,
        "uid": found.uid,
        "group": found.group,
        "groups": list(found.groups),
        "home": found.home,
        "shell": found.shell,
        "comment": found.comment,
        "system": not person(found),
        "app": app_of(probe, found.name),
    }
