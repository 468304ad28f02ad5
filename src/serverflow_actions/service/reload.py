"""Make a unit read its configuration again."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import UnitVerb
from ._shared import UNIT, reloadable


@action(
    "service.reload",
    "Make a unit read its configuration again",
    kind="task",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    params=[UNIT],
)
def reload(params: Params, probe: Probe) -> Steps:
    reloadable(probe, params.unit)
    yield UnitVerb(params.unit, "reload")
