"""The jobs of a server."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "cron.list",
    "List jobs, when each runs next and how its last run ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def list_jobs(_: Params, __: Probe) -> None:
    by_the_runner()
