"""What the verbs of this area share: the app, and paths that stay inside its data."""

from __future__ import annotations

from ..kit import Probe, Refused
from ..kit.apps import AppRecord
from ..kit.spec import Param, param

APP: Param = param("app", "name", "App whose files these are", positional=True, complete="app")


def place(probe: Probe, record: AppRecord, path: str) -> str:
    """The absolute path: a relative one counts from the app's first data folder.

    Raises Refused for a path outside of the app's data, and for a link on the way: the app could point it anywhere.
    """
    if not record.data:
        raise Refused(f"the app {record.name} has no data folder")
    absolute = path if path.startswith("/") else f"{record.data[0]}/{path}" if path else record.data[0]
    if not any(absolute == folder or absolute.startswith(f"{folder}/") for folder in record.data):
        raise Refused(f"{absolute} is not in the data of the app {record.name} ({', '.join(record.data)})")
    parts = absolute.split("/")
    for end in range(2, len(parts)):
        above = "/".join(parts[:end])
        state = probe.stat(above)
        if state and state.kind != "directory":
            raise Refused(f"{above} is a {state.kind}, not a folder")
    return absolute
