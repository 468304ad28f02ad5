"""Try a channel."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "notify.test",
    "Send a test alert through a channel now, and tell what the other side said",
    kind="task",
    profile="core",
    locks=(),
    timeout=60,
    params=(NAME,),
)
def test(_: Params, __: Probe) -> None:
    by_the_runner()
