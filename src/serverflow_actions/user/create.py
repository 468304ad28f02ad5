"""Make an account for a person, or bring it up to date."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.groups import ROOT_GROUPS
from ..kit.steps import AuthorizedKeys, User
from ._shared import NAME, existing, home_of


@action(
    "user.create",
    "Create a user, without a password, who logs in by key",
    kind="change",
    profile="account",
    safe="always",
    writes=("/home",),
    accounts=True,
    table="users",
    params=[
        NAME,
        param("key", "sshkey", "Public key that opens the account", default=(), many=True),
        param("groups", "username", "Further groups to be in", default=(), many=True),
        param("shell", "path", "Login shell, one of /etc/shells; /bin/bash for a new user", default=""),
        param("comment", "gecos", "Full name or remark", default=None),
        param(
            "allow-root-groups", "boolean", "Allow groups that amount to root, such as sudo or docker", default=False
        ),
    ],
)
def create(params: Params, probe: Probe) -> Steps:
    name, found = params.name, probe.user(params.name)
    if found:
        existing(probe, name)
    elif name.startswith("serverflow"):
        raise Refused("names that start with serverflow are kept for ServerFlow itself")
    elif probe.group(name):
        raise Refused(f"there is already a group {name}")
    _check_groups(params, probe)
    shell = params.shell or (None if found else "/bin/bash")
    shells = (probe.read("/etc/shells") or b"").decode("utf-8", "replace").split("\n")
    if shell and shell not in shells:
        raise Refused(f"{shell} is not in /etc/shells")
    home = home_of(found) if found and params.key else f"/home/{name}"
    yield User(name, shell, None if found else home, params.comment, tuple(params.groups))
    if params.key:
        yield AuthorizedKeys(name, home, add=tuple(params.key))


def _check_groups(params: Params, probe: Probe) -> None:
    missing = [group for group in params.groups if not probe.group(group)]
    if missing:
        raise Refused(f"there is no group {', '.join(missing)}")
    rooted = sorted(ROOT_GROUPS.intersection(params.groups))
    if rooted and not params.allow_root_groups:
        raise Refused(f"whoever is in {', '.join(rooted)} can become root: say allow-root-groups if that is meant")
    if "serverflow" in rooted:
        raise Refused("the group serverflow is kept for ServerFlow itself")
