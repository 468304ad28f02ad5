"""Show the change that waits for confirmation."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "safe.status",
    "Show the change that waits for confirmation",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def status(_: Params, __: Probe) -> None:
    by_the_runner()
