"""Give this server a new identity key or SSH host key, in stages that its clients follow."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "server.rekey",
    "Give this server a new identity key or SSH host key, in stages that its clients follow",
    kind="task",
    profile="core",
    locks=("server",),
    timeout=60,
    params=(
        param("kind", "name", "Which key", choices=("identity", "host")),
        param(
            "stage",
            "name",
            "Make the next key, put it in its place, or drop it",
            choices=("prepare", "activate", "discard"),
        ),
        param("key", "sshkey", "With activate: the prepared public key, as the fleet has pinned it", default=""),
    ),
)
def rekey(_: Params, __: Probe) -> None:
    by_the_runner()
