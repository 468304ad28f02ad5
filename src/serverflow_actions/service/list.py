"""The services that systemd has loaded."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action, param
from ._shared import row


@action(
    "service.list",
    "List services",
    kind="read",
    params=[param("failed", "boolean", "Only those that have failed", default=False)],
)
def list_services(params: Params, probe: Probe) -> dict[str, Any]:
    units = [unit for unit in probe.units("*.service") if unit.load == "loaded"]
    wanted = [unit for unit in units if unit.active == "failed" or not params.failed]
    return {"services": [row(unit, probe.now()) for unit in sorted(wanted, key=lambda unit: unit.name)]}
