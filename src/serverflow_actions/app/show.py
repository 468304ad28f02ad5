"""One app."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ..kit.apps import existing_app
from ._shared import NAME


@action("app.show", "Show an app", kind="read", reads=("/srv", "/home"), params=[NAME])
def show(params: Params, probe: Probe) -> dict[str, Any]:
    record = existing_app(probe, params.name)
    return {
        "name": record.name,
        "user": record.user,
        "port": record.port,
        "data": list(record.data),
        "units": list(record.units),
        "missing": [folder for folder in record.data if not probe.stat(folder)],
    }
