"""What the verbs of this area share: which accounts they keep away from."""

from __future__ import annotations

from ..kit import Probe, Refused
from ..kit.apps import app_records
from ..kit.probe import UserState
from ..kit.spec import Param, param

NAME: Param = param("name", "username", "User name", positional=True, complete="user")


def person(found: UserState) -> bool:
    """Whether it is an ordinary account: the range that adduser(8) gives to people."""
    return 1000 <= found.uid < 60000 and not found.name.startswith("serverflow")


def existing(probe: Probe, name: str) -> UserState:
    """A person's account; refused when there is none or when it belongs to the system."""
    found = probe.user(name)
    if not found:
        raise Refused(f"there is no user {name}")
    if not person(found):
        raise Refused(f"{name} is an account of the system (uid {found.uid}); only people's accounts are changed here")
    return found


def home_of(found: UserState) -> str:
    """The home, where the sandbox can write keys."""
    if not found.home.startswith("/home/"):
        raise Refused(f"the home of {found.name} is {found.home}, which is not below /home")
    return found.home


def app_of(probe: Probe, user: str) -> str:
    """The app that runs as this user, or ""."""
    return next((record.name for record in app_records(probe) if record.user == user), "")
