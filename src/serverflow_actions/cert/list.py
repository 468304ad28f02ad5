"""The certificates of a server."""

from __future__ import annotations

from ..kit import Params, Probe, action
from ..kit.core import by_the_runner


@action(
    "cert.list",
    "List certificates, when each is renewed and why then, and how the last attempt ended",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
)
def list_certificates(_: Params, __: Probe) -> None:
    by_the_runner()
