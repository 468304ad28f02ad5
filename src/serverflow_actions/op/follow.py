"""Follow an operation until it has ended."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "op.follow",
    "Follow an operation until it has ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=3600,
    params=(param("op", "ulid", "Operation id", positional=True),),
)
def follow(_: Params, __: Probe) -> None:
    by_the_runner()
