"""Make a unit read its configuration again."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import UnitVerb
from ._shared import UNIT, startable


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
    startable(probe, params.unit)
    yield UnitVerb(params.unit, "reload")
