"""Stop a unit that runs."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.lifelines import LIFELINES
from ..kit.steps import Service
from ._shared import UNIT, stoppable


@action(
    "service.stop",
    "Stop a unit; it starts again at the next boot if it is enabled",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *LIFELINES),
    params=[UNIT],
)
def stop(params: Params, probe: Probe) -> Steps:
    stoppable(probe, params.unit)
    yield Service(params.unit, running=False, enabled=None)
