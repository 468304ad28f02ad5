"""One route."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Refused, action
from ._facts import facts
from ._files import NAME, conf, log, text_of
from ._nginx import UNIT


@action("route.show", "Show a route, with nginx's words for it", kind="read", params=[NAME])
def show(params: Params, probe: Probe) -> dict[str, Any]:
    if not probe.stat(conf(params.name)):
        raise Refused(f"there is no route {params.name} on this server")
    found = facts(probe, params.name)
    text = text_of(probe, conf(params.name))
    return {**found, "log": log(params.name), "active": probe.unit(UNIT).active, "text": text}
