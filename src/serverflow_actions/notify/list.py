"""The channels of a server."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "notify.list",
    "List the channels for alerts, without their secrets",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def list_channels(_: Params, __: Probe) -> None:
    by_the_runner()
