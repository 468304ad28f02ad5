"""List the operations that a server remembers, newest first."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "op.list",
    "List the operations that a server remembers, newest first",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
    params=(param("limit", "integer", "How many", default=50, minimum=1, maximum=500),),
)
def list(_: Params, __: Probe) -> None:
    by_the_runner()
