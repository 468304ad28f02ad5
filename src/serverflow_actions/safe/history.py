"""List the safe changes of the past and how each of them ended."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "safe.history",
    "List safe changes and how each of them ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=60,
    params=(param("limit", "integer", "How many, newest first", default=20, minimum=1, maximum=200),),
)
def history(_: Params, __: Probe) -> None:
    by_the_runner()
