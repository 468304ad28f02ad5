"""What `list` and `show` say of a route."""

from __future__ import annotations

from typing import Any

from ..kit import Probe
from ._files import conf, settings_in, text_of


def facts(probe: Probe, name: str) -> dict[str, Any]:
    """`changed_by_hand` is whether the file is other than what ServerFlow last wrote."""
    path = conf(name)
    state, ours = probe.stat(path), probe.written(path)
    digest = probe.digest(path) if state and state.kind == "file" else ""
    settings = settings_in(text_of(probe, path))
    return {"name": name, "file": path, "changed_by_hand": ours is not None and digest != ours, **settings}
