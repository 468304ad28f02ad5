"""Remove a person's account."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.steps import User
from ._shared import NAME, app_of, existing, home_of


@action(
    "user.remove",
    "Remove a user; the home stays unless it is purged",
    kind="change",
    profile="account",
    safe="always",
    writes=("/home",),  # a purged home is put aside
    accounts=True,
    destructive=True,
    table="users",
    params=[NAME, param("purge-home", "boolean", "Delete the home folder too", default=False)],
)
def remove(params: Params, probe: Probe) -> Steps:
    if probe.user(params.name):
        found = existing(probe, params.name)
        if params.purge_home:
            home_of(found)
    app = app_of(probe, params.name)
    if app:
        raise Refused(f"the app {app} runs as {params.name}: remove the app first")
    yield User(params.name, absent=True, purge_home=params.purge_home)
