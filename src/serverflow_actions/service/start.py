"""Start a unit that does not run."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.lifelines import LIFELINES
from ..kit.steps import Service
from ._shared import UNIT, startable


@action(
    "service.start",
    "Start a unit",
    kind="change",
    profile="svc",
    timeout=120,
    units=("{unit}",),
    lifelines=("unit", *LIFELINES),
    params=[UNIT],
)
def start(params: Params, probe: Probe) -> Steps:
    startable(probe, params.unit)
    yield Service(params.unit, running=True, enabled=None)
