"""The state of one unit."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ._shared import UNIT, known, row


@action("service.status", "Show a unit's state", kind="read", params=[UNIT])
def status(params: Params, probe: Probe) -> dict[str, Any]:
    return row(known(probe, params.unit), probe.now())
