"""Make an app's user, folders and record, or bring them up to date."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.apps import FOLDER, AppRecord, app_record, app_records
from ..kit.steps import Directory, File, User
from ._shared import NAME, NOLOGIN, check_data, check_user, mark, parents


@action(
    "app.create",
    "Create an app: its user, its data folders and its record",
    kind="change",
    profile="account",
    writes=(FOLDER, "/srv", "/home"),
    accounts=True,
    table="apps",
    params=[
        NAME,
        param("user", "username", "User that it runs as; the app's name when left out", default="", complete="user"),
        param(
            "data", "path", "Folder of its own below /srv or its home; /srv/NAME when left out", default=(), many=True
        ),
        param("port", "port", "Port that it listens on", default=0, minimum=1024),
    ],
)
def create(params: Params, probe: Probe) -> Steps:
    name, user = params.name, params.user or params.name
    data = tuple(dict.fromkeys(params.data)) or (f"/srv/{name}",)
    old = app_record(probe, name)
    check_user(probe, name, user)
    check_data(probe, name, user, data, old)
    _check_others(probe, name, user, params.port)

    found = probe.user(user)
    if not found:
        yield User(user, home=f"/home/{user}", shell=NOLOGIN, comment=mark(name), system=True)
    group = found.group if found else user
    for folder in data:
        for above in parents(folder):
            if not probe.stat(above):
                owner = (user, group) if above.startswith("/home/") else ("root", "root")
                yield Directory(above, 0o755, *owner)
        yield Directory(folder, 0o750, user, group)
    # Last: the record is what lets others act for the app.
    yield File(f"{FOLDER}/{name}.json", AppRecord(name, user, data, old.units if old else (), params.port).as_json())


def _check_others(probe: Probe, name: str, user: str, port: int) -> None:
    for other in app_records(probe):
        if other.name == name:
            continue
        if port and other.port == port:
            raise Refused(f"port {port} belongs to the app {other.name}")
        if other.user == user:
            raise Refused(f"the app {other.name} runs as {user}: each app needs a user of its own")
