"""What became of the alerts."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "notify.status",
    "Show what was sent lately, what waits and what was given up",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def status(_: Params, __: Probe) -> None:
    by_the_runner()
