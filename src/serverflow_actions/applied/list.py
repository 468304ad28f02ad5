"""List what was last applied for each resource, by whom and when."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "applied.list",
    "List what was last applied for each resource, by whom and when",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def list(_: Params, __: Probe) -> None:
    by_the_runner()
