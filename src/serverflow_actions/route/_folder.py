"""Whether nginx's workers may read a folder, and whether they had better not.

nginx says 403 to visitors about the one and serves the other, and says nothing to whoever set it up.
"""

from __future__ import annotations

import posixpath

from ..kit import HostError, Probe
from ..kit.apps import app_records
from ..kit.probe import FileState


def unreadable(probe: Probe, folder: str, user: str) -> list[str]:
    """Sentences: what keeps this user from reading the folder. Access lists (acl(5)) are not looked at."""
    found = probe.user(user)
    groups = {found.group, *found.groups} if found else set()
    path = folder
    while path != "/":
        state = probe.stat(path)
        if not state:
            return [f"there is no folder {path}"]
        if state.kind == "directory" and not _may(state, user, groups, 0o5 if path == folder else 0o1):
            what = f"mode {state.mode:04o}, {state.owner}:{state.group}"
            return [f"{user}, as whom nginx runs, may not read {path} ({what}): visitors will get 403"]
        path = posixpath.dirname(path)
    return []


def apps_within(probe: Probe, folder: str) -> list[str]:
    """Sentences: which apps' data lie here. A folder within the data of one, such as `public`, may be for visitors."""
    try:
        apps = app_records(probe)
    except HostError:
        return []  # a damaged record is told where somebody acts for the app
    return [
        f"{folder} holds all data of the app {app.name}: visitors get what nginx may read of it"
        for app in apps
        if any(f"{data}/".startswith(f"{folder}/") for data in app.data)
    ]


def _may(state: FileState, user: str, groups: set[str], wanted: int) -> bool:
    """`wanted` is read (4) and enter (1), as in the last digit of a mode."""
    shift = 6 if state.owner == user else 3 if state.group in groups else 0
    return state.mode >> shift & wanted == wanted
