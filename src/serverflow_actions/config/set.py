"""Write a managed file."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ._kinds import KIND, KINDS, UNITS, WRITES, check, reload_after


@action(
    "config.set",
    "Write a configuration file of a known kind",
    kind="change",
    safe="always",
    writes=WRITES,
    units=UNITS,
    host_verbs=("{kind=sysctl}sysctl",),
    resource="config.{kind}",
    params=[KIND, param("content", "document", "The file's whole content")],
)
def set_file(params: Params, probe: Probe) -> Steps:
    check(params.kind, params.content)
    file = KINDS[params.kind].file(params.content)
    then = reload_after(probe, params.kind, file, params.content)
    yield file
    if then:
        yield then
