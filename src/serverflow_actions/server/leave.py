"""Take ServerFlow off this server; apps, their users and their data stay."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "server.leave",
    "Take ServerFlow off this server; apps, their users and their data stay",
    kind="task",
    profile="core",
    locks=("server",),
    timeout=60,
    params=(param("confirm", "sha256", "The server id, to be sure"),),
)
def leave(_: Params, __: Probe) -> None:
    by_the_runner()
