"""Keep a change that waits for confirmation."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "safe.confirm",
    "Keep a change that waits for confirmation",
    kind="task",
    profile="core",
    locks=(),
    timeout=60,
    params=(param("op", "ulid", "Operation id", positional=True),),
)
def confirm(_: Params, __: Probe) -> None:
    by_the_runner()
