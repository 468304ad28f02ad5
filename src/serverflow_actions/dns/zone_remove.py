"""Take a zone away."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action
from ._rows import zones
from ._shared import ZONE
from ._zone import NoZone


@action(
    "dns.zone-remove",
    "Remove a zone with all its records and keys",
    kind="change",
    host_verbs=("dns-remove",),
    destructive=True,
    resource="dns.zone.{zone}",
    params=[ZONE],
)
def remove(params: Params, probe: Probe) -> Steps:
    members = [each.name for each in zones(probe) if each.catalog == params.zone]
    if members:
        raise Refused(f"{params.zone} is the catalog of {', '.join(members)}: those first")
    yield NoZone(params.zone)
