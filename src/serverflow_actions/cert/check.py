"""Look at a certificate where it is served."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner
from ._shared import NAME


@action(
    "cert.check",
    "Show a certificate, and whether its endpoints serve it right now",
    kind="read",
    profile="core",
    locks=(),
    timeout=120,
    params=(NAME,),
)
def check(_: Params, __: Probe) -> None:
    by_the_runner()
