"""The routes of this server."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ._facts import facts
from ._files import routes
from ._nginx import UNIT


@action("route.list", "List the routes of this server", kind="read")
def list_routes(_params: Params, probe: Probe) -> dict[str, Any]:
    return {"active": probe.unit(UNIT).active, "routes": [facts(probe, name) for name in sorted(routes(probe))]}
