"""Make this server a name server with PowerDNS, or bring that up to date."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.powerdns import API_CONFIG, CONFIG, DATA_FOLDER, DATABASE, FOLDER, UNIT, api_key_in
from ..kit.steps import File, Package, Service
from ._config import ROLES, addresses, refuse_old, render, render_api
from ._database import Database
from ._others import refuse_others

_PACKAGES = ("pdns-server", "pdns-backend-sqlite3")
_DROP_IN_FOLDER = f"/etc/systemd/system/{UNIT}.d"
_DROP_IN = f"{_DROP_IN_FOLDER}/serverflow.conf"
#: A zone is asked for when its refresh is due; after a stop that may be an hour too late.
_ASK_AGAIN = "update domains set last_check = 0 where length(master) > 0"
_DROP_IN_TEXT = f"""\
# Written by ServerFlow (dns.server): changes by hand are undone.
[Unit]
# The package starts it before it has anything to serve.
ConditionPathExists={CONFIG}

[Service]
# What changed while it was down is fetched at once.
ExecStartPre=-/usr/bin/python3 -IS -c 'import sqlite3; \
    database = sqlite3.connect("file:{DATABASE}?mode=rw", uri=True); \
    database.execute("{_ASK_AGAIN}"); database.commit()'
"""


@action(
    "dns.server",
    "Serve DNS zones with PowerDNS, as primary or secondary name server",
    kind="change",
    timeout=900,
    writes=(FOLDER, DATA_FOLDER, _DROP_IN_FOLDER),
    units=(UNIT,),
    packages=_PACKAGES,
    resource="dns.server",
    params=[
        param("role", "text", "Where its zones come from: here, another server, or either", choices=ROLES),
        param(
            "listen",
            "address",
            "Address to answer at; of each family the public ones when left out, without any all others",
            default=(),
            many=True,
        ),
    ],
)
def server(params: Params, probe: Probe) -> Steps:
    refuse_others(probe)
    refuse_old(probe.package("pdns-server") or probe.candidate("pdns-server"))
    listen = addresses(probe, params.listen)
    key = api_key_in((probe.read(API_CONFIG, follow=False) or b"").decode("utf-8", "replace"))

    drop_in = File(_DROP_IN, _DROP_IN_TEXT)
    yield drop_in
    yield Package(_PACKAGES)
    api = File(API_CONFIG, render_api(key or probe.generate("api-key", 32)), 0o640, "root", "pdns", secret=True)
    yield api
    # Before the configuration, without which PowerDNS does not start.
    yield Database()
    config = File(CONFIG, render(params.role, listen))
    yield config
    yield Service(UNIT, config=(drop_in, api, config))
    return {"unit": UNIT, "role": params.role, "listen": listen, "version": probe.package("pdns-server")}
