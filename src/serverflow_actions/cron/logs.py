"""What a run of a job wrote."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "cron.logs",
    "Show what a run of a job wrote: its first and last 32 KiB",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
    params=(
        NAME,
        param("run", "ulid", "Which run; the last one when left out", default=""),
    ),
)
def logs(_: Params, __: Probe) -> None:
    by_the_runner()
