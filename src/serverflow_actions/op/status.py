"""Tell how an operation ended, with its signed receipt."""

from __future__ import annotations

from ..kit import Params, Probe, action, param
from ..kit.core import by_the_runner


@action(
    "op.status",
    "Tell how an operation ended, with its signed receipt",
    kind="read",
    profile="core",
    locks=(),
    timeout=20,
    params=(param("op", "ulid", "Operation id", positional=True),),
)
def status(_: Params, __: Probe) -> None:
    by_the_runner()
