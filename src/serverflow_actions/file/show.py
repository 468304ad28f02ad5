"""Show a file of an app."""

from __future__ import annotations

import base64
from typing import Any

from ..kit import Params, Probe, Refused, action, param
from ..kit.apps import existing_app
from ._shared import APP, place

_LIMIT = 256 * 1024


@action(
    "file.show",
    "Show a file of an app, at most 256 KiB",
    kind="read",
    run_as="app",
    params=[APP, param("path", "relpath", "Path inside the app's data; relative to its first folder", positional=True)],
)
def show(params: Params, probe: Probe) -> dict[str, Any]:
    path = place(probe, existing_app(probe, params.app), params.path)
    state = probe.stat(path)
    if not state or state.kind != "file":
        raise Refused(f"{path} is a {state.kind}, not a file" if state else f"there is no {path}")
    if state.size > _LIMIT:
        raise Refused(f"{path} has {state.size} bytes; at most {_LIMIT} are shown")
    content = (probe.read(path, follow=False) or b"")[:_LIMIT]
    facts = {
        "path": path,
        "size": len(content),
        "mode": f"{state.mode:04o}",
        "owner": state.owner,
        "mtime": int(state.mtime),
    }
    try:
        return {**facts, "text": content.decode()}
    except UnicodeDecodeError:
        return {**facts, "base64": base64.b64encode(content).decode()}
