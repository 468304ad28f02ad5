"""List a folder of an app."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Refused, action, param
from ..kit.apps import existing_app
from ._shared import APP, place

_LIMIT = 1000


@action(
    "file.list",
    "List a folder in an app's data, at most 1000 entries",
    kind="read",
    run_as="app",
    params=[
        APP,
        param("path", "relpath", "Folder; the app's first data folder when left out", default="", positional=True),
    ],
)
def list_files(params: Params, probe: Probe) -> dict[str, Any]:
    path = place(probe, existing_app(probe, params.app), params.path)
    state = probe.stat(path)
    if not state or state.kind != "directory":
        raise Refused(f"{path} is a {state.kind}, not a folder" if state else f"there is no {path}")
    names = probe.names(path)
    rows = []
    for name in names[:_LIMIT]:
        entry = probe.stat(f"{path}/{name}")
        if entry:
            facts = {"size": entry.size, "mode": f"{entry.mode:04o}", "owner": entry.owner, "mtime": int(entry.mtime)}
            rows.append({"name": name, "kind": entry.kind, **facts})
    return {"path": path, "entries": rows, "more": max(0, len(names) - _LIMIT)}
