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
    params=(param("since", "integer", "First sequence number", default=1, minimum=1),),
)
def read(_: Params, __: Probe) -> None:
    by_the_runner()
