"""Restart a unit, whatever its state is."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.lifelines import LIFELINES
from ..kit.steps import UnitVerb
from ._shared import UNIT, restartable


@action(
    "service.restart",
    "Restart a unit",
    kind="task",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *LIFELINES),
    params=[UNIT],
)
def restart(params: Params, probe: Probe) -> Steps:
    restartable(probe, params.unit)
    yield UnitVerb(params.unit, "restart")
