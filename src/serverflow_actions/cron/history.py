"""The runs of a job."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "cron.history",
    "List the runs of a job and how each of them ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
    params=(
        NAME,
        param("limit", "integer", "How many, newest first", default=20, minimum=1, maximum=1000),
    ),
)
def history(_: Params, __: Probe) -> None:
    by_the_runner()
