"""Which zones a name server has."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ..kit.powerdns import DATA_FOLDER
from . import _rows
from ._ds import ds_of


@action(
    "dns.zones",
    "List the zones of a name server, and what their parents have to publish",
    kind="read",
    timeout=60,
    reads=(DATA_FOLDER,),
)
def zones(_: Params, probe: Probe) -> dict[str, Any]:
    return {
        "zones": [
            {
                "zone": each.name,
                "kind": each.kind,
                "serial": each.serial,
                "nameservers": each.nameservers,
                "primaries": each.primaries,
                "catalog": each.catalog,
                "dnssec": each.signed,
                "ds": ds_of(probe, each.name) if each.signed else [],
            }
            for each in _rows.zones(probe)
        ]
    }
