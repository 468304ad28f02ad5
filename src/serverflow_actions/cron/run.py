"""Run a job now."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "cron.run",
    "Run a job now, whatever its schedule is",
    kind="task",
    profile="core",
    locks=(),
    timeout=60,
    params=(NAME,),
)
def run(_: Params, __: Probe) -> None:
    by_the_runner()
