"""Name the machine."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.steps import Hostname


@action(
    "system.hostname",
    "Set the host name",
    kind="change",
    profile="svc",
    host_verbs=("hostname",),
    params=[param("name", "hostname", "The new host name, short or fully qualified", positional=True)],
)
def hostname(params: Params, _: Probe) -> Steps:
    if len(params.name) > 64:
        raise Refused("Linux keeps at most 64 characters of a host name")  # gethostname(2), HOST_NAME_MAX
    yield Hostname(params.name)
