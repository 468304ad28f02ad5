"""Take the firewall's rules out of force."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.firewall import FOLDER, RULES, UNIT
from ..kit.steps import File, Service
from ._shared import FirewallUnit


@action(
    "firewall.disable",
    "Take the firewall away: what others have set up stays",
    kind="change",
    timeout=120,
    writes=(FOLDER,),
    units=(UNIT,),
    host_verbs=("firewall-unit",),
    safe="always",
    resource="firewall.all",
)
def disable(_params: Params, _probe: Probe) -> Steps:
    yield Service(UNIT, running=False, enabled=False)
    yield FirewallUnit(absent=True)
    yield File(RULES, absent=True)
