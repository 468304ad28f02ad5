"""The apps of a server."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ..kit.apps import app_records


@action("app.list", "List apps", kind="read")
def list_apps(_: Params, probe: Probe) -> dict[str, Any]:
    return {
        "apps": [
            {"name": app.name, "user": app.user, "port": app.port, "data": list(app.data)} for app in app_records(probe)
        ]
    }
