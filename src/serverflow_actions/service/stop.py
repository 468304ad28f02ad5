"""Stop a unit that runs."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import Service
from ._shared import UNIT, WAYS_IN, stoppable


@action(
    "service.stop",
    "Stop a unit; it starts again at the next boot if it is enabled",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *WAYS_IN),
    params=[UNIT],
)
def stop(params: Params, probe: Probe) -> Steps:
    stoppable(probe, params.unit)
    yield Service(params.unit, running=False, enabled=None)
