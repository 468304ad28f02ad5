"""Keep a unit from starting at boot."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import Service
from ._shared import UNIT, WAYS_IN, stoppable


@action(
    "service.disable",
    "Keep a unit from starting at boot",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *WAYS_IN),
    params=[UNIT],
)
def disable(params: Params, probe: Probe) -> Steps:
    stoppable(probe, params.unit)
    yield Service(params.unit, running=None, enabled=False)
