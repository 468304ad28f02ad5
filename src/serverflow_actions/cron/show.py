"""One job."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "cron.show",
    "Show a job, who installed it, and its next and last runs",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
    params=(NAME,),
)
def show(_: Params, __: Probe) -> None:
    by_the_runner()
