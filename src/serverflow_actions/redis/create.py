"""Make a Redis instance, or bring it up to date."""

from __future__ import annotations

import re
from typing import Any

from ..kit import Params, Probe, Refused, Secret, Steps, action, param
from ..kit.steps import Directory, File, Package, Service
from ._shared import CONFIG_FOLDER, DATA_FOLDER, NAME, Instance, port_owner

#: Installing the package would start the distribution's instance, without a password, on port 6379. A condition that
#: is in place beforehand leaves no moment for it, survives upgrades of the package, and is undone by removing a file.
#: The executor makes the folder, as it does for each drop-in folder that an action declares.
_DORMANT_FOLDER = "/etc/systemd/system/redis-server.service.d"
_DORMANT = f"{_DORMANT_FOLDER}/serverflow.conf"
_CONDITION = """# ServerFlow's instances are redis-server@NAME.
# Remove this file, and start redis-server.service, to run the distribution's own instance beside them.
[Unit]
ConditionPathExists=/etc/redis/distribution-instance-wanted
"""


@action(
    "redis.create",
    "Create a Redis instance with a password of its own",
    kind="change",
    timeout=900,
    writes=(CONFIG_FOLDER, DATA_FOLDER, _DORMANT_FOLDER),
    units=("redis-server@{name}.service",),
    packages=("redis-server",),
    reveals=("password", "url"),
    table="redis",
    params=[
        NAME,
        param("port", "port", "Port to listen on", default=6379, minimum=1024),
        param("listen", "address", "Private address to listen on besides 127.0.0.1", default=(), many=True),
        param("max-memory", "size", "Memory for data; 256MiB when left out", default=256 << 20, minimum=1 << 20),
        param(
            "maxmemory-policy",
            "text",
            "What happens when that memory is full",
            default="noeviction",
            choices=(
                "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu",
                "volatile-random", "volatile-ttl",
            ),
        ),
        param(
            "persistence",
            "text",
            "Snapshots, an append-only file, or nothing",
            default="rdb",
            choices=("rdb", "aof", "none"),
        ),
        param("new-password", "boolean", "Replace the password; clients need the new one", default=False),
    ],
)  # fmt: skip
def create(params: Params, probe: Probe) -> Steps:
    instance = Instance(params.name)
    settings = instance.settings(probe)
    _check_network(params, probe, instance)
    _check_persistence(params.persistence, probe, instance, settings)
    kept = settings.get("requirepass", "")
    fresh = params.new_password or not re.match(r"[A-Za-z0-9_-]{20,}\Z", kept)
    password = probe.generate("password") if fresh else kept
    # Once more while the instance is not up: the run that made the password may have failed before it showed it.
    show = fresh or probe.unit(instance.unit).active != "active"

    if not probe.package("redis-server") or probe.stat(_DORMANT):
        yield File(_DORMANT, _CONDITION)
    yield Package(("redis-server",))
    yield Directory(instance.data, 0o750, "redis", "redis")
    policy, persistence = params.maxmemory_policy, params.persistence
    content = instance.render(params.port, params.listen, params.max_memory, policy, persistence, password)
    config = File(instance.config, content, 0o640, "root", "redis", secret=True)
    yield config
    yield Service(instance.unit, config=(config,))
    return _result(params, instance, password if show else "")


def _check_network(params: Params, probe: Probe, instance: Instance) -> None:
    from ipaddress import ip_address

    for text in params.listen:
        address = ip_address(text)
        if address.is_unspecified or address.is_global or address.is_multicast:
            raise Refused(
                f"{text} is not a private address: Redis speaks without encryption and is kept off the internet"
            )
    other = port_owner(probe, params.port, instance)
    if other:
        raise Refused(
            f"port {params.port} belongs to {other}: choose another port, or stop and disable that unit first"
        )


def _check_persistence(wanted: str, probe: Probe, instance: Instance, settings: dict[str, str]) -> None:
    """Redis reads either the append-only file or the snapshot at its start: after a switch it would begin empty."""
    stored = probe.names(instance.data)
    log = any(name.startswith("appendonly") for name in stored)
    snapshot = "dump.rdb" in stored or settings.get("appendonly") == "no"
    if (log and wanted != "aof") or (snapshot and not log and wanted == "aof"):
        raise Refused(
            f"{instance.name} does not store its data as {wanted}, and a switch would lose it: make a new instance"
        )


def _result(params: Params, instance: Instance, password: str) -> dict[str, Any]:
    host = next(iter(params.listen), "127.0.0.1")
    data = {"unit": instance.unit, "host": host, "port": params.port}
    if not password:
        return data
    shown = f"[{host}]" if ":" in host else host
    return {**data, "password": Secret(password), "url": Secret(f"redis://:{password}@{shown}:{params.port}/0")}
