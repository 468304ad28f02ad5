"""Try from the server whether what should answer does.

A check makes the server connect to a place that the caller names, also to one that only the server reaches, and tells
whether something answers there (server-side request forgery, on wish). So it is an action with a grant of its own, and
no part of confirming.
"""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "safe.check",
    "Try from the server whether what should answer does",
    kind="read",
    profile="core",
    locks=(),
    timeout=30,
    params=(
        param(
            "expect",
            "text",
            "What to expect: `tcp HOST:PORT`, `http URL STATUS`, `unit NAME active`, `dns NAME A`; at most 16",
            many=True,
        ),
    ),
)
def check(_: Params, __: Probe) -> None:
    by_the_runner()
