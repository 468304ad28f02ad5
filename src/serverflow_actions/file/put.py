"""Put a file into an app's data."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.apps import existing_app
from ..kit.steps import Directory, File
from ._shared import APP, place


@action(
    "file.put",
    "Put a file into an app's data",
    kind="change",
    profile="app",
    timeout=120,
    run_as="app",
    blobs=64 << 20,
    params=[
        APP,
        param("path", "relpath", "Where, inside the app's data; relative to its first folder", positional=True),
        param("sha256", "sha256", "SHA-256 of the content, which comes as a blob"),
        param("mode", "mode", "File mode", default="0640"),
    ],
)
def put(params: Params, probe: Probe) -> Steps:
    record = existing_app(probe, params.app)
    path = place(probe, record, params.path)
    if path in record.data:
        raise Refused(f"{path} is a data folder of the app {record.name}, not a file")
    user = probe.user(record.user)
    if not user:
        raise Refused(f"the user {record.user} of the app {record.name} is gone: app.create makes it anew")
    folder = next(folder for folder in record.data if path.startswith(f"{folder}/"))
    if not probe.stat(folder):
        raise Refused(f"{folder} is gone: app.create makes it anew")
    parts = path[len(folder) + 1 :].split("/")[:-1]
    for end in range(1, len(parts) + 1):
        above = f"{folder}/{'/'.join(parts[:end])}"
        if not probe.stat(above):
            yield Directory(above, 0o750, record.user, user.group)
    # The text stays out of plans and receipts: it may be an .env file.
    yield File(path, blob=params.sha256, mode=int(params.mode, 8), owner=record.user, group=user.group)
