"""One Redis instance, without its password."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Refused, action
from ._shared import CONFIG_FOLDER, NAME, Instance


@action("redis.show", "Show a Redis instance", kind="read", reads=(CONFIG_FOLDER,), params=[NAME])
def show(params: Params, probe: Probe) -> dict[str, Any]:
    instance = Instance(params.name)
    settings = instance.settings(probe)
    if not settings:
        raise Refused(f"there is no Redis instance {params.name}")
    unit = probe.unit(instance.unit)
    listen, port = settings.get("bind", "").split(), int(settings.get("port", "0"))
    host = next((address for address in listen if address != "127.0.0.1"), "127.0.0.1")
    return {
        "name": params.name,
        "unit": instance.unit,
        "active": unit.active,
        "enabled": unit.enabled,
        "memory": unit.memory,
        "listen": listen,
        "port": port,
        # Without the password, which create showed once.
        "url": f"redis://{f'[{host}]' if ':' in host else host}:{port}/0",
        "max_memory": int(settings.get("maxmemory", "0")),
        "maxmemory_policy": settings.get("maxmemory-policy", ""),
        "persistence": "aof" if settings.get("appendonly") == "yes" else "rdb" if settings.get("save") else "none",
    }
