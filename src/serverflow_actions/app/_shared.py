"""What the verbs of this area share: where an app's data may live, and which user it may run as."""

from __future__ import annotations

import re

from ..kit import Probe, Refused
from ..kit.apps import AppRecord, app_records
from ..kit.groups import ROOT_GROUPS
from ..kit.probe import UserState
from ..kit.spec import Param, param

NAME: Param = param("name", "name", "App name", positional=True, complete="app")

#: No hidden names: ~/.ssh and ~/.config would let the app's files log in or run as a person.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z", re.ASCII)


NOLOGIN = "/usr/sbin/nologin"


def mark(app: str) -> str:
    """The passwd(5) comment of an account that was made for an app. Only root can change it: nobody logs in there."""
    return f"ServerFlow app {app}"


def made_for(user: UserState | None, app: str) -> bool:
    return user is not None and user.comment == mark(app)


def check_user(probe: Probe, app: str, name: str) -> None:
    """An app runs as an account of its own, or as a person's who cannot become root. Raises Refused."""
    found = probe.user(name)
    if found is None:
        if name.startswith("serverflow"):
            raise Refused("names that start with serverflow are kept for ServerFlow itself")
        if probe.group(name):
            raise Refused(f"there is already a group {name}: choose another user")
        return
    if made_for(found, app):
        return
    if not 1000 <= found.uid < 60000 or name.startswith("serverflow"):
        raise Refused(f"{name} is an account of the system (uid {found.uid}): the app needs a user of its own")
    rooted = sorted(ROOT_GROUPS.intersection((found.group, *found.groups)))
    if rooted:
        raise Refused(f"{name} can become root (group {', '.join(rooted)}): the app needs a user of its own")


def check_data(probe: Probe, app: str, user: str, folders: tuple[str, ...], old: AppRecord | None) -> None:
    """Data lives where root neither executes nor configures anything, and where nothing else lives. Raises Refused."""
    for folder in folders:
        parts = folder.split("/")[1:]
        allowed = len(parts) > 1 if parts[0] == "srv" else len(parts) > 2 and parts[:2] == ["home", user]
        if not allowed or not all(map(_PART.match, parts)):
            raise Refused(
                f"{folder}: an app's data lives in /srv/… or in a folder of /home/{user}, without hidden parts"
            )
        _check_place(probe, folder, user, old)
        for other in app_records(probe):
            clash = [theirs for theirs in other.data if other.name != app and overlaps(theirs, folder)]
            if clash:
                raise Refused(f"{folder} overlaps with {clash[0]} of the app {other.name}")


def overlaps(one: str, other: str) -> bool:
    """Whether one of two folders is, or contains, the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _check_place(probe: Probe, folder: str, user: str, old: AppRecord | None) -> None:
    for above in parents(folder):
        state = probe.stat(above)
        if state and state.kind != "directory":
            raise Refused(f"{above} is a {state.kind}, not a folder")
    state = probe.stat(folder)
    if not state:
        return
    if state.kind != "directory":
        raise Refused(f"{folder} is a {state.kind}, not a folder")
    taken = state.owner != user and not (old and folder in old.data)
    if taken and probe.names(folder):
        raise Refused(f"{folder} belongs to {state.owner} and is not empty: the app cannot take it over")


def parents(folder: str) -> list[str]:
    """The folders above, below /srv or /home/USER, from the outermost on: `/srv/a/b/c` → `/srv/a`, `/srv/a/b`."""
    parts = folder.split("/")[1:]
    first = 1 if parts[0] == "srv" else 2
    return ["/" + "/".join(parts[:end]) for end in range(first + 1, len(parts))]
