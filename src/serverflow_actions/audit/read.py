"""Read the server's chain of receipts."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "audit.read",
    "Read the server's chain of receipts",
    kind="read",
    profile="core",
    locks=(),
    timeout=60,
    params=(
        param("segment", "integer", "Which segment of the chain; 0 for the checkpoints", default=0, minimum=0),
        param("offset", "integer", "Where in it to begin, in bytes", default=0, minimum=0),
    ),
)
def read(_: Params, __: Probe) -> None:
    by_the_runner()
