"""Keep a unit from starting at boot."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.lifelines import LIFELINES
from ..kit.steps import Service
from ._shared import UNIT, disablable


@action(
    "service.disable",
    "Keep a unit from starting at boot",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *LIFELINES),
    params=[UNIT],
)
def disable(params: Params, probe: Probe) -> Steps:
    disablable(probe, params.unit)
    yield Service(params.unit, running=None, enabled=False)
