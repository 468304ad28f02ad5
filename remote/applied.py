"""What was last applied here, resource by resource: the other half of compare-and-swap."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any

import layout
import store


def last(resource: str) -> dict[str, Any] | None:
    """Hash, actor, op and time of the last apply of a resource."""
    data = store.read_file(_path(resource))
    return dict(json.loads(data)) if data else None


def everything() -> dict[str, Any]:
    """Every resource that was applied here."""
    names = os.listdir(layout.APPLIED) if os.path.isdir(layout.APPLIED) else []
    entries = [
        json.loads(store.read_file(f"{layout.APPLIED}/{name}") or b"{}") for name in names if name.endswith(".json")
    ]
    return {entry["resource"]: entry for entry in sorted(entries, key=lambda entry: str(entry["resource"]))}


def record(resource: str, entry: dict[str, Any] | None) -> None:
    """Remember what was applied; None when the resource was removed."""
    os.makedirs(layout.APPLIED, mode=0o700, exist_ok=True)
    if entry is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(resource))
        return
    store.write_file(_path(resource), store.encode(entry))


def _path(resource: str) -> str:
    """The name of a resource comes from outside; its hash is a safe file name."""
    return f"{layout.APPLIED}/{hashlib.sha256(resource.encode()).hexdigest()}.json"
