"""Let a unit start at boot."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.lifelines import LIFELINES
from ..kit.steps import Service
from ._shared import UNIT, startable


@action(
    "service.enable",
    "Let a unit start at boot",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *LIFELINES),
    params=[UNIT],
)
def enable(params: Params, probe: Probe) -> Steps:
    startable(probe, params.unit)
    yield Service(params.unit, running=None, enabled=True)
