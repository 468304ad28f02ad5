"""Take a Redis instance away."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import Directory, File, Service
from ._shared import CONFIG_FOLDER, DATA_FOLDER, NAME, Instance


@action(
    "redis.remove",
    "Remove a Redis instance; its data stays unless it is purged",
    kind="change",
    timeout=300,
    writes=(CONFIG_FOLDER, DATA_FOLDER),
    units=("redis-server@{name}.service",),
    destructive=True,
    table="redis",
    params=[NAME, param("purge-data", "boolean", "Delete its data too", default=False)],
)
def remove(params: Params, probe: Probe) -> Steps:
    instance = Instance(params.name)
    instance.settings(probe)  # refuses an instance of someone else's
    yield Service(instance.unit, running=False, enabled=False)
    yield File(instance.config, absent=True, secret=True)
    if params.purge_data:
        yield Directory(instance.data, absent=True, purge=True)
