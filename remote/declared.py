"""The folders that an action may write: what its signed manifest declares, and the data of the app it acts for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import layout
import sandbox
import store


def folders(manifest: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """As the parameters have it; not all of them need be there."""
    return sandbox.expand(manifest["writes"], dict(params)) + _of_app(manifest, params)


def _of_app(manifest: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """The app's data folders, as its record has them. Its user can write no others."""
    if manifest["run_as"] != "app":
        return []
    record = store.read_file(f"{layout.APPS}/{params.get('app') or params.get('name')}.json")
    return [str(folder) for folder in json.loads(record)["data"]] if record else []


def covers(folders: Iterable[str], path: str) -> bool:
    """Whether the path is one of the folders, or below one."""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)
