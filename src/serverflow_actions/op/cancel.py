"""Kill a running operation with everything that it started."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "op.cancel",
    "Kill a running operation with everything that it started",
    kind="task",
    profile="core",
    locks=(),
    timeout=60,
    params=(param("op", "ulid", "Operation id", positional=True),),
)
def cancel(_: Params, __: Probe) -> None:
    by_the_runner()
