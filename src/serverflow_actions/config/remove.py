"""Take a managed file away."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import File
from ._kinds import KIND, KINDS, UNITS, WRITES, reload_after


@action(
    "config.remove",
    "Remove a managed configuration file; the kernel's values stay until the next start",
    kind="change",
    safe="always",
    writes=WRITES,
    units=UNITS,
    resource="config.{kind}",
    params=[KIND],
)
def remove(params: Params, probe: Probe) -> Steps:
    file = File(KINDS[params.kind].path, absent=True)
    then = reload_after(probe, params.kind, file, None)
    yield file
    if then:
        yield then
