"""The firewall's rules."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ..kit.firewall import RULES, UNIT
from ._shared import written


@action("firewall.list", "Show the firewall's rules, and whether they are in force", kind="read")
def list_rules(_params: Params, probe: Probe) -> dict[str, Any]:
    text = (probe.read(RULES, follow=False) or b"").decode("utf-8", "replace")
    unit = probe.unit(UNIT)
    found: dict[str, list[str]] = {"deny": [], "ssh": [], "allow": []}
    for does, rule in written(text):
        found[does].append(rule)
    return {"active": unit.active, "enabled": unit.enabled or "disabled", **found}
