"""Show what a safe change did and how it ended."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "safe.show",
    "Show what a safe change did and how it ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=60,
    params=(param("op", "ulid", "Operation id", positional=True),),
)
def show(_: Params, __: Probe) -> None:
    by_the_runner()
